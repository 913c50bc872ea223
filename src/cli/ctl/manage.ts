/** `users`, `admins`, `bans`, `plugins`, `reload`. */
import { MantouError } from "#base/error.ts";
import { type CtlCommand, listAll, notFound, OK, record, Refusal } from "./ctl.ts";

export const users: CtlCommand = {
  name: "users",
  usage: [
    ["list", "List users of the built-in table"],
    ["add <Username> [Password]", "Add a user"],
    ["passwd <Username> [Password]", "Give a user another password"],
    ["del <Username>", "Delete a user"],
  ],
  async run({ control, password }, [verb, username, given, ...more]) {
    if (more.length > 0) return undefined;
    if (verb === "list" && username === undefined) {
      const found = await listAll("users", 0, (page) => control("users.list", page));
      return { json: found, lines: found.map((user) => `${user.username}${user.isSuperuser ? " (superuser)" : ""}`) };
    }
    if (username === undefined) return undefined;
    if (verb === "add" || verb === "passwd") {
      const old = await control("users.show", { username }).catch(undefinedIfNone);
      if (verb === "add" && old)
        throw refused(`Error: ${username} is there already; users passwd changes the password`);
      if (verb === "passwd" && !old) throw notFound();
      const secret = given ?? (await password(username));
      await control("users.put", { username, password: secret, isSuperuser: old?.isSuperuser ?? false });
      return OK;
    }
    if (verb !== "del" || given !== undefined) return undefined;
    await control("users.delete", { username });
    return OK;
  },
};

function undefinedIfNone(error: unknown): undefined {
  if (error instanceof MantouError && error.code === "not_found") return;
  throw error;
}

export const admins: CtlCommand = {
  name: "admins",
  usage: [
    ["list", "List accounts of the dashboard and REST"],
    ["add <Username> <Password> [Role]", "Add an account: administrator, operator or viewer"],
    ["passwd <Username> <Password>", "Give an account another password"],
    ["del <Username>", "Delete an account"],
  ],
  async run({ rest, password }, [verb, username, given, role, ...more]) {
    if (more.length > 0) return undefined;
    const listed = async (): Promise<Account[]> => ((await rest("GET", "/admins")) as { items: Account[] }).items;
    if (verb === "list" && username === undefined) {
      const found = await listed();
      return { json: found, lines: found.map((account) => `${account.username} ${account.role}`) };
    }
    if (username === undefined) return undefined;
    const path = `/admins/${encodeURIComponent(username)}`;
    if (verb === "add" || (verb === "passwd" && role === undefined)) {
      const isThere = (await listed()).some((account) => account.username === username);
      if (verb === "add" && isThere)
        throw refused(`Error: ${username} is there already; admins passwd changes the password`);
      if (verb === "passwd" && !isThere) throw notFound();
      const secret = given ?? (await password(username));
      await rest("PUT", path, { password: secret, ...(verb === "add" && { role: role ?? "administrator" }) });
      return OK;
    }
    if (verb !== "del" || given !== undefined) return undefined;
    await rest("DELETE", path);
    return OK;
  },
};

interface Account {
  readonly username: string;
  readonly role: string;
}

function refused(line: string): Refusal {
  return new Refusal({ json: { error: line }, lines: [line] });
}

const BAN_KINDS = { client: "clientId", user: "username", address: "address" } as const;

export const bans: CtlCommand = {
  name: "bans",
  usage: [
    ["list", "List who is kept out"],
    ["add client|user|address <Value> [Reason]", "Keep out and kick; --for 1h: for so long"],
    ["del client|user|address <Value>", "Lift a ban"],
  ],
  async run({ control, forSec }, [verb, kindText, value, reason = "", ...more]) {
    if (verb === "list" && kindText === undefined) {
      const found = await listAll("bans", 0, (page) => control("bans.list", page));
      const lines = found.map((ban) =>
        record("Ban", ban.value, { kind: ban.kind, until: ban.untilSec ?? "infinity", reason: ban.reason }),
      );
      return { json: found, lines };
    }
    const kind = Object.hasOwn(BAN_KINDS, kindText ?? "") ? BAN_KINDS[kindText as keyof typeof BAN_KINDS] : undefined;
    if (kind === undefined || value === undefined || more.length > 0) return undefined;
    if (verb === "add") {
      const until = forSec === undefined ? {} : { untilSec: Math.floor(Date.now() / 1000) + forSec };
      await control("bans.put", { kind, value, reason, ...until });
      return OK;
    }
    if (verb !== "del") return undefined;
    await control("bans.delete", { kind, value });
    return OK;
  },
};

export const plugins: CtlCommand = {
  name: "plugins",
  usage: [
    ["list", "Show modules and plugins"],
    ["load <Plugin>", "Load plugin"],
    ["unload <Plugin>", "Unload plugin"],
    ["reload <Plugin>", "Load plugin anew, with its code as it is now"],
  ],
  async run({ control }, [verb, name, ...more]) {
    if (more.length > 0) return undefined;
    if (verb === "list" && name === undefined) {
      const found = await control("plugins.list", {});
      const lines = found.flatMap(({ version, description, state, faultCount, lastFault, ...plugin }) => [
        record("Plugin", plugin.name, { version, description, active: state === "running" }),
        ...(faultCount > 0 ? [`  faults: ${faultCount}, the last one: ${lastFault}`] : []),
      ]);
      return { json: found, lines };
    }
    if (name === undefined || (verb !== "load" && verb !== "unload" && verb !== "reload")) return undefined;
    try {
      await control(`plugins.${verb}`, { name });
    } catch (error) {
      if (error instanceof MantouError) throw refused(`${verb} plugin error: ${error.message}`);
      throw error;
    }
    return { json: { ok: true }, lines: [`Plugin ${name} ${verb}ed successfully.`] };
  },
};

export const reload: CtlCommand = {
  name: "reload",
  usage: [["<Plugin>", "Load a plugin anew, with its code as it is now"]],
  run: async (context, words) => (words.length === 1 ? plugins.run(context, ["reload", ...words]) : undefined),
};
