/** What the keeper and its workers say to each other: JSON over the channel that Bun opens between a process and its child. */
import type { Failures } from "#access/attempt-limit.ts";
import { MantouError } from "#base/error.ts";
import type { Control } from "./control.ts";
import type { ConfigFlags } from "./config.ts";
import type { ListenerConfig } from "./listener-schema.ts";
import type { BrokerPart } from "./broker.ts";

export type ToWorker =
  | {
      readonly kind: "start";
      readonly flags: ConfigFlags;
      readonly part: BrokerPart;
      /** With the ports that were picked. */
      readonly listeners: readonly ListenerConfig[];
    }
  /** It drains, says so, and goes on serving the other workers until it is told to close. */
  | { readonly kind: "stop" }
  | { readonly kind: "close" }
  /** Answered with `pong` by a process that does not stand still. */
  | { readonly kind: "ping" }
  /** Those of the configuration that is to be read again, with the ports that were picked. */
  | { readonly kind: "listeners"; readonly listeners: readonly ListenerConfig[] }
  /** The configuration and certificates are read again. */
  | { readonly kind: "reload" }
  | { readonly kind: "ask"; readonly id: number; readonly name: string; readonly params: unknown }
  /** In another worker. */
  | { readonly kind: "failures"; readonly failures: Failures }
  /** To what the worker asked of all. */
  | Answer;

export type Answer =
  | { readonly kind: "answer"; readonly id: number; readonly result: unknown }
  | { readonly kind: "refusal"; readonly id: number; readonly code: string; readonly message: string };

export type ToKeeper =
  | { readonly kind: "hello" }
  | { readonly kind: "pong" }
  /** Of the broker as a whole. */
  | { readonly kind: "ask"; readonly id: number; readonly name: string; readonly params: unknown }
  | { readonly kind: "ready"; readonly addresses: readonly string[] }
  /** Credentials were wrong. */
  | { readonly kind: "failures"; readonly failures: Failures }
  /** Its clients are gone and nothing is on its way from it to the others. */
  | { readonly kind: "drained" }
  /** It could not start. */
  | { readonly kind: "failed"; readonly code: string; readonly message: string }
  | Answer;

export interface Question {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** Settles what was asked. */
export function settle(asked: Map<number, Question>, answer: Answer): void {
  const question = asked.get(answer.id);
  asked.delete(answer.id);
  if (answer.kind === "answer") question?.resolve(answer.result);
  else question?.reject(new MantouError(answer.code, answer.message));
}

/** Answers a question by a control. */
export async function answerTo(
  control: Control | undefined,
  { id, name, params }: { readonly id: number; readonly name: string; readonly params: unknown },
): Promise<Answer> {
  try {
    if (!control) throw new MantouError("worker_away", "this process is starting");
    const result = await (control as (name: string, params: unknown) => Promise<unknown>)(name, params);
    return { kind: "answer", id, result };
  } catch (error) {
    const { code, message } = error instanceof MantouError ? error : { code: "bug", message: String(error) };
    return { kind: "refusal", id, code, message };
  }
}
