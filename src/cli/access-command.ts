/**
 * `mantou users | client-ids | bans`: what is kept in `access.db`, managed while a broker runs or before it starts.
 *
 *   --config, --data ─► node.data ─► access.db ◄─ looked at once a second ─ broker: disconnects who has lost a right
 *
 * A password is typed at a terminal that does not show it, or read from standard input; it is never printed. On the command
 * line, where the shell's history and other users see it, it is taken with a warning. What only reads or deletes does not
 * make a file that is not there.
 */
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { AccessDb, Ban, BanKind } from "#access/access-db.ts";
import type { BanList } from "#access/ban-list.ts";
import type { UserTable } from "#access/user-table.ts";
import { MantouError } from "#base/error.ts";
import { type Config, loadConfig } from "#broker/config.ts";
import { parseUnit } from "#base/unit.ts";
import { escapeControl } from "#broker/log-text.ts";
import type { Host } from "./host.ts";
import { type PasswordInput, readPassword } from "./password-input.ts";

interface Context {
  readonly host: Host;
  readonly input: () => PasswordInput;
}

const ALGORITHMS = ["argon2id", "bcrypt"] as const;

/** What commander makes of the options of all commands here. */
interface Flags {
  readonly config?: string;
  readonly data?: string;
  readonly json?: boolean;
  readonly passwordStdin?: boolean;
  readonly askPassword?: boolean;
  readonly algorithm?: (typeof ALGORITHMS)[number];
  readonly superuser?: boolean;
  readonly clientId?: string;
  readonly user?: string;
  readonly address?: string | readonly string[];
  readonly for?: number;
  readonly reason?: string;
}

interface Table {
  readonly db: AccessDb;
  readonly users: UserTable;
  readonly path: string;
  readonly access: Config["access"];
}

const PAGE_COUNT = 1000;
const BAN_SEC_MAX = 36_500 * 86_400;
const KICKED = "\nThe broker ends the connections of those who lose a right, within a second.\n";

/** Adds the commands to `program`. */
export function addAccessCommands(program: Command, host: Host, input: () => PasswordInput): void {
  addUserCommands(program, { host, input });
  addClientIdCommands(program, { host, input });
  addBanCommands(program, host);
}

