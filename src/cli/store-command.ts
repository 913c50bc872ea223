/** `mantou store check | compact | backup | restore | spread`, on the data directory of the configuration. */
import { resolve } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { WORKERS_MAX } from "#broker/config-schema.ts";
import { loadConfig, type ConfigFlags } from "#broker/config.ts";
import type { StoreReport } from "#store/check-sqlite.ts";
import type { Host } from "./host.ts";

interface StoreFlags {
  readonly config?: string;
  readonly data?: string;
}

const MIB = 1024 * 1024;

/** Adds the commands to `program`; `done` gets the exit code. */
export function addStoreCommands(program: Command, host: Host, done: (code: number) => void): void {
  const store = program.command("store").description("look after the directory of what the broker keeps");
  withDataFlags(store.command("check").description("read the whole store and say what is in it and what is wrong"))
    .addHelpText("after", "\nA broker may run meanwhile.\n")
    .action(async (flags: StoreFlags) => done(await check(flags, host)));
  withDataFlags(store.command("compact").description("write the store anew, as small as it can be"))
    .addHelpText("after", "\nThe broker must be stopped.\n")
    .action(async (flags: StoreFlags) => done(await compact(flags, host)));
  withDataFlags(store.command("backup").description("copy the store, as of one moment, to a new file"))
    .argument("<file>", "the file to make; with workers a directory")
    .addHelpText("after", "\nA broker may run meanwhile.\n")
    .action(async (file: string, flags: StoreFlags) => done(await backup(file, flags, host)));
  withDataFlags(store.command("restore").description("put a backup in the place of the store, which is set aside"))
    .argument("<file>", "the backup")
    .addHelpText("after", "\nThe broker must be stopped.\n")
    .action(async (file: string, flags: StoreFlags) => done(await restore(file, flags, host)));
  withDataFlags(store.command("spread").description("give what the broker keeps to another number of worker processes"))
    .requiredOption("--workers <count>", "how many there are to be, 1 for a broker of one process", workersIn)
    .addHelpText("after", "\nThe broker must be stopped. What was there before is set aside.\n")
    .action(async (flags: StoreFlags & { workers: number }) => done(await spread(flags.workers, flags, host)));
}

/** Its own option, not the configuration's: what is there now may be of another number. */
function workersIn(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= WORKERS_MAX) return count;
  throw new InvalidArgumentError(`found ${text}, allowed: 1 to ${WORKERS_MAX}`);
}

function withDataFlags(command: Command): Command {
  return command
    .option("--config <file>", "YAML file (default: ./mantou.yaml when it is there)")
    .option("--data <dir>", "directory of what the broker keeps (default: ./data)");
}

function dirOf(flags: ConfigFlags, host: Host): string {
  const { config } = loadConfig({ ...host.config, flags });
  return resolve(host.config.cwd ?? ".", config.node.data);
}

/** Of each store, of which there are as many as workers. */
async function check(flags: StoreFlags, host: Host): Promise<number> {
  const [{ checkStore }, { settledLayout, storeDirs }] = await Promise.all([
    import("#store/check-sqlite.ts"),
    import("#store/layout-sqlite.ts"),
  ]);
  const dir = dirOf(flags, host);
  let isSound = true;
  for (const each of storeDirs(dir, settledLayout(dir) ?? 1)) {
    const report = checkStore(each);
    tell(each, report, host);
    isSound &&= report.problems.length === 0;
  }
  if (isSound) host.out("ok\n");
  return isSound ? 0 : 1;
}

function tell(dir: string, report: StoreReport, host: Host): void {
  const { version, fileBytes, freeBytes, tables, namedCount, oldestBody, problems } = report;
  host.out(`${dir}: version ${version}, ${mib(fileBytes)}, of it ${mib(freeBytes)} free\n`);
  for (const { things, count, bytes } of tables) host.out(`  ${things}: ${count}, ${mib(bytes)}\n`);
  const oldest = oldestBody === undefined ? "" : `; the oldest is message ${oldestBody}`;
  host.out(`  messages that sessions wait for: ${namedCount}${oldest}\n`);
  for (const problem of problems) host.err(`${problem}\n`);
}

async function compact(flags: StoreFlags, host: Host): Promise<number> {
  const [{ compactStore }, { settledLayout, storeDirs }] = await Promise.all([
    import("#store/backup-sqlite.ts"),
    import("#store/layout-sqlite.ts"),
  ]);
  const dir = dirOf(flags, host);
  for (const each of storeDirs(dir, settledLayout(dir) ?? 1)) {
    const { bytesBefore, bytesAfter } = compactStore(each);
    host.out(`${each}: ${mib(bytesBefore)} before, ${mib(bytesAfter)} now\n`);
  }
  return 0;
}

async function backup(file: string, flags: StoreFlags, host: Host): Promise<number> {
  const { backUpData } = await import("#store/worker-backup-sqlite.ts");
  backUpData(dirOf(flags, host), resolve(host.config.cwd ?? ".", file));
  host.out(`ok: ${file}\n`);
  return 0;
}

async function restore(file: string, flags: StoreFlags, host: Host): Promise<number> {
  const { restoreBackup } = await import("#broker/spread.ts");
  const dir = dirOf(flags, host);
  const aside = restoreBackup(dir, resolve(host.config.cwd ?? ".", file));
  host.out(`ok: ${dir}${aside === undefined ? "" : `; what was there before is in ${aside}`}\n`);
  return 0;
}

async function spread(count: number, { config, data }: StoreFlags, host: Host): Promise<number> {
  const { spreadData } = await import("#broker/spread.ts");
  const dir = dirOf({ config, data }, host);
  const report = spreadData(dir, count);
  if (!report) {
    host.out(`${dir}: it is of ${processes(count)} already\n`);
    return 0;
  }
  const { from, sessionCount, messageCount, retainedCount, damage, aside, leftPlugins } = report;
  for (const line of damage) host.err(`the store was damaged: ${line}\n`);
  if (leftPlugins.length > 0)
    host.err(
      `what these plugins of other workers than the first have kept was not carried over: ${leftPlugins.join(", ")}\n`,
    );
  const what = `${sessionCount} sessions, ${messageCount} messages, ${retainedCount} retained messages`;
  host.out(`${dir}: ${what}; of ${processes(from)} before, of ${processes(count)} now\n`);
  host.out(`ok; what was there before is in ${aside}: remove it when the broker runs\n`);
  return 0;
}

function processes(count: number): string {
  return count === 1 ? "one process" : `${count} workers`;
}

function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(1)} MiB`;
}
