/**
 * What makes a client publish: one frame per QoS, copied as often as windows or timetable allow into the link's buffer, with
 * packet id, number and time patched in. Nothing is allocated per message.
 *
 *   closed loop   deliveries in flight (`credit` gives them back) and, at QoS 1 and 2, free packet ids
 *   paced         the timetable, and at QoS 1 and 2 free packet ids: what must wait is sent late, with its due time
 *   free          what the socket takes
 */
import type { Link } from "./link.ts";
import { copiesOf, type Plan } from "./plan.ts";
import type { PublishFrame } from "./packet.ts";
import type { Schedule } from "./schedule.ts";
import { NUMBER_AT, TIME_AT, writeTime, writeUint32 } from "./stamp.ts";
import type { Tally } from "./tally.ts";

/** Written when so much is gathered. */
const FLUSH_BYTES = 64 * 1024;
/** A free publisher lets others go on after so many messages. */
const TURN_MESSAGES = 1000;

const FREE = 0;
const AWAITS_PUBACK = 1;
const AWAITS_PUBREC = 2;
const AWAITS_PUBCOMP = 3;

const PUBACK = 4;
const PUBREC = 5;

/** What a publisher needs of its link. */
export type Outlet = Pick<Link, "buffer" | "pendingBytes" | "isBlocked" | "reserve" | "commit" | "flush">;

export interface PublisherOptions {
  readonly plan: Plan;
  readonly index: number;
  readonly tally: Tally;
  /** By QoS; those that the mix has. */
  readonly frames: readonly (PublishFrame | undefined)[];
  /** The same for all but the first, by topic alias. */
  readonly aliasFrames: readonly (PublishFrame | undefined)[] | undefined;
  readonly receiveMax: number;
}

export class Publisher {
  sent = 0;
  /** The timetable of a paced run; known when the run starts. */
  schedule: Schedule | undefined;
  /** Deliveries seen or given up, of sent × copies. */
  private credited = 0;
  readonly copies: number;
  private readonly creditMax: number;
  private readonly messagesMax: number;
  private readonly numbers = [0, 0, 0];
  private readonly freeIds: Uint16Array;
  private freeCount: number;
  private readonly idStates: Uint8Array;
  private readonly idTimes: Float64Array;

  constructor(private readonly options: PublisherOptions) {
    const { plan, index } = options;
    this.copies = copiesOf(plan, index);
    this.creditMax = Math.max(this.copies, Math.floor(plan.outstanding / plan.pubs));
    // Message r of this one is number index + r × pubs of the run, in paced runs and in others.
    this.messagesMax = plan.limit === 0 ? Infinity : Math.max(0, Math.ceil((plan.limit - index) / plan.pubs));
    const window = plan.qosCycle.every((qos) => qos === 0) ? 0 : Math.min(plan.window, options.receiveMax);
    this.freeCount = window;
    this.freeIds = Uint16Array.from({ length: window }, (_, i) => window - i);
    this.idStates = new Uint8Array(window + 1);
    this.idTimes = new Float64Array(window + 1);
  }

  get isDone(): boolean {
    return this.sent >= this.messagesMax;
  }

  /** Unacknowledged messages. */
  get unackedCount(): number {
    return this.freeIds.length - this.freeCount;
  }

  credit(deliveries: number): void {
    this.credited += deliveries;
  }

  /** All that is in flight is given up. */
  reopen(): void {
    this.credited = this.sent * this.copies;
  }

  /** Messages that are due by the timetable and not sent. */
  behindCount(nowNs: number): number {
    if (this.schedule === undefined) return 0;
    return Math.min(this.schedule.dueCount(this.options.index, nowNs), this.messagesMax) - this.sent;
  }

