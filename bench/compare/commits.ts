/** Commits of this repository as brokers: each in a git worktree under the temporary folder, gone after the run. */
import { mkdtempSync, readFileSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Broker, ofCheckout } from "./brokers.ts";

const CHECKOUT = resolve(import.meta.dir, "../..");

export interface Commits {
  readonly brokers: readonly Broker[];
  remove(): void;
}

/** `.` is the checkout as it is, with its changes. */
export function checkOut(revisions: readonly string[]): Commits {
  const folder = mkdtempSync(join(tmpdir(), "mantou-commits-"));
  const added: string[] = [];
  const remove = (): void => {
    for (const path of added) run(["git", "worktree", "remove", "--force", path]);
    run(["rm", "-rf", folder]);
  };
  try {
    const brokers = revisions.map((revision, i) => {
      if (revision === ".") return ofCheckout("checkout", CHECKOUT);
      const path = join(folder, String(i));
      run(["git", "worktree", "add", "--detach", "--quiet", path, revision]);
      added.push(path);
      bringDependencies(path);
      return ofCheckout(revision, path);
    });
    return { brokers, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** Those of the checkout when both want the same, else its own. */
function bringDependencies(path: string): void {
  const lock = (folder: string): string => readFileSync(join(folder, "bun.lock"), "utf8");
  if (lock(path) === lock(CHECKOUT)) symlinkSync(join(CHECKOUT, "node_modules"), join(path, "node_modules"));
  else run([process.execPath, "install", "--frozen-lockfile", "--silent"], path);
}

function run(command: string[], cwd = CHECKOUT): void {
  const { success, stderr } = Bun.spawnSync(command, { cwd, stdout: "ignore", stderr: "pipe" });
  if (!success) throw new Error(`${command.join(" ")}: ${stderr.toString().trim()}`);
}
