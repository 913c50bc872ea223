/**
 * The configured backends in their order, and from one configuration to the next.
 *
 *   makeLineup ─► start what is new ─► in use … makeLineup(next, before) ─► start what is new ─► in use ─► stop what has gone
 *
 * A backend whose entry says what it said, with the same secrets, keys and certificates, stays: with its connections, what it has
 * kept, and exchanges that are under way.
 */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import type { Backend } from "#access/backend.ts";
import type { Member } from "#access/chain-options.ts";
import { Secret } from "#access/secret.ts";
import { inPart, MantouError } from "#base/error.ts";
import { type AccessConfig, type BackendConfig, SAME } from "./access-schema.ts";

type Role = "authenticate" | "authorize";

export interface NamedBackend extends Member {
  /** As configured, or its type. */
  readonly name: string;
  readonly type: string;
  /** What it was made of; another one's is different. */
  readonly mark: string;
}

export interface Lineup extends Readonly<Record<Role, readonly NamedBackend[]>> {
  /** Each of them once. */
  readonly members: readonly NamedBackend[];
}

export interface LineupParts {
  /** Paths of the configuration are relative to this directory. */
  readonly baseDir: string;
  /** Throws MantouError `access_invalid`. */
  make(entry: BackendConfig, name: string): Backend;
}

/** Throws MantouError when a backend's options make no sense. Nothing is started. */
export function makeLineup(
  config: Pick<AccessConfig, Role>,
  { baseDir, make }: LineupParts,
  before: readonly NamedBackend[] = [],
): Lineup {
  const known = [...before];
  const memberOf = (entry: BackendConfig): NamedBackend => {
    const mark = markOf(entry, baseDir);
    const at = known.findIndex((member) => member.mark === mark);
    if (at >= 0) return known.splice(at, 1)[0];
    const { type, name = type, whenUnavailable } = entry;
    try {
      return { backend: make(entry, name), whenUnavailable, name, type, mark };
    } catch (error) {
      throw inPart(`access: ${name}`, error);
    }
  };
  const authenticate = config.authenticate.map(memberOf);
  const authorize = config.authorize.map((entry) =>
    entry.type === SAME ? sameAs(entry, authenticate) : memberOf(entry),
  );
  return { authenticate, authorize, members: [...new Set([...authenticate, ...authorize])] };
}

/** Starts those that are not in `before`. Rejects with the MantouError of one that can never work; none of them is started then. */
export async function startLineup({ members }: Lineup, before: readonly NamedBackend[] = []): Promise<void> {
  const started: NamedBackend[] = [];
  let current = "";
  try {
    for (const member of members.filter((each) => !before.includes(each))) {
      current = member.name;
      await member.backend.start?.();
      started.push(member);
    }
  } catch (error) {
    await stopAll(started);
    throw inPart(`access: ${current}`, error);
  }
}

export async function stopAll(members: readonly NamedBackend[]): Promise<void> {
  await Promise.all(members.map(({ backend }) => backend.stop?.()));
}

function sameAs(entry: BackendConfig, authenticate: readonly NamedBackend[]): NamedBackend {
  const name = entry["as"] as string;
  const found = authenticate.find((member) => member.name === name);
  if (!found?.backend.authorize) {
    const allowed = authenticate.filter(({ backend }) => backend.authorize).map((member) => member.name);
    const words = `found ${JSON.stringify(name)}, allowed: ${allowed.length === 0 ? "none here" : allowed.join(", ")}`;
    throw new MantouError(
      "access_invalid",
      `access.authorize: as: ${words} (a backend of authenticate that judges topics)`,
    );
  }
  return found;
}

/** Files that are read once, at the start, have names that end in `File`; those that are watched have not. */
function markOf(entry: BackendConfig, baseDir: string): string {
  return JSON.stringify(entry, function (this: Readonly<Record<string, unknown>>, key, shown: unknown) {
    const value = this[key]; // a secret would show nothing of itself
    if (value instanceof Secret) return value.mark();
    return key.endsWith("File") && typeof value === "string" ? [value, stateOf(resolve(baseDir, value))] : shown;
  });
}

function stateOf(path: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(path);
    return `${ino} ${size} ${mtimeMs}`;
  } catch {
    return "";
  }
}
