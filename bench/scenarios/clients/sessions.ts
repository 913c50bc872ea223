/**
 * Persistent sessions that are absent while messages for them are published, and come back for them. Each message is
 * checked: a session must get what each publisher sent it, all of it, once, in order.
 *
 *   payload   0 session | 4 publisher | 8 number of the message, from 1, of this publisher for this session (big-endian)
 *
 * With fewer sessions than publishers several publishers share a session, else a publisher has several.
 */
import { Connection, openAll } from "./connection.ts";
import { subscribePacket } from "./packets.ts";

const PUBLISH = 3;
const SUBACK = 9;
const QUIET_MS = 10_000;
const POLL_MS = 5;
export const STAMP_BYTES = 12;

export class Sessions {
  /** Sent by stream, that is session × publishers + publisher; the publisher counts here. */
  readonly sent: Uint32Array;
  receivedCount = 0;
  /** Of each session: when its first and its latest message came, ms of `performance.now`; 0 for never. */
  readonly firstAtMs: Float64Array;
  readonly lastAtMs: Float64Array;
  private readonly last: Uint32Array;
  private readonly receivedOf: Uint32Array;
  private lastMs = 0;
  private duplicateCount = 0;
  private disorderCount = 0;
  private foreignCount = 0;
  private newCount = 0;
  private closedCount = 0;

  constructor(
    private readonly port: number,
    readonly count: number,
    readonly publishers: number,
  ) {
    this.sent = new Uint32Array(count * publishers);
    this.last = new Uint32Array(count * publishers);
    this.receivedOf = new Uint32Array(count);
    this.firstAtMs = new Float64Array(count);
    this.lastAtMs = new Float64Array(count);
  }

  topicOf(session: number): string {
    return `kept/${String(session).padStart(6, "0")}`;
  }

  /** The sessions that a publisher sends to, in turn. */
  sessionsOf(publisher: number): number[] {
    const { count, publishers } = this;
    const all = Array.from({ length: count }, (_, session) => session);
    return count < publishers ? [publisher % count] : all.filter((session) => session % publishers === publisher);
  }

  /** Each client connects, subscribes at QoS 1 and leaves. */
  async make(pendingMax: number): Promise<void> {
    await openAll(this.count, pendingMax, async (session) => {
      const subscribed = Promise.withResolvers<void>();
      const connection = await Connection.open({
        port: this.port,
        clientId: this.clientIdOf(session),
        isPersistent: true,
        onPacket: (_, first) => first >> 4 === SUBACK && subscribed.resolve(),
        onClose: () => subscribed.reject(new Error("the broker closed while sessions were made")),
      });
      connection.send(subscribePacket(1, [this.topicOf(session)], { version: 4, qos: 1 }));
      await subscribed.promise;
      await connection.leave();
      return connection;
    });
  }

  /** The client of a session comes back and takes what waits, and what comes later. */
  async join(session: number): Promise<Connection> {
    const connection = await Connection.open({
      port: this.port,
      clientId: this.clientIdOf(session),
      isPersistent: true,
      onPacket: (link, first, bytes, from) => first >> 4 === PUBLISH && this.receive(session, link, bytes, from),
      onClose: () => this.closedCount++,
    });
    if (!connection.hadSession) this.newCount++;
    return connection;
  }

  /** Resolves when these sessions have got all that was sent to them, or when nothing comes any more. */
  async settle(sessions: readonly number[]): Promise<void> {
    this.lastMs = performance.now();
    const isMissing = (session: number): boolean => this.receivedOf[session] < this.sentTo(session);
    for (const session of sessions)
      while (isMissing(session) && performance.now() - this.lastMs < QUIET_MS) await Bun.sleep(POLL_MS);
  }

  sentTo(session: number): number {
    const from = session * this.publishers;
    return this.sent.subarray(from, from + this.publishers).reduce((sum, count) => sum + count, 0);
  }

  faults(): string[] {
    const sentCount = this.sent.reduce((sum, count) => sum + count, 0);
    const lostCount = sentCount - (this.receivedCount - this.duplicateCount - this.foreignCount);
    const found: [number, string][] = [
      [lostCount, "lost"],
      [this.duplicateCount, "duplicates"],
      [this.disorderCount, "out of order"],
      [this.foreignCount, "foreign"],
      [this.newCount, "sessions were gone"],
      [this.closedCount, "clients lost their connection"],
    ];
    return found.filter(([count]) => count !== 0).map(([count, what]) => `${count} ${what}`);
  }

  private clientIdOf(session: number): string {
    return `kept${session}`;
  }

  /** After a gap the missing ones would be late, and count as out of order; else they are lost. */
  private receive(session: number, link: Connection, bytes: Buffer, from: number): void {
    const idAt = from + 2 + ((bytes[from] << 8) | bytes[from + 1]);
    link.acknowledge(0x40, (bytes[idAt] << 8) | bytes[idAt + 1]);
    this.lastMs = performance.now();
    this.lastAtMs[session] = this.lastMs;
    if (this.firstAtMs[session] === 0) this.firstAtMs[session] = this.lastMs;
    this.receivedCount++;
    this.receivedOf[session]++;
    const publisher = bytes.readUInt32BE(idAt + 6);
    const number = bytes.readUInt32BE(idAt + 10);
    const stream = session * this.publishers + publisher;
    if (bytes.readUInt32BE(idAt + 2) !== session || publisher >= this.publishers || number > this.sent[stream])
      this.foreignCount++;
    else if (number === this.last[stream]) this.duplicateCount++;
    else if (number < this.last[stream]) this.disorderCount++;
    else this.last[stream] = number;
  }
}
