/** The preloaded library of disk-shim.c: compiled once a process, and what to put into a broker's environment for it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Undefined where it can be compiled; else why not, for the name of a test that is skipped. */
export function shimMissing(): string | undefined {
  if (process.platform !== "linux") return "only on Linux";
  if (Bun.which("cc") === null) return "no C compiler";
  return undefined;
}

let compiled: string | undefined;

/** Path of the library. It goes when the process ends. */
function compileShim(): string {
  if (compiled !== undefined) return compiled;
  const folder = mkdtempSync(join(tmpdir(), "mantou-shim-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const library = join(folder, "disk-shim.so");
  const flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"];
  const source = join(import.meta.dir, "disk-shim.c");
  const { exitCode, stderr } = Bun.spawnSync(["cc", ...flags, "-o", library, source, "-ldl", "-lpthread"]);
  if (exitCode !== 0) throw new Error(`disk-shim.c does not compile:\n${stderr}`);
  compiled = library;
  return library;
}

export interface ShimPaths {
  readonly dir: string;
  readonly journal: string;
  /** While it exists, writing fails: see disk-shim.c. */
  readonly control?: string;
  /** Syncs take so much longer. */
  readonly syncMs?: number;
}

export function shimEnvironment({ dir, journal, control, syncMs = 0 }: ShimPaths): Record<string, string> {
  const environment = { LD_PRELOAD: compileShim(), MANTOU_SHIM_DIR: dir, MANTOU_SHIM_JOURNAL: journal };
  const more = {
    MANTOU_SHIM_SYNC_MS: String(syncMs),
    ...(control === undefined ? {} : { MANTOU_SHIM_CONTROL: control }),
  };
  return { ...environment, ...more };
}

export type DiskFailure = "none" | "no space" | "I/O error" | "sync fails";

/** From now on. */
export function setFailure(control: string, failure: DiskFailure): void {
  if (failure === "none") return rmSync(control, { force: true });
  writeFileSync(control, { "no space": "n", "I/O error": "i", "sync fails": "s" }[failure]);
}
