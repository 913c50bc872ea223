/**
 * A closed loop for topics and subscribers that no general generator offers: publishers send to topics that `topicOf`
 * picks, as long as fewer than `outstandingCount` deliveries are under way, and each delivery is checked.
 *
 *   payload   0 publisher | 4 number of the message, rising per publisher (both big-endian)
 *
 * A subscriber has at most one subscription that matches a topic, so from one publisher it sees rising numbers; another
 * order is reordering, the same number again a duplicate, and deliveries that never come are loss.
 */
import { serverProcesses, usageOf } from "#bench/load/server-usage.ts";
import type { Outcome } from "#bench/scenarios/scenario.ts";
import type { Connection } from "./connection.ts";
import type { PublishFrame } from "./packets.ts";

const LAST_MS = 5000;
const PUBLISH = 3;
const PUBACK = 4;
const PUBREC = 5;
const PUBREL = 6;
const PUBCOMP = 7;
/** Bytes of PUBLISH gathered for one publisher before the next one's turn. */
const TURN_BYTES = 32 * 1024;

export interface LoopPlan {
  readonly publishers: readonly Connection[];
  readonly subscriberCount: number;
  readonly qos: number;
  readonly windowCount: number;
  readonly outstandingCount: number;
  readonly brokerPid: number;
  readonly warmupSec: number;
  readonly durationSec: number;
  /** The frame of the next message and the deliveries that it must bring. */
  next(publisher: number): { readonly frame: PublishFrame; readonly copies: number };
}

export class Loop {
  private readonly last: Float64Array;
  private readonly sequence: Uint32Array;
  private readonly freeIds: number[][];
  private expected = 0;
  private delivered = 0;
  private duplicates = 0;
  private reordered = 0;
  private refused = 0;
  private turn = 0;
  private isRunning = false;
  private isPumpScheduled = false;

  constructor(private readonly plan: LoopPlan) {
    this.last = new Float64Array(plan.subscriberCount * plan.publishers.length).fill(-1);
    this.sequence = new Uint32Array(plan.publishers.length);
    this.freeIds = plan.publishers.map(() => Array.from({ length: plan.windowCount }, (_, i) => plan.windowCount - i));
  }

  async run(): Promise<Outcome> {
    const { plan } = this;
    this.isRunning = true;
    this.pump();
    await Bun.sleep(plan.warmupSec * 1000);
    const pids = serverProcesses(plan.brokerPid);
    const before = { at: performance.now(), delivered: this.delivered, cpu: process.cpuUsage(), broker: usageOf(pids) };
    await Bun.sleep(plan.durationSec * 1000);
    const sec = (performance.now() - before.at) / 1000;
    const count = this.delivered - before.delivered;
    const own = process.cpuUsage(before.cpu);
    const after = usageOf(pids);
    const brokerSec = after.cpuSec - before.broker.cpuSec;
    this.isRunning = false;
    for (const end = performance.now() + LAST_MS; this.delivered < this.expected && performance.now() < end;)
      await Bun.sleep(20);
    return {
      metrics: {
        messagesPerSec: count / sec,
        brokerUsPerMessage: (brokerSec * 1e6) / Math.max(1, count),
        brokerCpuPct: (brokerSec / sec) * 100,
        generatorCpuPct: (own.user + own.system) / sec / 1e4,
        rssBytes: after.rssBytes,
      },
      faults: this.faults(),
    };
  }

  /** A packet of a subscriber; `subscriber` is its index. */
  toSubscriber(subscriber: number, connection: Connection, first: number, bytes: Buffer, from: number): void {
    const type = first >> 4;
    if (type === PUBREL) connection.acknowledge(0x70, bytes.readUInt16BE(from));
    if (type !== PUBLISH) return;
    const qos = (first >> 1) & 3;
    let at = from + 2 + ((bytes[from] << 8) | bytes[from + 1]);
    if (qos > 0) {
      connection.acknowledge(qos === 1 ? 0x40 : 0x50, (bytes[at] << 8) | bytes[at + 1]);
      at += 2;
    }
    if (connection.version === 5) at = afterProperties(bytes, at);
    const publisher = bytes.readUInt32BE(at);
    const number = bytes.readUInt32BE(at + 4);
    const stream = subscriber * this.plan.publishers.length + publisher;
    const last = this.last[stream];
    if (number === last) this.duplicates++;
    else if (number < last) this.reordered++;
    else this.last[stream] = number;
    this.delivered++;
    this.schedule();
  }

  /** A packet of a publisher. */
  toPublisher(publisher: number, connection: Connection, first: number, bytes: Buffer, from: number, to: number): void {
    const type = first >> 4;
    if (type !== PUBACK && type !== PUBREC && type !== PUBCOMP) return;
    const packetId = bytes.readUInt16BE(from);
    const isRefused = to - from > 2 && bytes[from + 2] >= 0x80;
    if (isRefused) this.refused++;
    if (type === PUBREC && !isRefused) return connection.acknowledge(0x62, packetId);
    this.freeIds[publisher].push(packetId);
    this.schedule();
  }

  private faults(): string[] {
    const lost = this.expected - this.delivered;
    const found: [number, string][] = [
      [Math.max(0, lost), "lost"],
      [Math.max(this.duplicates, -lost), "duplicates"],
      [this.reordered, "reordered"],
      [this.refused, "refused"],
    ];
    return found.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  }

  private schedule(): void {
    if (this.isPumpScheduled || !this.isRunning) return;
    this.isPumpScheduled = true;
    setImmediate(() => {
      this.isPumpScheduled = false;
      this.pump();
    });
  }

  private pump(): void {
    const { publishers } = this.plan;
    for (let idle = 0; idle < publishers.length && this.isRunning; this.turn = (this.turn + 1) % publishers.length)
      idle = this.publishSome(this.turn) ? 0 : idle + 1;
  }

  /** True when the publisher sent anything. */
  private publishSome(publisher: number): boolean {
    const { plan, freeIds } = this;
    const connection = plan.publishers[publisher];
    const share = Math.ceil(plan.outstandingCount / plan.publishers.length);
    if (connection.unsentBytes > TURN_BYTES) return false;
    let sent = 0;
    while (sent < share && this.expected - this.delivered < plan.outstandingCount) {
      if (plan.qos > 0 && freeIds[publisher].length === 0) break;
      const { frame, copies } = plan.next(publisher);
      const at = connection.reserve(frame.bytes.length);
      const out = connection.buffer;
      out.set(frame.bytes, at);
      if (frame.packetIdAt >= 0) out.writeUInt16BE(freeIds[publisher].pop()!, at + frame.packetIdAt);
      out.writeUInt32BE(publisher, at + frame.payloadAt);
      out.writeUInt32BE(this.sequence[publisher]++, at + frame.payloadAt + 4);
      this.expected += copies;
      sent += copies;
    }
    return sent > 0;
  }
}

function afterProperties(bytes: Buffer, at: number): number {
  let length = 0;
  let next = at;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[next++];
    length |= (byte & 127) << shift;
    if (byte < 128) return next + length;
  }
}
