/**
 * A crew in a process of its own: calls and answers by IPC, numbered; credit goes both ways without an answer.
 *
 *   coordinator                              worker.ts
 *   { call: "run", number: 7, argument } ─►  crew.run(argument)
 *                 { answer: 7, value } ◄─
 *               ◄─ { credit: [ … ] } ─►
 */
import type { CrewPort, CrewShare, RunTimes } from "./crew.ts";
import type { Counts, TallyData } from "./tally.ts";

export type Call = "create" | "connect" | "run" | "stop" | "counts" | "finish";

export type ToWorker =
  | { readonly call: Call; readonly number: number; readonly argument?: unknown }
  | { readonly credit: readonly number[] };

export type FromWorker =
  | { readonly answer: number; readonly value?: unknown; readonly error?: string }
  | { readonly credit: readonly number[] };

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class CrewProcess implements CrewPort {
  private readonly waiting: Map<number, Waiting> = new Map();
  private callCount = 0;
  private readonly child: Bun.Subprocess;
  private ended: Error | undefined;

  /** `passCredit` hands deliveries to the processes of their publishers. */
  constructor(
    private readonly process: number,
    passCredit: (deliveries: readonly number[]) => void,
  ) {
    this.child = Bun.spawn([globalThis.process.execPath, new URL("worker.ts", import.meta.url).pathname], {
      stdio: ["ignore", "inherit", "inherit"],
      serialization: "advanced",
      ipc: (message: FromWorker) => {
        if ("credit" in message) return passCredit(message.credit);
        const waiting = this.waiting.get(message.answer);
        this.waiting.delete(message.answer);
        if (message.error === undefined) waiting?.resolve(message.value);
        else waiting?.reject(new Error(message.error));
      },
      onExit: (_, code, signal) => this.handleExit(signal ?? code),
    });
  }

  private handleExit(how: number | string | null): void {
    this.ended = new Error(`generator process ${this.process} ended with ${how}`);
    for (const { reject } of this.waiting.values()) reject(this.ended);
    this.waiting.clear();
  }

  private call<T>(call: Call, argument?: unknown): Promise<T> {
    if (this.ended !== undefined) return Promise.reject(this.ended);
    const number = this.callCount++;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve: resolve as (value: unknown) => void, reject });
      this.child.send({ call, number, argument } satisfies ToWorker);
    });
  }

  create(share: CrewShare): Promise<void> {
    return this.call("create", share);
  }

  connect(): Promise<Counts> {
    return this.call("connect");
  }

  run(times: RunTimes): Promise<void> {
    return this.call("run", times);
  }

  stop(): void {
    this.call("stop").catch(() => {}); // it has ended anyway
  }

  counts(): Promise<Counts> {
    return this.call("counts");
  }

  finish(): Promise<TallyData> {
    return this.call("finish");
  }

  credit(deliveries: readonly number[]): void {
    if (this.ended === undefined) this.child.send({ credit: deliveries } satisfies ToWorker);
  }

  kill(): void {
    this.child.kill();
  }
}
