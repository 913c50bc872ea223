/** `mantou config check | show | schema`. */
import { checkAccess } from "#broker/access-check.ts";
import { configJsonSchema } from "#broker/config-schema.ts";
import { formatConfigYaml, toPlainConfig } from "#broker/config-show.ts";
import { loadConfig, type ConfigFlags } from "#broker/config.ts";
import type { Host } from "./host.ts";

export function checkConfig(flags: ConfigFlags, host: Host): number {
  const { config, file } = loadConfig({ ...host.config, flags });
  checkAccess(config.access, host.config.cwd ?? process.cwd());
  host.out(`ok: ${file ?? "no file, only defaults, environment and flags"}\n`);
  return 0;
}

export function showConfig(flags: ConfigFlags & { readonly json?: boolean }, host: Host): number {
  const loaded = loadConfig({ ...host.config, flags });
  host.out(flags.json ? toJson(toPlainConfig(loaded.config)) : formatConfigYaml(loaded));
  return 0;
}

export function showConfigSchema(host: Host): number {
  host.out(toJson({ title: "mantou configuration", ...configJsonSchema() }));
  return 0;
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
