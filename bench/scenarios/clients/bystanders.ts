/**
 * Clients that want nothing but to talk, while others log in: pairs that publish steadily at QoS 0. How long a message takes
 * from one to the other is what somebody else's login costs them.
 *
 *   payload   0 number of the message, rising per pair (uint32) | 8 when it was sent (float64, ms of this process)
 */
import { Histogram } from "#bench/load/histogram.ts";
import { LOGIN } from "#bench/compare/access-files.ts";
import { Connection, openAll } from "./connection.ts";
import { publishFrame, subscribePacket } from "./packets.ts";

const SUBACK = 9;
const PUBLISH = 3;
const TICK_MS = 2;
const LAST_MS = 5000;
const PAYLOAD_BYTES = 64;

export class Bystanders {
  private latency = new Histogram();
  private sentCount = 0;
  private receivedCount = 0;
  private wrongCount = 0;
  private closedCount = 0;
  private timer: ReturnType<typeof setInterval> | undefined;

  private constructor(
    private readonly publishers: readonly Connection[],
    private readonly numbers: Uint32Array,
  ) {}

  /** `pairs` of clients, subscribed; they are silent until `start`. */
  static async open(port: number, pairs: number): Promise<Bystanders> {
    const publishers: Connection[] = [];
    const all = new Bystanders(publishers, new Uint32Array(pairs));
    const onClose = (): void => void all.closedCount++;
    await openAll(pairs, pairs, async (pair) => {
      const subscribed = Promise.withResolvers<void>();
      const subscriber = await Connection.open({
        port,
        clientId: `listener${pair}`,
        login: LOGIN,
        onPacket: (_, first, bytes, __, to) => {
          if (first >> 4 === SUBACK && bytes[to - 1] === 0) subscribed.resolve();
          else if (first >> 4 === SUBACK) subscribed.reject(new Error("a bystander may not subscribe"));
          else if (first >> 4 === PUBLISH) all.receive(pair, bytes, to - PAYLOAD_BYTES);
        },
        onClose,
      });
      subscriber.send(subscribePacket(1, [`bench/beside/${pair}`], { version: 4, qos: 0 }));
      await subscribed.promise;
      return subscriber;
    });
    const open = (pair: number): Promise<Connection> =>
      Connection.open({ port, clientId: `talker${pair}`, login: LOGIN, onPacket: () => {}, onClose });
    publishers.push(...(await openAll(pairs, pairs, open)));
    return all;
  }

  /** Of all pairs together. */
  start(ratePerSec: number): void {
    const frames = this.publishers.map((_, pair) =>
      publishFrame(`bench/beside/${pair}`, { version: 4, qos: 0, payloadBytes: PAYLOAD_BYTES }),
    );
    const startMs = performance.now();
    this.timer = setInterval(() => {
      const nowMs = performance.now();
      for (const due = ((nowMs - startMs) / 1000) * ratePerSec; this.sentCount < due;) {
        const number = this.sentCount++;
        const pair = number % frames.length;
        const { bytes, payloadAt } = frames[pair];
        bytes.writeUInt32BE(Math.floor(number / frames.length), payloadAt);
        bytes.writeDoubleBE(nowMs, payloadAt + 8);
        this.publishers[pair].send(bytes);
      }
    }, TICK_MS);
  }

  /** Since the start or the last call. */
  takeLatency(): Histogram {
    const { latency } = this;
    this.latency = new Histogram();
    return latency;
  }

  /** Ends it; what was lost on the way are faults. */
  async stop(): Promise<string[]> {
    clearInterval(this.timer);
    for (const end = performance.now() + LAST_MS; this.receivedCount < this.sentCount && performance.now() < end;)
      await Bun.sleep(10);
    const faults: [number, string][] = [
      [this.sentCount - this.receivedCount, "lost"],
      [this.wrongCount, "out of order"],
      [this.closedCount, "bystanders lost their connection"],
    ];
    return faults.filter(([count]) => count !== 0).map(([count, what]) => `${count} ${what}`);
  }

  private receive(pair: number, bytes: Buffer, at: number): void {
    if (bytes.readUInt32BE(at) !== this.numbers[pair]) this.wrongCount++;
    this.numbers[pair] = bytes.readUInt32BE(at) + 1;
    this.receivedCount++;
    this.latency.add((performance.now() - bytes.readDoubleBE(at + 8)) * 1e6);
  }
}
