/**
 * The durable store's disk as the broker's thread sees it: a `LogBackend` whose work is done by a thread of its own
 * (writer-thread-sqlite.ts), so that nobody waits for a sync but the acknowledgements that need it.
 *
 * The thread is started once, at open: starting one when the process is out of descriptors would end it.
 */
import { existsSync } from "node:fs";
import { MantouError } from "#base/error.ts";
import { threadUrl } from "#base/thread-url.ts";
import type { CommitInfo, LoadedEntries, LogBackend, RecoveryReceiver } from "./log-backend.ts";
import { type FromWriter, ownCopy, type ToWriter, unpackRetained, unpackSessions } from "./thread-message.ts";

export interface ThreadLogOptions {
  /** Directory of the store; made if it is not there. */
  readonly dir: string;
  readonly sync: "full" | "normal" | "off";
}

type Bytes = Uint8Array<ArrayBuffer>;

/**
 * Opens the store in `dir`. It is this one's alone until it is closed or the process ends.
 * @throws MantouError `store_in_use`, `store_schema_newer`, `store_not_writable`, `store_not_readable`
 */
export async function openThreadLog({ dir, sync }: ThreadLogOptions): Promise<ThreadLog> {
  const worker = startThread("store");
  const log = new ThreadLog(worker);
  const refusal = await log.opened({ kind: "open", dir, sync });
  if (!refusal) return log;
  worker.terminate();
  throw refusal;
}

/** Copies the store in `dir`, as of one moment, to a new file, in a thread of its own. Rejects as `backUpStore` throws. */
export async function backUpInThread(dir: string, file: string): Promise<void> {
  const worker = startThread("backup");
  const refusal = await new ThreadLog(worker).opened({ kind: "back-up", dir, file });
  worker.terminate();
  if (refusal) throw refusal;
}

function startThread(name: string): Worker {
  const place = { folder: "store", file: "writer-thread-sqlite" };
  return new Worker(threadUrl(import.meta.url, place, existsSync), { name });
}

export class ThreadLog implements LogBackend {
  onCommitted: (info: CommitInfo) => void = () => {};
  onFailed: (reason: string) => void = () => {};
  /** A fault in the thread that is a bug, or a store that cannot be recovered. Nothing is committed any more. */
  onFault: (fault: Error) => void = (fault) => this.onFailed(fault.message);
  private readonly open = Promise.withResolvers<Error | undefined>();
  private readonly closed = Promise.withResolvers<void>();
  private readonly requests = new Map<number, (loaded: LoadedEntries | null) => void>();
  private lastRequest = 0;
  private receiver: RecoveryReceiver | undefined;

  constructor(private readonly worker: Worker) {
    worker.onmessage = ({ data }: { readonly data: FromWriter }) => this.handle(data);
    worker.onerror = (event) => {
      const fault = new Error(`the store's thread failed: ${event.message}`);
      this.open.resolve(fault);
      this.closed.resolve();
      this.onFault(fault);
    };
  }

  /** Resolves with what speaks against it. */
  opened(request: ToWriter): Promise<Error | undefined> {
    this.send(request);
    return this.open.promise;
  }

  write(batch: number, bytes: Bytes): void {
    const own = ownsMemory(bytes) ? bytes : ownCopy(bytes);
    this.send({ kind: "write", batch, bytes: own }, own);
  }

  readPage(session: number, page: number, complete: (loaded: LoadedEntries | null) => void): void {
    this.send({ kind: "page", request: this.request(complete), session, page });
  }

  readBodies(entries: Buffer, complete: (loaded: LoadedEntries) => void): void {
    const copy = ownCopy(entries);
    this.send({ kind: "bodies", request: this.request((loaded) => complete(loaded!)), entries: copy }, copy);
  }

  recover(receiver: RecoveryReceiver): void {
    this.receiver = receiver;
    this.send({ kind: "recover" });
  }

  /** Resolves when all is written, collected and given back. */
  whenIdle(): Promise<void> {
    return new Promise((resolve) => this.send({ kind: "when-idle", request: this.request(() => resolve()) }));
  }

  /** Commits what is written, if the disk takes it, and lets go of the directory. */
  async close(): Promise<void> {
    this.send({ kind: "close" });
    await this.closed.promise;
    this.worker.terminate();
  }

  private request(complete: (loaded: LoadedEntries | null) => void): number {
    this.requests.set(++this.lastRequest, complete);
    return this.lastRequest;
  }

  private answer(request: number, loaded: LoadedEntries | null): void {
    const complete = this.requests.get(request);
    this.requests.delete(request);
    complete?.(loaded);
  }

  private send(message: ToWriter, handedOver?: Bytes): void {
    this.worker.postMessage(message, handedOver ? [handedOver.buffer] : []);
  }

  private handle(message: FromWriter): void {
    switch (message.kind) {
      case "opened":
        return this.open.resolve(undefined);
      case "refused": {
        const fault = new MantouError(message.code, message.message);
        if (this.receiver) return this.onFault(fault);
        return this.open.resolve(fault);
      }
      case "committed":
        return message.commitMs.forEach((commitMs, at) => this.onCommitted({ batch: message.first + at, commitMs }));
      case "failed":
        return this.onFailed(message.reason);
      case "loaded":
        return this.answer(message.request, { entries: toBuffer(message.entries), bodies: toBuffer(message.bodies) });
      case "absent":
      case "idle":
        return this.answer(message.request, null);
      case "sessions":
        this.receiver?.sessions(unpackSessions(message.packed));
        return this.send({ kind: "more" });
      case "retained":
        this.receiver?.retained(unpackRetained(message.packed));
        return this.send({ kind: "more" });
      case "recovered":
        return this.receiver?.done(message.info);
      case "closed":
        return this.closed.resolve();
    }
  }
}

/** Bytes that are all of their memory can be handed over; a part of a pool cannot. */
function ownsMemory(bytes: Bytes): boolean {
  return bytes.byteOffset === 0 && bytes.length === bytes.buffer.byteLength;
}

function toBuffer(bytes: Bytes): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
