/** This program as another process. */
import { spawn } from "node:child_process";

export interface Detached {
  readonly pid: number;
  /** Undefined while it runs. */
  readonly code: number | undefined;
  readonly said: { readonly out: string; readonly err: string };
}

/** How this program is started once more: the compiled one holds its sources. */
export function ownCommand(): string[] {
  const isCompiled = Bun.main.startsWith("/$bunfs/") || Bun.main.startsWith("B:/~BUN/");
  return isCompiled ? [process.execPath] : [process.execPath, Bun.main];
}

/** Starts it in a session of its own, which no closing terminal concerns; resolves when it is ready or has ended. */
export function detach(words: readonly string[]): Promise<Detached> {
  const [program, ...args] = [...ownCommand(), ...words];
  const child = spawn(program, args, { detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const said = { out: "", err: "" };
  return new Promise((resolve, reject) => {
    const answer = (code: number | undefined): void => {
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      resolve({ pid: child.pid ?? 0, code, said });
    };
    child.on("error", reject);
    child.on("close", (code) => answer(code ?? 1));
    child.stderr.on("data", (chunk: Buffer) => void (said.err += chunk.toString()));
    child.stdout.on("data", (chunk: Buffer) => {
      said.out += chunk.toString();
      if (said.out.includes("mantou ready") && said.out.endsWith("\n")) answer(undefined);
    });
  });
}
