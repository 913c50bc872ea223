/**
 * When a tick's writes leave: one write per link, after all that the tick has read is handled.
 *
 *   poll: data, data, data …  ─►  setImmediate: flush each dirty link once
 *
 * Waiting for the end of the tick gathers writes under load, and costs a round through the loop when there is none. So
 * the first event of a tick, if it is small and the tick before was idle, is answered at once.
 *
 * The clock is looked at when a tick begins to read, and for `afterFlush` when its bytes are with the kernel: twice a tick, not a message.
 */

/** A link with bytes to send. */
export interface Flushable {
  flush(): void;
}

const SMALL_BYTES = 1024;
const FEW_LINKS = 4;

export class Flusher {
  private dirty: Flushable[] = [];
  private spare: Flushable[] = [];
  private isScheduled = false;
  private eventCount = 0;
  private wasQuiet = true;
  /** Called before anything leaves: what the tick has earned may be let out. */
  beforeFlush: () => void = () => {};
  /** Called when something has left, with the moment at which the tick began to read, or to write when nothing was read. */
  afterFlush: (startMs: number) => void = () => {};
  /** Monotonic; 0: the tick has done nothing yet. */
  private startMs = 0;

  constructor(private readonly reportBug: (error: unknown) => void) {}

  /** The link has bytes to send; called once until it is flushed. */
  add(link: Flushable): void {
    this.beforeData();
    this.dirty.push(link);
    this.schedule();
  }

  /** A chunk was read and is about to be handled. */
  beforeData(): void {
    if (this.startMs !== 0) return;
    this.startMs = performance.now();
    this.schedule(); // the tick ends, whatever becomes of the chunk
  }

  /** A chunk of `bytes` was read and handled. */
  afterData(bytes: number): void {
    this.eventCount++;
    this.schedule();
    const isAlone = this.eventCount === 1 && this.wasQuiet;
    if (isAlone && bytes <= SMALL_BYTES && this.dirty.length <= FEW_LINKS) this.flush();
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(this.endTick);
  }

  private readonly endTick = (): void => {
    this.isScheduled = false;
    this.wasQuiet = this.eventCount <= 1;
    this.eventCount = 0;
    this.flush();
    this.startMs = 0;
    if (this.dirty.length > 0) this.beforeData(); // the flush has made more to send
  };

  /** Everything that there is to send leaves. */
  flush(): void {
    this.beforeFlush();
    if (this.dirty.length === 0) return;
    const links = this.dirty;
    this.dirty = this.spare; // a flush may make other links dirty
    this.spare = links;
    for (const link of links) this.flushOne(link);
    links.length = 0;
    this.afterFlush(this.startMs);
  }

  /** One link's bug must not keep the others' bytes. */
  private flushOne(link: Flushable): void {
    try {
      link.flush();
    } catch (error) {
      this.reportBug(error);
    }
  }
}
