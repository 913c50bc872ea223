/** `mantou plugin new NAME`. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve, sep } from "node:path";
import type { Command } from "commander";
import { MantouError } from "#base/error.ts";
import { VERSION } from "#broker/version.ts";
import type { Host } from "./host.ts";
import { pluginFiles } from "./plugin-template.ts";

const NAME = /^[a-z][a-z0-9-]{0,63}$/;

export function addPluginCommands(program: Command, host: Host): void {
  const plugin = program.command("plugin").description("write plugins; mantou ctl plugins loads them");
  plugin
    .command("new <name>")
    .description("make a folder with a plugin, its test and what it needs")
    .option("--dir <dir>", "where; a folder of its name here otherwise")
    .action((name: string, { dir = name }: { dir?: string }) => newPlugin(name, dir, host));
}

function newPlugin(name: string, dir: string, host: Host): void {
  if (!NAME.test(name))
    throw new MantouError(
      "params_invalid",
      `name: found ${name}, allowed: lower case letters, digits and -, at most 64`,
    );
  const folder = resolve(host.config.cwd ?? ".", dir);
  if (existsSync(folder))
    throw new MantouError("params_invalid", `${dir}: found something there, allowed: a new folder`);
  mkdirSync(folder, { recursive: true });
  const files = Object.entries(pluginFiles(name, ownPackage()));
  for (const [file, text] of files) writeFileSync(join(folder, file), text);
  const shown = files.map(([file]) => `  ${join(dir, file)}\n`).join("");
  host.out(`${shown}next: cd ${dir} && bun install && bun test\n`);
}

/** This checkout. An installed package may be gone tomorrow (`bunx` keeps it for a while), a single executable has none to show: they say their version. */
function ownPackage(): string {
  const root = resolve(import.meta.dir, "../..");
  if (root.split(sep).includes("node_modules")) return VERSION;
  try {
    const { name } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { name?: string };
    if (name === "mantou") return `file:${root}`;
  } catch {
    // Not a checkout.
  }
  return VERSION;
}
