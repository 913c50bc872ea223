/** `mantou config check | show | schema`. */
import { MantouError } from "#base/error.ts";
import { configJsonSchema } from "#broker/config-schema.ts";
import { formatConfigYaml, toPlainConfig } from "#broker/config-show.ts";
import { loadConfig, type ConfigFlags } from "#broker/config.ts";
import type { Host } from "./host.ts";

/** Rejects with MantouError `config_invalid`, a line a problem. */
export async function checkConfig(flags: ConfigFlags, host: Host): Promise<number> {
  const { config, file } = loadConfig({ ...host.config, flags });
  const cwd = host.config.cwd ?? process.cwd();
  const [{ findProblems }, { readCredentials }] = await Promise.all([
    import("#broker/config-check.ts"),
    import("#admin/server.ts"),
  ]);
  const problems = await findProblems(config, cwd);
  try {
    readCredentials(config, cwd);
  } catch (error) {
    if (!(error instanceof MantouError)) throw error;
    problems.push(error.message);
  }
  if (problems.length > 0) throw new MantouError("config_invalid", problems.join("\n"), { problems });
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