  /** Publishes what it may. True when it has more to send in the next tick. */
  pump(link: Outlet, nowNs: number): boolean {
    const { plan, frames, aliasFrames } = this.options;
    let count = this.room(nowNs);
    const isFree = count === Infinity;
    if (isFree) count = TURN_MESSAGES;
    count = Math.min(count, this.messagesMax - this.sent);
    while (count > 0 && !link.isBlocked) {
      const qos = plan.qosCycle[this.sent % plan.qosCycle.length];
      const isAliased = aliasFrames !== undefined && this.sent > 0;
      const frame = (isAliased ? aliasFrames : frames)[qos]!;
      // Frames that are the same go out in batches.
      const isSame = plan.qosCycle.length === 1 && isAliased === (aliasFrames !== undefined);
      const wanted = isSame ? Math.min(count, Math.ceil(FLUSH_BYTES / frame.bytes.length)) : 1;
      const batch = qos === 0 ? wanted : Math.min(wanted, this.freeCount);
      if (batch === 0) return false;
      this.publish(link, frame, qos, batch, nowNs);
      count -= batch;
      if (link.pendingBytes >= FLUSH_BYTES) link.flush();
    }
    return isFree && !link.isBlocked && !this.isDone;
  }

  private room(nowNs: number): number {
    const { plan, index } = this.options;
    const { schedule } = this;
    if (schedule !== undefined) return schedule.dueCount(index, nowNs) - this.sent;
    if (this.copies === 0) return Infinity;
    const inFlight = this.sent * this.copies - this.credited;
    return plan.subs === 0 ? Infinity : Math.floor((this.creditMax - inFlight) / this.copies);
  }

  /** Appends `count` messages of one frame: the first is copied, then what is there is doubled, then each is patched. */
  private publish(link: Outlet, frame: PublishFrame, qos: number, count: number, nowNs: number): void {
    const { schedule, numbers, sent } = this;
    const { tally, index } = this.options;
    const { packetIdAt, isStamped } = frame;
    const length = frame.bytes.length;
    const total = length * count;
    const at = link.reserve(total);
    const { buffer } = link;
    frame.bytes.copy(buffer, at);
    if (isStamped) writeTime(buffer, at + frame.payloadAt + TIME_AT, nowNs);
    for (let done = length; done < total; done *= 2)
      buffer.copyWithin(at + done, at, at + Math.min(done, total - done));
    let payloadAt = at + frame.payloadAt;
    for (let i = 0; i < count; i++, payloadAt += length) {
      const timeNs = schedule === undefined ? nowNs : schedule.dueNs(index, sent + i);
      if (qos > 0) this.takeId(buffer, at + i * length + packetIdAt, qos, timeNs);
      if (isStamped) writeUint32(buffer, payloadAt + NUMBER_AT, numbers[qos] + i);
      if (schedule === undefined) continue;
      if (isStamped) writeTime(buffer, payloadAt + TIME_AT, timeNs);
      if (tally.isMeasuring) tally.lateness.add(nowNs - timeNs);
    }
    link.commit(at + total);
    numbers[qos] += count;
    this.sent = sent + count;
    tally.counts.sent += count;
    if (tally.isMeasuring) tally.counts.measuredSent += count;
  }

  private takeId(buffer: Buffer, at: number, qos: number, timeNs: number): void {
    const id = this.freeIds[--this.freeCount];
    this.idStates[id] = qos === 1 ? AWAITS_PUBACK : AWAITS_PUBREC;
    this.idTimes[id] = timeNs;
    buffer[at] = id >> 8;
    buffer[at + 1] = id;
  }

  /** Takes a PUBACK, PUBREC or PUBCOMP. True when a PUBREL is to follow. */
  handleAck(type: number, id: number, reasonCode: number, nowNs: number): boolean {
    const { tally } = this.options;
    const state = id < this.idStates.length ? this.idStates[id] : FREE;
    const wanted = type === PUBACK ? AWAITS_PUBACK : type === PUBREC ? AWAITS_PUBREC : AWAITS_PUBCOMP;
    if (state !== wanted) {
      tally.counts.strayAcks++;
      return false;
    }
    const isRefused = reasonCode >= 0x80;
    if (isRefused) tally.counts.nacks++;
    if (type === PUBREC && !isRefused) {
      this.idStates[id] = AWAITS_PUBCOMP;
      return true;
    }
    this.idStates[id] = FREE;
    this.freeIds[this.freeCount++] = id;
    if (tally.isMeasuring) tally.ack.add(nowNs - this.idTimes[id]);
    return false;
  }
}
