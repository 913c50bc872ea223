/** `mantou store check | compact | backup | restore`, on the data directory of the configuration. */
import { resolve } from "node:path";
import type { Command } from "commander";
import { loadConfig, type ConfigFlags } from "#broker/config.ts";
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
    .argument("<file>", "the file to make")
    .addHelpText("after", "\nA broker may run meanwhile.\n")
    .action(async (file: string, flags: StoreFlags) => done(await backup(file, flags, host)));
  withDataFlags(store.command("restore").description("put a backup in the place of the store, which is set aside"))
    .argument("<file>", "the backup")
    .addHelpText("after", "\nThe broker must be stopped.\n")
    .action(async (file: string, flags: StoreFlags) => done(await restore(file, flags, host)));
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

async function check(flags: StoreFlags, host: Host): Promise<number> {
  const { checkStore } = await import("#store/check-sqlite.ts");
  const dir = dirOf(flags, host);
  const report = checkStore(dir);
  const { version, fileBytes, freeBytes, tables, namedCount, oldestBody, problems } = report;
  host.out(`${dir}: version ${version}, ${mib(fileBytes)}, of it ${mib(freeBytes)} free\n`);
  for (const { things, count, bytes } of tables) host.out(`  ${things}: ${count}, ${mib(bytes)}\n`);
  const oldest = oldestBody === undefined ? "" : `; the oldest is message ${oldestBody}`;
  host.out(`  messages that sessions wait for: ${namedCount}${oldest}\n`);
  for (const problem of problems) host.err(`${problem}\n`);
  if (problems.length === 0) host.out("ok\n");
  return problems.length === 0 ? 0 : 1;
}

async function compact(flags: StoreFlags, host: Host): Promise<number> {
  const { compactStore } = await import("#store/backup-sqlite.ts");
  const dir = dirOf(flags, host);
  const { bytesBefore, bytesAfter } = compactStore(dir);
  host.out(`${dir}: ${mib(bytesBefore)} before, ${mib(bytesAfter)} now\n`);
  return 0;
}

async function backup(file: string, flags: StoreFlags, host: Host): Promise<number> {
  const { backUpStore } = await import("#store/backup-sqlite.ts");
  backUpStore(dirOf(flags, host), resolve(host.config.cwd ?? ".", file));
  host.out(`ok: ${file}\n`);
  return 0;
}

async function restore(file: string, flags: StoreFlags, host: Host): Promise<number> {
  const { restoreStore } = await import("#store/backup-sqlite.ts");
  const dir = dirOf(flags, host);
  const aside = restoreStore(dir, resolve(host.config.cwd ?? ".", file));
  host.out(`ok: ${dir}${aside === undefined ? "" : `; what was there before is in ${aside}`}\n`);
  return 0;
}

function mib(bytes: number): string {
  return `${(bytes / MIB).toFixed(1)} MiB`;
}
