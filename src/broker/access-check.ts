/** What is wrong with a section `access` that shows only in several options together, without any server, table or file of users. */
import { backendKinds } from "#access/backend-table.ts";
import type { BackendKind, BackendParts } from "#access/backend.ts";
import { MantouError } from "#base/error.ts";
import { PasswordChecker } from "#access/password.ts";
import { makeLineup } from "./access-lineup.ts";
import type { AccessConfig } from "./access-schema.ts";

const nothing = (): void => {};

/** Makes every backend and starts none. Throws the MantouError for which a broker would not start. */
export function checkAccess(config: AccessConfig, baseDir: string): void {
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
  makeLineup(config, {
    baseDir,
    make(entry, name) {
      try {
        return kinds.find(({ type }) => type === entry.type)!.make(entry, { ...parts, name });
      } catch (error) {
        // Who looks at the file need not be told what the broker is told.
        if (error instanceof MantouError && error.code === "secret_missing") return { name };
        throw error;
      }
    },
  });
}
