/**
 * How much of one turn of the event loop those who send much may take, so that those who send little are not late.
 *
 *   poll: data … ─► setImmediate ─► poll: data … ─►        a turn; links that send much have `TURN_MS` of it together
 *
 *   a chunk ─┬─ its link has sent little in this turn ──► handled at once                the usual case: one comparison
 *            └─ else handled as well, and if time is up ─► its link is not read ─► read again in a later turn, one after another
 *
 * A kernel hands over half a megabyte at once, which is ten thousand messages, or far more work when each goes to many. Bytes that wait
 * in memory for a later turn are five times as dear as bytes that are handled while they are warm, and no longer read from the kernel they
 * cost nothing: so it is links that wait, not bytes. Only the rest of a chunk that would take `WHOLE_MS` waits here, a piece of it a
 * turn, up to `WAITING_BYTES_MAX` in all; beyond, chunks are handled at once. What a link's bytes cost is seen at its first piece.
 */
const TURN_MS = 1;
/** A chunk whose rest takes longer is handled in pieces. */
const WHOLE_MS = 1;
/** Of a turn for one such link. */
const PIECE_MS = 0.25;
const LET_OUT_MS = 0.5;
const PIECE_BYTES_FIRST_MIN = 4 * 1024;
const PIECE_BYTES_MIN = 512;
const GROWTH = 8;
/** How much of what a piece has cost counts at once for the first piece of others, when it was more, and when it was less. */
const DEARER_WEIGHT = 0.25;
const CHEAPER_WEIGHT = 0.05;
/** Links whose bytes cost so many times what others' cost are remembered: acknowledgements are small, and make queues move. */
const DEAR_FACTOR = 2;
const DEAR_COUNT_MAX = 10_000;
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
  /** It is not read (true) until its turn has come (false). What is read all the same goes through `take`. */
  setWaiting(isWaiting: boolean): void;
}

export class FairShare {
  private last: Sharer | null = null;
  private rowBytes = 0;
  private endsMs = -1;
  /** Links with bytes here, and what their next piece is. */
  private readonly waiting: Map<Sharer, Waiting> = new Map();
  private waitingBytes = 0;
  /** Links that are not read, and how many milliseconds their last chunk took. */
  private readonly resting: Map<Sharer, number> = new Map();
  /** Lately, of all links. */
  private nsPerByte = 100;
  /** Lately, of links with dear bytes. */
  private readonly dear: Map<Sharer, number> = new Map();
  private pieceMs = 0;
  private letOutMs = 0;
  private isScheduled = false;

  constructor(
    private readonly reportBug: (error: unknown) => void,
    /** Called before much is handled, now and then: what others have earned leaves first. */
    private readonly flush: () => void = () => {},
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

  /** Handles the chunk, or as much of it as there is time for. */
  take(link: Sharer, chunk: Buffer): void {
    this.rowBytes = 0;
    const known = this.waiting.get(link);
    if (known !== undefined) {
      known.chunks.push(chunk); // it was on its way before the link stopped reading
      this.waitingBytes += chunk.length;
      return;
    }
    if (this.waitingBytes > WAITING_BYTES_MAX) return link.handleShare(chunk);
    let leftMs = this.leftMs();
    const startMs = this.endsMs - leftMs;
    if (startMs - this.letOutMs > LET_OUT_MS) this.letOut(startMs);
    const nsPerByte = Math.max(this.nsPerByte, this.dear.get(link) ?? 0);
    let pieceBytes = Math.max(PIECE_BYTES_FIRST_MIN, Math.floor((TURN_MS * 1e6) / nsPerByte));
    let at = 0;
    do {
      const piece = chunk.subarray(at, at + pieceBytes);
      pieceBytes = this.handle(link, piece);
      at += piece.length;
      leftMs = this.leftMs();
      if (leftMs <= 0 && (this.pieceMs / piece.length) * (chunk.length - at) > WHOLE_MS) break;
    } while (at < chunk.length && !link.isPaused);
    if (at < chunk.length) this.keep(link, chunk.subarray(at), pieceBytes);
    else if (leftMs <= 0) this.resting.set(link, this.endsMs - leftMs - startMs);
    else return;
    link.setWaiting(true);
    this.schedule();
  }

  /** A link closes: what waits of it is the caller's now. */
  withdraw(link: Sharer): readonly Buffer[] {
    this.resting.delete(link);
    this.dear.delete(link);
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
    this.pieceMs = ms;
    const nsPerByte = (ms * 1e6) / piece.length;
    this.noteDear(link, nsPerByte);
    this.nsPerByte += (nsPerByte - this.nsPerByte) * (nsPerByte > this.nsPerByte ? DEARER_WEIGHT : CHEAPER_WEIGHT);
    if (ms < PIECE_MS / 2) return Math.max(PIECE_BYTES_FIRST_MIN, piece.length) * GROWTH;
    return Math.max(PIECE_BYTES_MIN, Math.floor((piece.length * PIECE_MS) / Math.max(ms, PIECE_MS)));
  }

  private noteDear(link: Sharer, nsPerByte: number): void {
    if (nsPerByte < this.nsPerByte * DEAR_FACTOR && !this.dear.has(link)) return;
    if (this.dear.size >= DEAR_COUNT_MAX) this.dear.clear();
    this.dear.set(link, nsPerByte);
  }

  private keep(link: Sharer, bytes: Buffer, pieceBytes: number): void {
    this.resting.delete(link); // it is not read as long as bytes of it wait
    this.waiting.set(link, { chunks: [bytes], pieceBytes });
    this.waitingBytes += bytes.length;
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(this.nextTurn);
  }

  private letOut(nowMs: number): void {
    this.letOutMs = nowMs;
    this.flush();
  }

  private readonly nextTurn = (): void => {
    this.isScheduled = false;
    this.endsMs = -1;
    if (this.waiting.size > 0) {
      this.letOut(this.nowMs());
      this.handlePieces();
    }
    // As many as will probably fit into the turn, and always one.
    let expectedMs = 0;
    for (const [link, ms] of this.resting) {
      this.resting.delete(link);
      link.setWaiting(false);
      expectedMs += ms;
      if (expectedMs > TURN_MS) break;
    }
    if (this.resting.size > 0) this.schedule();
  };

  private handlePieces(): void {
    let isLeft = false;
    let count = this.waiting.size;
    for (const [link, waiting] of this.waiting) {
      if (count-- === 0) break; // from here on they have had their piece
      if (link.isPaused) continue;
      isLeft = true;
      if (this.leftMs() <= 0) break;
      this.handlePiece(link, waiting);
    }
    if (isLeft) this.schedule();
  }

  /** One link's bug must not keep the others waiting. */
  private handlePiece(link: Sharer, waiting: Waiting): void {
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
