/** What the store was told of each stored session's queue, replayed change by change as a recovery would. */
import type { LogEntry } from "#test/support/delayed-ports.ts";

/** What the twin reads of a durable store. */
export interface StoreView {
  readonly durableSeq: number;
  readonly log: readonly LogEntry[];
}

/** A packet id in use: numbers of the changes that its PUBLISH and its PUBREL wait for. */
interface StoredId {
  readonly seq: number;
  receivedSeq: number;
}

class StoredQueue {
  waitingCount = 0;
  /** In the order in which they were given. */
  readonly ids = new Map<number, StoredId>();
}

export class StoreMirror {
  private readonly queues = new Map<number, StoredQueue>();
  private replayed = 0;

  constructor(
    private readonly store: StoreView,
    private readonly sessionOf: (clientId: string) => number,
  ) {}

  /** Why PUBLISH at QoS 2 under this packet id must not leave yet, or undefined. */
  faultOfPublish(clientId: string, packetId: number): string | undefined {
    const stored = this.queueOf(clientId).ids.get(packetId);
    if (!stored) return "is not in the store";
    return stored.seq > this.store.durableSeq ? "is not durable" : undefined;
  }

  /** Why PUBREL of this packet id must not leave yet, or undefined. */
  faultOfPubrel(clientId: string, packetId: number): string | undefined {
    const stored = this.queueOf(clientId).ids.get(packetId);
    if (!stored || stored.receivedSeq === 0) return "is not released in the store";
    return stored.receivedSeq > this.store.durableSeq ? "is not durable" : undefined;
  }

  /** The next message in flight that was not sent yet waits for its commit. */
  isHeld(clientId: string, isSent: (packetId: number) => boolean): boolean {
    for (const [packetId, { seq }] of this.queueOf(clientId).ids) {
      if (!isSent(packetId)) return seq > this.store.durableSeq;
    }
    return false;
  }

  /** What the store still has of a session's queue. */
  leftOf(clientId: string): { waitingCount: number; ids: number[] } {
    const { waitingCount, ids } = this.queueOf(clientId);
    return { waitingCount, ids: [...ids.keys()] };
  }

  private queueOf(clientId: string): StoredQueue {
    const { log } = this.store;
    while (this.replayed < log.length) this.replay(log[this.replayed]!, ++this.replayed);
    return this.queue(this.sessionOf(clientId));
  }

  private queue(session: number): StoredQueue {
    let queue = this.queues.get(session);
    if (!queue) this.queues.set(session, (queue = new StoredQueue()));
    return queue;
  }

  private replay({ record, session, item, packetId }: LogEntry, seq: number): void {
    const queue = this.queue(session);
    switch (record) {
      case "session-ended":
        this.queues.delete(session);
        return;
      case "enqueued":
        if (packetId === 0) queue.waitingCount++;
        else queue.ids.set(packetId, { seq, receivedSeq: 0 });
        return;
      case "assigned":
        queue.waitingCount--;
        queue.ids.set(item, { seq, receivedSeq: 0 });
        return;
      case "shifted":
      case "withdrawn":
        queue.waitingCount--;
        return;
      case "received": {
        const stored = queue.ids.get(item);
        if (stored) stored.receivedSeq = seq;
        return;
      }
      case "acknowledged":
      case "completed":
        queue.ids.delete(item);
        return;
      default:
    }
  }
}
