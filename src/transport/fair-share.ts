/**
 * How much of one turn of the event loop those who send much may take, so that those who send little are not late.
 *
 *   poll: data … ─► setImmediate ─► poll: data … ─►        a turn; all links that send much have `TURN_MS` of it together
 *
 *   a chunk ─┬─ its link has sent little in this turn ─► handled at once                  the usual case: one comparison
 *            └─ else as much as there is time for; the rest waits, its link is not read ─► each turn a piece of each, in a circle
 *
 * A kernel hands over half a megabyte at once, which is ten thousand messages, or far more when each goes to many. What a piece costs is
 * learned link by link: it begins small, and grows as long as it is quick. What waits is bounded: a link that has bytes here is not read,
 * and beyond `WAITING_BYTES_MAX` in all chunks are handled at once, whatever it takes.
 */
const TURN_MS = 1;
/** Of a turn for one link, when others wait too. */
const PIECE_MS = 0.25;
const PIECE_BYTES_FIRST = 4 * 1024;
const PIECE_BYTES_MIN = 512;
const GROWTH = 8;
/** From one link in a row: less is not even looked at. */
const LITTLE_BYTES = 8 * 1024;
const WAITING_BYTES_MAX = 128 * 1024 * 1024;

interface Waiting {
  readonly chunks: Buffer[];
  /** Of the next piece. */
  pieceBytes: number;
}

/** A link that sends much. */
export interface Sharer {
  /** Input is not taken at the moment. */
  readonly isPaused: boolean;
  /** Handles bytes, in order. */
  handleShare(bytes: Buffer): void;
  /** Bytes wait here (true), or none do any more (false): the link is read again. */
  setWaiting(isWaiting: boolean): void;
}

export class FairShare {
  private last: Sharer | null = null;
  private rowBytes = 0;
  private endsMs = -1;
  private readonly waiting: Map<Sharer, Waiting> = new Map();
  private waitingBytes = 0;
  private isScheduled = false;

  constructor(
    private readonly reportBug: (error: unknown) => void,
    /** Called before what waits is handled: what others have earned leaves first. */
    private readonly beforeTurn: () => void = () => {},
    private readonly nowMs: () => number = performance.now.bind(performance),
  ) {}

  /** True when the link has sent so much in a row that its chunk has to go through `take`. */
  isMuch(link: Sharer, size: number): boolean {
    if (link !== this.last) {
      this.last = link;
      this.rowBytes = 0;
    }
    this.rowBytes += size;
    return this.rowBytes > LITTLE_BYTES;
  }

  /** Handles what there is time for and keeps the rest. */
  take(link: Sharer, chunk: Buffer): void {
    this.rowBytes = 0;
    const known = this.waiting.get(link);
    if (known !== undefined) {
      known.chunks.push(chunk); // it was on its way before the link stopped reading
      this.waitingBytes += chunk.length;
      return;
    }
    if (this.waitingBytes > WAITING_BYTES_MAX) return link.handleShare(chunk);
    let pieceBytes = PIECE_BYTES_FIRST;
    let at = 0;
    while (at < chunk.length && this.leftMs() > 0 && !link.isPaused) {
      const end = Math.min(chunk.length, at + pieceBytes);
      pieceBytes = this.handle(link, chunk.subarray(at, end));
      at = end;
    }
    if (at === chunk.length) return;
    this.waiting.set(link, { chunks: [chunk.subarray(at)], pieceBytes });
    this.waitingBytes += chunk.length - at;
    this.schedule();
    link.setWaiting(true);
  }

  /** What waits of a link that closes: the caller's now. */
  withdraw(link: Sharer): readonly Buffer[] {
    const known = this.waiting.get(link);
    if (known === undefined) return [];
    this.waiting.delete(link);
    for (const { length } of known.chunks) this.waitingBytes -= length;
    return known.chunks;
  }

  /** A link takes input again. */
  resume(): void {
    this.schedule();
  }

  /** Of this turn; the first who asks begins it. */
  private leftMs(): number {
    const nowMs = this.nowMs();
    if (this.endsMs < 0) {
      this.endsMs = nowMs + TURN_MS;
      this.schedule();
    }
    return this.endsMs - nowMs;
  }

  /** Returns how large the next piece of this link may be. */
  private handle(link: Sharer, piece: Buffer): number {
    const startMs = this.nowMs();
    link.handleShare(piece);
    const ms = this.nowMs() - startMs;
    if (ms < PIECE_MS / 2) return Math.max(PIECE_BYTES_FIRST, piece.length) * GROWTH;
    return Math.max(PIECE_BYTES_MIN, Math.floor((piece.length * PIECE_MS) / Math.max(ms, PIECE_MS)));
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(this.nextTurn);
  }

  private readonly nextTurn = (): void => {
    this.isScheduled = false;
    this.endsMs = -1;
    if (this.waiting.size === 0) return;
    this.beforeTurn();
    let isLeft = false;
    let count = this.waiting.size;
    for (const [link, waiting] of this.waiting) {
      if (count-- === 0) break; // from here on they have had their piece
      if (link.isPaused) continue;
      isLeft = true;
      if (this.leftMs() <= 0) break;
      this.handleWaiting(link, waiting);
    }
    if (isLeft) this.schedule();
  };

  /** One link's bug must not keep the others waiting. */
  private handleWaiting(link: Sharer, waiting: Waiting): void {
    const { chunks, pieceBytes } = waiting;
    const piece = chunks[0].subarray(0, pieceBytes);
    if (piece.length === chunks[0].length) chunks.shift();
    else chunks[0] = chunks[0].subarray(pieceBytes);
    this.waitingBytes -= piece.length;
    this.waiting.delete(link);
    this.waiting.set(link, waiting); // at the end of the circle
    try {
      waiting.pieceBytes = this.handle(link, piece);
    } catch (error) {
      this.reportBug(error);
    }
    if (chunks.length > 0 || this.waiting.get(link) !== waiting) return;
    this.waiting.delete(link);
    link.setWaiting(false);
  }
}
