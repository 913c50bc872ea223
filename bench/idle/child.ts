/** A helper process of this bench: asked over IPC, one question at a time. */
import { basename } from "node:path";

export interface Child {
  /** Resolves with the answer; rejects when the process fails or ends before it. */
  ask<T>(question: object): Promise<T>;
  stop(): void;
}

type Answer = { readonly value: unknown } | { readonly error: string };

export function spawnChild(file: URL): Child {
  const name = basename(file.pathname);
  let settle: ((answer: Answer) => void) | undefined;
  const child = Bun.spawn([process.execPath, file.pathname], {
    stdio: ["ignore", "inherit", "inherit"],
    ipc: (answer: Answer) => settle?.(answer),
    onExit: (_, code, signal) => settle?.({ error: `${name} ended with ${signal ?? code}` }),
  });
  return {
    ask<T>(question: object): Promise<T> {
      return new Promise((resolve, reject) => {
        settle = (answer) => ("error" in answer ? reject(new Error(answer.error)) : resolve(answer.value as T));
        child.send(question);
      });
    },
    stop: () => {
      settle = undefined;
      child.kill();
    },
  };
}

/** The other side: answers each question with what `answer` resolves to, until the asking process is gone. */
export function serveQuestions<Q>(answer: (question: Q) => Promise<unknown>): void {
  process.on("message", (question) => {
    answer(question as Q).then(
      (value) => process.send!({ value }),
      (error: unknown) => process.send!({ error: error instanceof Error ? error.message : String(error) }),
    );
  });
  process.on("disconnect", () => process.exit(1));
}
