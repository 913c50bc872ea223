/**
 * The disk of a crash run: a `MemoryLog` that answers late. Reads and the recovery complete when the world says so, in the
 * order in which they were asked for; batches become durable when it says so, or fail for a while.
 */
import type { Random } from "#base/random.ts";
import type { CommitInfo, LoadedEntries, LogBackend, RecoveryReceiver } from "#store/log-backend.ts";
import type { MemoryLog } from "#test/support/memory-log.ts";

export class CrashDisk implements LogBackend {
  onCommitted: (info: CommitInfo) => void = () => {};
  onFailed: (reason: string) => void = () => {};
  private readonly answers: (() => void)[] = [];
  private isFailing = false;

  constructor(
    readonly log: MemoryLog,
    /** Reads complete before the call returns. */
    private readonly isInstant: boolean,
  ) {
    log.onCommitted = (info) => this.onCommitted(info);
  }

  write(batch: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.log.write(batch, bytes);
  }

  readPage(session: number, page: number, complete: (loaded: LoadedEntries | null) => void): void {
    this.log.readPage(session, page, (loaded) => this.answer(() => complete(loaded)));
  }

  readBodies(entries: Buffer, complete: (loaded: LoadedEntries) => void): void {
    this.log.readBodies(entries, (loaded) => this.answer(() => complete(loaded)));
  }

  recover(receiver: RecoveryReceiver): void {
    this.log.recover({
      sessions: (sessions) => this.answer(() => receiver.sessions(sessions)),
      retained: (values) => this.answer(() => receiver.retained(values)),
      done: (info) => this.answer(() => receiver.done(info)),
    });
  }

  private answer(complete: () => void): void {
    if (this.isInstant) complete();
    else this.answers.push(complete);
  }

  get answerCount(): number {
    return this.answers.length;
  }

  /** Completes the oldest request. */
  answerOne(): void {
    this.answers.shift()?.();
  }

  /** Batches that are written and not durable. */
  get waitingCount(): number {
    return this.log.writtenBatch - this.log.durableBatch;
  }

  /** The next `count` batches are durable now; if they failed before, writing works again. */
  commit(count: number): void {
    this.isFailing = false;
    this.log.commit(this.log.durableBatch + count);
  }

  /** What is to be written fails, until `commit`. */
  fail(): void {
    if (this.isFailing || this.waitingCount === 0) return;
    this.isFailing = true;
    this.onFailed("disk full");
  }

  /** The disk as the next process finds it. With dice some of what was not durable has survived. */
  crash(dice?: Random): MemoryLog {
    return this.log.crash(dice);
  }
}
