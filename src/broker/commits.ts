/** Waiting for the disk on behalf of those who are no MQTT connection: the control interface, HTTP publish. */
import { MantouError } from "#base/error.ts";
import { CommitGate } from "#core/commit-gate.ts";
import type { MqttContext } from "#mqtt/context.ts";

const WAIT_MS_MAX = 10_000;

export class Commits {
  private readonly gate = new CommitGate();

  constructor(private readonly context: MqttContext) {}

  /**
   * Resolves when what the engine's last change waits for is safe: call it right after the change, before anything else.
   * Rejects with MantouError `not_committed` after 10 seconds; it may become safe later.
   */
  wait(): Promise<void> {
    const { storeSeq, forwardSeq, store, forwardedSeq } = this.context.engine;
    if (storeSeq <= store.durableSeq && forwardSeq <= forwardedSeq) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const fault = new MantouError("not_committed", "the store has not written it in time; it may do so later");
      const timer = setTimeout(() => reject(fault), WAIT_MS_MAX);
      this.gate.add(storeSeq, forwardSeq, () => {
        clearTimeout(timer);
        resolve();
      });
      this.context.gated.add(this);
    });
  }

  get gatedCount(): number {
    return this.gate.count;
  }

  advanceGate(): void {
    const { store, forwardedSeq } = this.context.engine;
    this.gate.advance(store.durableSeq, forwardedSeq);
    if (this.gate.count === 0) this.context.gated.delete(this);
  }
}
