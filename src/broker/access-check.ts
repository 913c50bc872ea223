/** What is wrong with a section `access` that shows only in several options together, or in the files that it names; no server is asked, no table opened. */
import { backendKinds } from "#access/backend-table.ts";
import type { BackendKind, BackendParts } from "#access/backend.ts";
import { inPart, MantouError } from "#base/error.ts";
import { PasswordChecker } from "#access/password.ts";
import { type Lineup, makeLineup } from "./access-lineup.ts";
import type { AccessConfig } from "./access-schema.ts";

const nothing = (): void => {};

/** Makes every backend and starts none. Throws the MantouError for which a broker would not start. */
export function checkAccess(config: AccessConfig, baseDir: string): Lineup {
  const parts: Omit<BackendParts, "name"> = {
    baseDir,
    nowSec: () => 0,
    log: { info: nothing, warn: nothing },
    passwords: new PasswordChecker(),
    accessDb: () => {
      throw new Error("nothing is opened by making a backend");
    },
    invalidate: nothing,
    revoke: nothing,
  };
  const kinds: readonly BackendKind[] = backendKinds;
  return makeLineup(config, {
    baseDir,
    make(entry, name) {
      try {
        return kinds.find(({ type }) => type === entry.type)!.make(entry, { ...parts, name });
      } catch (error) {
        if (isOfEnvironment(error)) return { name };
        throw error;
      }
    },
  });
}

/** Has the backends read their files. Rejects as a start of them does. */
export async function checkAccessFiles(lineup: Lineup, note: (problem: unknown) => void): Promise<void> {
  for (const { name, backend } of lineup.members) {
    await backend.check?.().catch((error: unknown) => {
      if (!isOfEnvironment(error)) note(inPart(`access: ${name}`, error));
    });
  }
}

/** Who looks at the file need not be told what the broker is told. */
function isOfEnvironment(error: unknown): boolean {
  return error instanceof MantouError && error.code === "secret_missing";
}