function withDataFlags(command: Command): Command {
  return command
    .option("--config <file>", "YAML file (default: ./mantou.yaml when it is there)")
    .option("--data <dir>", "directory of what the broker keeps (default: ./data)");
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function withPasswordFlags(command: Command): Command {
  return command
    .option("--password-stdin", "read the password from standard input, without the line end after it")
    .addOption(new Option("--algorithm <name>", "how the password is stored").choices(ALGORITHMS).default("argon2id"));
}

// ---- users

function addUserCommands(program: Command, { host, input }: Context): void {
  const group = program.command("users").description("user names and passwords of the built-in table");
  withDataFlags(withPasswordFlags(group.command("add").description("add a user")))
    .argument("<name>")
    .argument("[password]", "better not given: the shell's history and other users of the machine see it")
    .option("--superuser", "no rule holds for this user")
    .action(async (name: string, given: string | undefined, flags: Flags, command: Command) => {
      if (given !== undefined && flags.passwordStdin)
        command.error("error: the password is given twice: as an argument and with --password-stdin");
      await withTable({ flags, host, mayMake: true }, async ({ db, users, path, access }) => {
        if (db.user(name)) throw alreadyThere("user", name, path, "mantou users password");
        if (given !== undefined)
          host.err("warning: a password on the command line is seen by the shell's history and by other users\n");
        const password = given === undefined ? await passwordOf(flags, command, { host, input }) : Buffer.from(given);
        await users.put(name, password, flags.superuser);
        host.out(`ok: user ${shown(name)} added\n`);
        noteUnasked(access, ["user-table", "scram"], host);
      });
    });
  withDataFlags(withPasswordFlags(group.command("password").description("give a user another password")))
    .argument("<name>")
    .addHelpText("after", KICKED)
    .action((name: string, flags: Flags, command: Command) =>
      withTable({ flags, host }, async ({ db, users, path }) => {
        if (!db.user(name)) throw notThere("user", name, path);
        const password = await passwordOf(flags, command, { host, input });
        // Somebody may have deleted the user, or made him a super user, while the password was typed.
        const user = db.user(name);
        if (!user) throw notThere("user", name, path);
        await users.put(name, password, user.isSuperuser);
        host.out(`ok: user ${shown(name)} has another password\n`);
      }),
    );
  withDataFlags(group.command("superuser").description("say whether a user is one for whom no rule holds"))
    .argument("<name>")
    .addArgument(new Argument("<answer>").choices(["yes", "no"]))
    .addHelpText("after", KICKED)
    .action((name: string, answer: string, flags: Flags) =>
      withTable({ flags, host }, ({ users, path }) => {
        if (!users.setSuperuser(name, answer === "yes")) throw notThere("user", name, path);
        host.out(`ok: user ${shown(name)} ${answer === "yes" ? "is a super user" : "is no super user"}\n`);
      }),
    );
  withDataFlags(group.command("delete").alias("del").description("delete a user"))
    .argument("<name>")
    .addHelpText("after", KICKED)
    .action((name: string, flags: Flags) =>
      withTable({ flags, host }, ({ users, path }) => {
        if (!users.delete(name)) throw notThere("user", name, path);
        host.out(`ok: user ${shown(name)} deleted\n`);
      }),
    );
  withDataFlags(group.command("list").description("show the users, never their passwords"))
    .option("--json", "as JSON")
    .action((flags: Flags) =>
      withTable({ flags, host }, ({ users }) => {
        const all = pagesOf(
          (after) => users.list(after, PAGE_COUNT),
          ({ username }) => username,
        );
        print(host, flags, all, ({ username, isSuperuser }) => [shown(username), isSuperuser ? "super user" : ""]);
      }),
    );
}

// ---- client ids

function addClientIdCommands(program: Command, { host, input }: Context): void {
  const group = program.command("client-ids").description("client ids that may come in, of the built-in table");
  withDataFlags(withPasswordFlags(group.command("add").description("add a client id")))
    .argument("<client-id>")
    .option("--address <range>", "only from this address or range, such as 10.0.0.0/8; repeatable", collect)
    .option("--ask-password", "it needs a password, which is asked for at the terminal")
    .action(async (clientId: string, flags: Flags, command: Command) => {
      await withTable({ flags, host, mayMake: true }, async ({ db, users, path, access }) => {
        if (db.client(clientId)) throw alreadyThere("client id", clientId, path, "mantou client-ids delete");
        const hasPassword = flags.askPassword || flags.passwordStdin;
        const password = hasPassword ? await passwordOf(flags, command, { host, input }) : undefined;
        await users.putClient(clientId, password, [flags.address ?? []].flat());
        host.out(`ok: client id ${shown(clientId)} added\n`);
        noteUnasked(access, ["client-id"], host);
      });
    });
  withDataFlags(group.command("delete").alias("del").description("delete a client id"))
    .argument("<client-id>")
    .addHelpText("after", KICKED)
    .action((clientId: string, flags: Flags) =>
      withTable({ flags, host }, ({ users, path }) => {
        if (!users.deleteClient(clientId)) throw notThere("client id", clientId, path);
        host.out(`ok: client id ${shown(clientId)} deleted\n`);
      }),
    );
  withDataFlags(group.command("list").description("show the client ids, never their passwords"))
    .option("--json", "as JSON")
    .action((flags: Flags) =>
      withTable({ flags, host }, ({ db }) => {
        const rows = pagesOf(
          (after) => db.clients(after, PAGE_COUNT),
          (row) => row.clientId,
        );
        const all = rows.map(({ clientId, hash, ranges }) => ({
          clientId,
          addresses: ranges.split(" ").filter((range) => range !== ""),
          hasPassword: hash !== undefined,
        }));
        print(host, flags, all, ({ clientId, addresses, hasPassword }) => [
          shown(clientId),
          hasPassword ? "with password" : "without password",
          addresses.length > 0 ? `from ${addresses.join(", ")}` : "from anywhere",
        ]);
      }),
    );
}

// ---- bans

const BAN_KINDS: Readonly<Record<BanKind, string>> = { clientId: "client id", username: "user", address: "address" };

function addBanCommands(program: Command, host: Host): void {
  const group = program.command("bans").description("who may not come in whatever else says so");
  const withTarget = (command: Command): Command =>
    withDataFlags(command)
      .option("--client-id <id>", "this client id")
      .option("--user <name>", "this user name")
      .option("--address <range>", "this address or range, such as 192.0.2.7 or 2001:db8::/32");
  withTarget(group.command("add").description("ban, or change a ban"))
    .option("--for <time>", "how long, such as 90s, 30m, 12h or 7d (default: for good)", parseBanTime)
    .option("--reason <text>", "for those who read the list", "")
    .addHelpText("after", "\nThe broker ends the connections of those it concerns, within a second.\n")
    .action((flags: Flags, command: Command) => {
      const { kind, value } = targetOf(flags, command);
      const untilSec = flags.for === undefined ? undefined : nowSec() + flags.for;
      const add = (bans: BanList): void => {
        bans.add({ kind, value, untilSec, reason: flags.reason ?? "" });
        host.out(`ok: ${BAN_KINDS[kind]} ${shown(value)} banned ${endOf({ untilSec })}\n`);
      };
      return withBans(flags, host, add, true);
    });
  withTarget(group.command("delete").alias("del").description("end a ban")).action((flags: Flags, command: Command) => {
    const { kind, value } = targetOf(flags, command);
    return withBans(flags, host, (bans, path) => {
      if (!bans.remove(kind, value)) throw notThere(`ban of ${BAN_KINDS[kind]}`, value, path);
      host.out(`ok: ${BAN_KINDS[kind]} ${shown(value)} no longer banned\n`);
    });
  });
  withDataFlags(group.command("list").description("show the bans that hold"))
    .option("--json", "as JSON")
    .action((flags: Flags) =>
      withBans(flags, host, (bans) => {
        const all = bans.all().map((ban) => ({ ...ban, untilSec: ban.untilSec ?? null }));
        print(host, flags, all, (ban) => [
          BAN_KINDS[ban.kind],
          shown(ban.value),
          endOf({ untilSec: ban.untilSec ?? undefined }),
          escapeControl(ban.reason),
        ]);
      }),
    );
}

function targetOf({ clientId, user, address }: Flags, command: Command): Pick<Ban, "kind" | "value"> {
  const given = Object.entries({ clientId, username: user, address }).filter(([, value]) => value !== undefined);
  if (given.length !== 1 || given[0]![1] === "")
    command.error(`error: found ${given.length} of --client-id, --user and --address, allowed: one, with a value`);
  const [kind, value] = given[0] as [BanKind, string];
  return { kind, value };
}

/** Seconds. */
function parseBanTime(text: string): number {
  const sec = Math.ceil(parseUnit(text, "seconds") ?? 0);
  if (sec >= 1 && sec <= BAN_SEC_MAX) return sec;
  throw new InvalidArgumentError("Allowed: a number with s, m, h or d, from 1s to 36500d.");
}

function endOf({ untilSec }: Pick<Ban, "untilSec">): string {
  return untilSec === undefined ? "for good" : `until ${new Date(untilSec * 1000).toISOString().replace(".000", "")}`;
}

function nowSec(): number {
  return Math.floor(Date.now() / 1000);
}

async function withBans(flags: Flags, host: Host, use: (bans: BanList, path: string) => void, mayMake = false) {
  const { BanList } = await import("#access/ban-list.ts");
  await withTable({ flags, host, mayMake }, ({ db, path }) => use(new BanList(db, nowSec()), path));
}

// ---- the table

interface TableRequest {
  readonly flags: Flags;
  readonly host: Host;
  /** Else a table that is not there is taken as an empty one. */
  readonly mayMake?: boolean;
}

async function withTable(
  { flags, host, mayMake = false }: TableRequest,
  use: (table: Table) => Promise<void> | void,
): Promise<void> {
  const { config } = loadConfig({ ...host.config, flags });
  const path = join(resolve(host.config.cwd ?? ".", config.node.data), "access.db");
  const { AccessDb } = await import("#access/access-db.ts");
  const { UserTable } = await import("#access/user-table.ts");
  const { PasswordChecker } = await import("#access/password.ts");
  class BcryptChecker extends PasswordChecker {
    override hash(password: Buffer, done: (text: string | undefined) => void): void {
      Bun.password.hash(password, "bcrypt").then(done, () => done(undefined));
    }
  }
  const db = new AccessDb(mayMake || existsSync(path) ? path : ":memory:");
  try {
    const passwords = flags.algorithm === "bcrypt" ? new BcryptChecker() : new PasswordChecker();
    await use({ db, users: new UserTable(() => db, passwords), path, access: config.access });
  } finally {
    db.close();
  }
}

/** All rows, page by page. */
function pagesOf<T>(page: (after: string) => readonly T[], nameOf: (row: T) => string): T[] {
  const all: T[] = [];
  for (let rows = page(""); rows.length > 0; rows = page(nameOf(rows.at(-1)!))) all.push(...rows);
  return all;
}

/** JSON, or one line each with its words in columns. */
function print<T>(host: Host, flags: Flags, rows: readonly T[], wordsOf: (row: T) => readonly string[]): void {
  if (flags.json) return host.out(`${JSON.stringify(rows, null, 2)}\n`);
  const lines = rows.map(wordsOf);
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((words) => words[column]!.length)));
  for (const words of lines)
    host.out(
      `${words
        .map((word, column) => word.padEnd(widths[column]!))
        .join("  ")
        .trimEnd()}\n`,
    );
}

