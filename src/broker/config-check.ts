/**
 * What a start would fail at, of what the configuration names: files of certificates, passwords and rules, plugins. The same code reads
 * them as at a start, and so says the same; nothing is opened, and no server is asked.
 */
import { MantouError } from "#base/error.ts";
import { modules } from "#modules/module-table.ts";
import { checkAccess, checkAccessFiles } from "./access-check.ts";
import type { Config } from "./config.ts";
import { checkCredentials } from "./listener-setup.ts";
import { findPlugins } from "./plugin-source.ts";

/** One line a problem. Relative paths start in `baseDir`, those of certificates in the working directory. */
export async function findProblems(config: Config, baseDir: string): Promise<string[]> {
  const problems: string[] = [];
  const note = (error: unknown): void => {
    if (!(error instanceof MantouError)) throw error;
    problems.push(error.message);
  };
  const attempt = async (action: () => unknown): Promise<void> => {
    try {
      await action();
    } catch (error) {
      note(error);
    }
  };
  for (const listener of config.listeners) await attempt(() => checkCredentials(listener));
  await attempt(() => checkAccessFiles(checkAccess(config.access, baseDir), note));
  for (const key of Object.keys(modules) as (keyof typeof modules)[])
    await attempt(() => modules[key].check?.(config.modules[key] as never));
  for (const { from, options } of config.plugins) await attempt(() => findPlugins(from, options, baseDir));
  return problems;
}
