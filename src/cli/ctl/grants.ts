/** `keys`, `rules`: what programs may ask, and what clients may do. */
import { readFileSync } from "node:fs";
import type { ResultOf } from "#broker/control.ts";
import { type CtlCommand, OK, record, Refusal } from "./ctl.ts";

interface Key {
  readonly id: string;
  readonly name: string;
  readonly role: string;
  readonly expiresAtSec?: number;
}

export const keys: CtlCommand = {
  name: "keys",
  usage: [
    ["list", "List API keys, without their secrets"],
    ["add <Name> [Role]", "Make an API key, which is shown this once; --for 30d: for so long"],
    ["del <Id>", "Delete an API key"],
  ],
  async run({ rest, forSec }, [verb, name, role = "viewer", ...more]) {
    if (more.length > 0) return undefined;
    if (verb === "list" && name === undefined) {
      const { items } = (await rest("GET", "/keys")) as { items: Key[] };
      const lines = items.map((key) =>
        record("Key", key.id, { name: key.name, role: key.role, until: key.expiresAtSec ?? "infinity" }),
      );
      return { json: items, lines };
    }
    if (name === undefined) return undefined;
    if (verb === "add") {
      const until = forSec === undefined ? {} : { expiresAtSec: Math.floor(Date.now() / 1000) + forSec };
      const made = (await rest("POST", "/keys", { name, role, ...until })) as { key: string };
      return { json: made, lines: [made.key] };
    }
    if (verb !== "del") return undefined;
    await rest("DELETE", `/keys/${encodeURIComponent(name)}`);
    return OK;
  },
};

type Rules = ResultOf<"rules.read">["rules"];

export const rules: CtlCommand = {
  name: "rules",
  usage: [
    ["list", "List access rules of the built-in table, in the order in which they are asked"],
    ["put <File>", "Replace them by those of a file, YAML or JSON, as acl-file has them"],
  ],
  async run({ control }, [verb, file, ...more]) {
    if (more.length > 0) return undefined;
    if (verb === "list" && file === undefined) {
      const found = await control("rules.read", {});
      return { json: found.rules, lines: found.rules.map((rule) => JSON.stringify(rule)) };
    }
    if (verb !== "put" || file === undefined) return undefined;
    await control("rules.put", { rules: readRules(file) });
    return OK;
  },
};

function readRules(file: string): Rules {
  let read: unknown;
  try {
    read = Bun.YAML.parse(readFileSync(file, "utf8")) ?? [];
  } catch (error) {
    const line = `Error: ${file}: ${(error as Error).message}`;
    throw new Refusal({ json: { error: line }, lines: [line] });
  }
  return read as Rules; // the broker says what is no rule
}