const READS_PLAINLY = /^[^\s"\\\p{C}]+$/u;

/** A name as it is, or between quotation marks when it could be taken for something else. */
function shown(name: string): string {
  return READS_PLAINLY.test(name) ? name : quoted(name);
}

function quoted(name: string): string {
  return escapeControl(JSON.stringify(name));
}

function alreadyThere(what: string, name: string, path: string, command: string): MantouError {
  return new MantouError("already_there", `${what} ${quoted(name)} is in ${path} already; see ${command}`);
}

function notThere(what: string, name: string, path: string): MantouError {
  return new MantouError("not_there", `no ${what} ${quoted(name)} in ${path}`);
}

/** Says so when the broker would not ask what was added to. */
function noteUnasked({ authenticate }: Config["access"], types: readonly string[], host: Host): void {
  if (authenticate.some((backend) => types.includes(backend.type) && backend["file"] === undefined)) return;
  const words = `access.authenticate has no ${types.join(" or ")} in the configuration that was read here`;
  host.err(`note: ${words}: a broker that runs with it does not look at this table\n`);
}

/** Typed, or from standard input where the command line says so. */
function passwordOf({ passwordStdin }: Flags, command: Command, { host, input }: Context): Promise<Buffer> {
  const source = input();
  if (!source.isTTY && !passwordStdin)
    command.error("error: no terminal to ask for the password at; --password-stdin reads it from standard input");
  return readPassword(source, (text) => host.err(text));
}
