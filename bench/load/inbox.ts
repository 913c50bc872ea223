/**
 * What becomes of a message that a subscriber of this process gets: known again by its stamp, checked, timed, counted.
 *
 * In a loop every stream is known before the run, and anything else is foreign. `sub` listens to whoever publishes: it
 * checks what has a stamp, counts the rest as unstamped, and cannot know what was lost before the first message or after
 * the last one of a stream.
 */
import { isLoop, isPaired, type Plan } from "./plan.ts";
import { hasStamp, NUMBER_AT, readTime, readUint32, SENDER_AT, TIME_AT } from "./stamp.ts";
import { DUPLICATE, FRESH, OpenStreams, StreamCheck } from "./stream-check.ts";
import type { Tally } from "./tally.ts";

const QOS_COUNT = 3;
const RETAIN = 1;
const SUBSCRIBERS_MAX = 2 ** 20;

export class Inbox {
  readonly check: StreamCheck;
  /** Time of the last message. */
  lastNs = 0;
  private readonly open: OpenStreams | undefined;
  private readonly isPaired: boolean;
  /** Deliveries of a shared subscription reach any member, in no order. */
  private readonly isShared: boolean;

  /** `credit` gives a publisher back a part of its window. */
  constructor(
    private readonly plan: Plan,
    private readonly run: number,
    private readonly tally: Tally,
    private readonly credit: (publisher: number, deliveries: number) => void,
  ) {
    this.isPaired = isPaired(plan.command);
    this.isShared = plan.filter.startsWith("$share/");
    this.open = isLoop(plan.command) ? undefined : new OpenStreams();
    const streams = plan.subs * (this.isPaired ? 1 : plan.pubs) * QOS_COUNT;
    this.check = this.open?.check ?? new StreamCheck(streams);
  }

  /** Takes a PUBLISH with its first byte, and the payload in [start, end), for subscriber `index` of the run. */
  accept(index: number, first: number, bytes: Buffer, start: number, end: number, nowNs: number): void {
    const { counts } = this.tally;
    if ((first & RETAIN) !== 0 && this.open === undefined) {
      counts.retained++; // an earlier run's
      return;
    }
    if (!hasStamp(bytes, start, end)) {
      if (this.open === undefined) counts.foreign++;
      else this.countUnstamped(end - start);
      return;
    }
    const run = readUint32(bytes, start + 4);
    const sender = readUint32(bytes, start + SENDER_AT);
    const sentQos = sender & 3;
    const { subQos } = this.plan;
    if (((first >> 1) & 3) !== (sentQos < subQos ? sentQos : subQos)) counts.wrongQos++;
    const number = readUint32(bytes, start + NUMBER_AT);
    if (this.open === undefined) {
      if (!this.acceptOfLoop(index, run, sender, number, end - start)) return;
    } else if ((first & RETAIN) !== 0) {
      counts.retained++; // sent long ago: neither its number nor its time says anything
      return;
    } else if (!this.isShared && this.open.accept(run, sender * SUBSCRIBERS_MAX + index, number) === DUPLICATE) return;
    this.lastNs = nowNs;
    counts.delivered++;
    const { tally } = this;
    const dueNs = readTime(bytes, start + TIME_AT);
    // Another run's times have another zero.
    if (dueNs >= tally.windowStartNs && dueNs < tally.windowEndNs && run === this.run) tally.latency.add(nowNs - dueNs);
    if (!tally.isMeasuring) return;
    counts.measuredDelivered++;
    counts.measuredBytes += end - start;
  }

  /** False when the message is none that was to come. */
  private acceptOfLoop(index: number, run: number, sender: number, number: number, payloadBytes: number): boolean {
    const { plan, tally } = this;
    const publisher = sender >>> 2;
    const isOurs = run === this.run && publisher < plan.pubs && (!this.isPaired || publisher === index % plan.pubs);
    if (!isOurs) {
      tally.counts.foreign++;
      return false;
    }
    if (payloadBytes !== plan.payloadBytes) tally.counts.damaged++;
    const stream = (this.isPaired ? index : index * plan.pubs + publisher) * QOS_COUNT + (sender & 3);
    const verdict = this.check.accept(stream, number);
    // What was passed over no longer holds the window; when it comes late, it has been credited already.
    if (verdict === FRESH) this.credit(publisher, 1 + this.check.gap);
    return verdict !== DUPLICATE;
  }

  private countUnstamped(payloadBytes: number): void {
    const { counts, isMeasuring } = this.tally;
    counts.unstamped++;
    counts.delivered++;
    if (!isMeasuring) return;
    counts.measuredDelivered++;
    counts.measuredBytes += payloadBytes;
  }

  /** Brings the counters of the check into the tally. */
  copyFaults(): void {
    const { counts } = this.tally;
    counts.duplicates = this.check.duplicates;
    counts.reordered = this.check.reordered;
    counts.missing = this.check.missing;
  }
}
