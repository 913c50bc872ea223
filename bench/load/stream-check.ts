/**
 * Checks what arrives. A stream is what one subscriber gets of one publisher, topic and QoS; its messages are numbered
 * from 0, and must come each once and in order. Exact also when they do not: numbers that were passed over are kept in a
 * set, so a late one is told from a duplicate.
 *
 *   next   [stream]  the number that comes next: the only thing touched while all is well
 *   missing{stream}  numbers below it that have not come
 */

export const FRESH = 0;
export const LATE = 1;
export const DUPLICATE = 2;

/** Numbers kept in sets, over all streams: 100 MB or so. Beyond it gaps are counted, and a late message is a duplicate. */
const MISSING_MAX = 2_000_000;

export class StreamCheck {
  duplicates = 0;
  reordered = 0;
  /** Passed over and not come since. The tail of a stream is not in it: nobody here knows how long it was to be. */
  missing = 0;
  /** What the last FRESH one passed over. */
  gap = 0;
  private next: Uint32Array;
  private readonly sets = new Map<number, Set<number>>();
  private keptCount = 0;

  constructor(streams: number) {
    this.next = new Uint32Array(streams);
  }

  /** The first number of a stream that does not start at 0. */
  begin(stream: number, number: number): void {
    if (stream >= this.next.length) {
      const next = new Uint32Array(Math.max(stream + 1, this.next.length * 2));
      next.set(this.next);
      this.next = next;
    }
    this.next[stream] = number;
  }

  accept(stream: number, number: number): number {
    const next = this.next[stream];
    if (number === next) {
      this.next[stream] = next + 1;
      this.gap = 0;
      return FRESH;
    }
    return number > next ? this.passOver(stream, next, number) : this.acceptOld(stream, number);
  }

  private passOver(stream: number, from: number, to: number): number {
    this.next[stream] = to + 1;
    this.gap = to - from;
    this.missing += this.gap;
    let set = this.sets.get(stream);
    if (set === undefined) this.sets.set(stream, (set = new Set()));
    for (let number = from; number < to && this.keptCount < MISSING_MAX; number++, this.keptCount++) set.add(number);
    return FRESH;
  }

  private acceptOld(stream: number, number: number): number {
    if (this.sets.get(stream)?.delete(number) === true) {
      this.keptCount--;
      this.missing--;
      this.reordered++;
      return LATE;
    }
    this.duplicates++;
    return DUPLICATE;
  }
}

/** Streams that are not known before: those of other generators. Each starts where it was first heard. */
export class OpenStreams {
  readonly check: StreamCheck = new StreamCheck(64);
  private readonly runs = new Map<number, Map<number, number>>();
  private count = 0;

  /** `source` is anything below 2⁵³ that tells subscriber, publisher and QoS apart. */
  accept(run: number, source: number, number: number): number {
    let streams = this.runs.get(run);
    if (streams === undefined) this.runs.set(run, (streams = new Map()));
    let stream = streams.get(source);
    if (stream === undefined) {
      stream = this.count++;
      streams.set(source, stream);
      this.check.begin(stream, number);
    }
    return this.check.accept(stream, number);
  }
}
