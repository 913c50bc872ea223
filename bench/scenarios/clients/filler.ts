/**
 * Publishers at QoS 1 for sessions that are absent: as many messages as their windows let through, or on a timetable. What
 * is measured is the time to PUBACK, from when a message was sent, or paced, from when it was due.
 */
import { Histogram } from "#bench/load/histogram.ts";
import { preciseWait } from "#bench/load/precise-wait.ts";
import { Schedule } from "#bench/load/schedule.ts";
import { Connection, openAll } from "./connection.ts";
import { type PublishFrame, publishFrame } from "./packets.ts";
import { type Sessions, STAMP_BYTES } from "./sessions.ts";

const PUBACK = 4;
/** Bytes gathered for one publisher before the next one's turn. */
const TURN_BYTES = 32 * 1024;
const WAIT_NS_MAX = 5e6;
const QUIET_MS = 10_000;
const POLL_MS = 5;

export interface FillPlan {
  readonly port: number;
  readonly sessions: Sessions;
  readonly payloadBytes: number;
  /** Unacknowledged messages of each publisher. */
  readonly windowCount: number;
}

export class Filler {
  sentCount = 0;
  ackedCount = 0;
  /** To PUBACK, of messages that were sent, or due, while `isMeasuring`. */
  readonly latency: Histogram = new Histogram();
  isMeasuring = false;
  private publishers: Connection[] = [];
  private readonly frames: PublishFrame[];
  /** Of each publisher: the sessions it sends to, and how many messages it has sent. */
  private readonly targets: number[][];
  private readonly rounds: Uint32Array;
  private readonly freeIds: number[][];
  /** By publisher and packet id; NaN for what is not measured. */
  private readonly fromNs: Float64Array;
  private messagesMax = 0;
  private schedule: Schedule | undefined;
  private isPumpSet = false;
  private closedCount = 0;

  private constructor(private readonly plan: FillPlan) {
    const { sessions, payloadBytes, windowCount } = plan;
    if (payloadBytes < STAMP_BYTES) throw new Error(`a payload has ${STAMP_BYTES} bytes or more`);
    this.frames = Array.from({ length: sessions.count }, (_, session) =>
      publishFrame(sessions.topicOf(session), { version: 4, qos: 1, payloadBytes }),
    );
    this.targets = Array.from({ length: sessions.publishers }, (_, publisher) => sessions.sessionsOf(publisher));
    this.rounds = new Uint32Array(sessions.publishers);
    this.freeIds = this.targets.map(() => Array.from({ length: windowCount }, (_, i) => windowCount - i));
    this.fromNs = new Float64Array(sessions.publishers * (windowCount + 1));
  }

  static async open(plan: FillPlan): Promise<Filler> {
    const filler = new Filler(plan);
    const { publishers } = plan.sessions;
    filler.publishers = await openAll(publishers, publishers, (publisher) =>
      Connection.open({
        port: plan.port,
        clientId: `source${publisher}`,
        onPacket: (_, first, bytes, from) => first >> 4 === PUBACK && filler.handleAck(publisher, bytes, from),
        onClose: () => filler.closedCount++,
      }),
    );
    return filler;
  }

  /** As fast as windows allow, until `stop` or so many messages in all. */
  start(messagesMax: number): void {
    this.messagesMax = messagesMax;
    this.pump();
  }

  /** On a timetable, until `stop`. */
  startPaced(ratePerSec: number): void {
    this.messagesMax = Number.POSITIVE_INFINITY;
    const { publishers } = this.plan.sessions;
    const all = Array.from({ length: publishers }, (_, publisher) => publisher);
    const schedule = new Schedule(nowNs(), 1e9 / ratePerSec, publishers, all);
    this.schedule = schedule;
    const wait = preciseWait();
    const tick = (): void => {
      if (this.messagesMax === 0) return;
      const now = nowNs();
      schedule.takeDue(now, () => {});
      for (const publisher of all) {
        this.publishSome(publisher, schedule.dueCount(publisher, now));
        this.publishers[publisher].flush();
      }
      wait(Math.min(WAIT_NS_MAX, schedule.nextDueNs - nowNs()));
      setImmediate(tick);
    };
    tick();
  }

  /** Nothing more is sent; resolves when all is acknowledged, or nothing comes any more. */
  async stop(): Promise<void> {
    this.messagesMax = 0;
    await this.settle();
  }

  /** Resolves when all that `start` was to send is acknowledged, or nothing comes any more. */
  async settle(): Promise<void> {
    let last = -1;
    for (let sinceMs = performance.now(); performance.now() - sinceMs < QUIET_MS; await Bun.sleep(POLL_MS)) {
      if (this.ackedCount === this.sentCount && this.sentCount >= this.messagesMax) return;
      if (this.ackedCount !== last) sinceMs = performance.now();
      last = this.ackedCount;
    }
  }

  async leave(): Promise<void> {
    await Promise.all(this.publishers.map((publisher) => publisher.leave()));
  }

  faults(): string[] {
    const unackedCount = this.sentCount - this.ackedCount;
    return [
      unackedCount === 0 ? "" : `${unackedCount} not acknowledged`,
      this.closedCount === 0 ? "" : `${this.closedCount} publishers lost their connection`,
    ].filter(Boolean);
  }

  private handleAck(publisher: number, bytes: Buffer, from: number): void {
    const packetId = (bytes[from] << 8) | bytes[from + 1];
    const fromNs = this.fromNs[publisher * (this.plan.windowCount + 1) + packetId];
    if (!Number.isNaN(fromNs)) this.latency.add(nowNs() - fromNs);
    this.ackedCount++;
    this.freeIds[publisher].push(packetId);
    if (this.schedule !== undefined || this.isPumpSet || this.sentCount >= this.messagesMax) return;
    this.isPumpSet = true;
    setImmediate(this.pump);
  }

  private readonly pump = (): void => {
    this.isPumpSet = false;
    for (let publisher = 0; publisher < this.publishers.length; publisher++)
      this.publishSome(publisher, Number.POSITIVE_INFINITY);
  };

  /** Up to `untilRound` messages of this publisher since the start, as far as its window and its socket allow. */
  private publishSome(publisher: number, untilRound: number): void {
    const { rounds, plan, schedule } = this;
    const { sessions, windowCount } = plan;
    const connection = this.publishers[publisher];
    const freeIds = this.freeIds[publisher];
    const targets = this.targets[publisher];
    while (rounds[publisher] < untilRound && freeIds.length > 0 && connection.unsentBytes < TURN_BYTES) {
      if (this.sentCount >= this.messagesMax) return;
      const round = rounds[publisher]++;
      const session = targets[round % targets.length];
      const frame = this.frames[session];
      const at = connection.reserve(frame.bytes.length);
      const out = connection.buffer;
      const packetId = freeIds.pop()!;
      out.set(frame.bytes, at);
      out.writeUInt16BE(packetId, at + frame.packetIdAt);
      out.writeUInt32BE(session, at + frame.payloadAt);
      out.writeUInt32BE(publisher, at + frame.payloadAt + 4);
      out.writeUInt32BE(++sessions.sent[session * sessions.publishers + publisher], at + frame.payloadAt + 8);
      const dueNs = schedule === undefined ? nowNs() : schedule.dueNs(publisher, round);
      this.fromNs[publisher * (windowCount + 1) + packetId] = this.isMeasuring ? dueNs : Number.NaN;
      this.sentCount++;
    }
  }
}

function nowNs(): number {
  return performance.now() * 1e6;
}
