/**
 * Random stories of a publisher, a subscriber and two members of a share group, whose links break, whose sessions end, on a
 * broker that is killed between any two batches. What was acknowledged arrives: at QoS 1 once or more, at QoS 2 once, in order.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Random } from "#base/random.ts";
import type { Pipe } from "#test/support/client.ts";
import { DurableBroker, type DurableConfig } from "#test/support/durable-broker.ts";
import { check } from "#test/support/fuzz.ts";
import { decodePacket, frameLength } from "#test/support/packet-decoder.ts";
import { encodePacket, type Packet, type PacketInput } from "#test/support/packets.ts";
import { payloadOf } from "./published.ts";

const SMALL: DurableConfig = { store: { pageCount: 3, pageBytes: 4096, logBytesMax: 3000 } };
const CONFIGS: readonly DurableConfig[] = [
  SMALL,
  { ...SMALL, readsAtOnce: true },
  { store: { pageCount: 100, pageBytes: 60, checkpointSec: 1 } },
  {
    ...SMALL,
    priorities: [
      { filter: "t/2", priority: 5 },
      { filter: "s/1", priority: 3 },
    ],
  },
];
const TOPICS = ["t/1", "t/2", "s/1", "s/2"] as const;

/** A client with a session of its own, as MQTT wants it; its answers leave when the story says so. */
abstract class Actor {
  private pipe: Pipe | undefined;
  private tail: Uint8Array = Buffer.alloc(0);
  /** CONNACK has come. */
  isOpen = false;
  /** It has forgotten its session, and the broker has not confirmed that it has too. */
  private mustStartClean = false;

  constructor(
    readonly name: string,
    private readonly receiveMax: number,
  ) {}

  connect(broker: DurableBroker, isClean = false): void {
    this.kill();
    if (isClean) this.discard();
    this.mustStartClean ||= isClean;
    const cleanStart = this.mustStartClean;
    const pipe = broker.openPipe();
    this.pipe = pipe;
    this.tail = Buffer.alloc(0);
    pipe.onData = (bytes) => {
      if (this.pipe === pipe) this.read(bytes);
    };
    this.send({
      type: "connect",
      clientId: this.name,
      cleanStart,
      properties: [
        ["sessionExpiryIntervalSec", 100_000],
        ["receiveMaximum", this.receiveMax],
      ],
    });
  }

  kill(): void {
    const { pipe } = this;
    this.forget();
    pipe?.close();
  }

  /** The link is gone, without a word to the broker. */
  forget(): void {
    this.isOpen = false;
    this.pipe = undefined;
  }

  protected send(packet: PacketInput): void {
    this.pipe?.write(encodePacket(packet, 5));
  }

  /** `send`, later; nothing when the link is another by then. */
  protected later(packet: PacketInput): () => void {
    const { pipe } = this;
    return () => {
      if (pipe === this.pipe) this.send(packet);
    };
  }

  private read(bytes: Uint8Array): void {
    this.tail = Buffer.concat([this.tail, bytes]);
    for (let length = frameLength(this.tail); length; length = frameLength(this.tail)) {
      const packet = decodePacket(this.tail.subarray(0, length), 5);
      this.tail = this.tail.subarray(length);
      if (packet.type !== "connack") this.handle(packet);
      else {
        expect(packet.reasonCode).toBe(0);
        this.isOpen = true;
        this.mustStartClean = false;
        this.handleOpen(packet.sessionPresent);
      }
    }
  }

  /** Forgets what it kept for its session. */
  protected abstract discard(): void;
  protected abstract handleOpen(isPresent: boolean): void;
  protected abstract handle(packet: Packet): void;
}

interface Sent {
  readonly topic: string;
  readonly payload: string;
  readonly packetId: number;
  isReceived: boolean;
}

class Publisher extends Actor {
  readonly accepted: Record<string, string[]> = {};
  private readonly unacked: Sent[] = [];
  private lastId = 0;

  publish(topic: string, payload: string): void {
    if (!this.isOpen) return;
    const sent = { topic, payload, packetId: ++this.lastId, isReceived: false };
    this.unacked.push(sent);
    this.sendOne(sent, false);
  }

  private sendOne({ topic, payload, packetId, isReceived }: Sent, dup: boolean): void {
    if (isReceived) this.send({ type: "pubrel", packetId });
    else this.send({ type: "publish", topic, payload, qos: Number(topic.at(-1)), packetId, dup });
  }

  protected discard(): void {
    this.unacked.length = 0;
  }

  protected handleOpen(): void {
    for (const sent of this.unacked) this.sendOne(sent, true);
  }

  protected handle(packet: Packet): void {
    if (!("packetId" in packet)) return;
    const at = this.unacked.findIndex(({ packetId }) => packetId === packet.packetId);
    const sent = this.unacked[at];
    if (!sent) return;
    if (packet.type !== "pubcomp" && !sent.isReceived) (this.accepted[sent.topic] ??= []).push(sent.payload);
    if (packet.type === "pubrec") {
      sent.isReceived = true;
      this.send({ type: "pubrel", packetId: sent.packetId });
    } else this.unacked.splice(at, 1);
  }

  get isDone(): boolean {
    return this.unacked.length === 0;
  }
}

class Subscriber extends Actor {
  /** Payloads by topic, as the application gets them. */
  readonly got: Record<string, string[]> = {};
  private readonly receipts = new Set<number>();
  private answers: (() => void)[] = [];
  /** It answers at once. */
  isQuick = false;

  constructor(
    name: string,
    receiveMax: number,
    private readonly filters: readonly string[],
  ) {
    super(name, receiveMax);
  }

  /** Leaves its groups, or joins them again. */
  leave(isJoining: boolean): void {
    const { filters } = this;
    if (!this.isOpen) return;
    if (isJoining) this.join();
    else this.send({ type: "unsubscribe", packetId: 2, filters: [...filters] });
  }

  private join(): void {
    const subscriptions = this.filters.map((filter) => ({ filter, qos: Number(filter.at(-1)) }));
    this.send({ type: "subscribe", packetId: 1, subscriptions });
  }

  answer(count: number): void {
    for (const answer of this.answers.splice(0, count)) answer();
  }

  protected discard(): void {
    this.receipts.clear();
  }

  protected handleOpen(isPresent: boolean): void {
    this.answers = [];
    if (isPresent) return;
    this.discard();
    this.join();
  }

  protected handle(packet: Packet): void {
    if (packet.type === "publish") {
      const { topic, qos, packetId } = packet;
      if (qos === 1 || !this.receipts.has(packetId!)) (this.got[topic] ??= []).push(payloadOf(packet));
      if (qos === 2) this.receipts.add(packetId!);
      this.answers.push(this.later({ type: qos === 1 ? "puback" : "pubrec", packetId: packetId! }));
    } else if (packet.type === "pubrel") {
      this.receipts.delete(packet.packetId);
      this.answers.push(this.later({ type: "pubcomp", packetId: packet.packetId }));
    }
    if (this.isQuick) this.answer(Infinity);
  }
}

const step = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.constant("publish"), fc.nat({ max: 99 })) },
  { weight: 5, arbitrary: fc.tuple(fc.constant("answer"), fc.nat({ max: 99 })) },
  { weight: 6, arbitrary: fc.tuple(fc.constant("commit"), fc.nat({ max: 2 })) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("time"), fc.nat({ max: 60 })) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("connect"), fc.nat({ max: 3 })) },
  { weight: 3, arbitrary: fc.tuple(fc.constant("kill"), fc.nat({ max: 3 })) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom("rest", "reads"), fc.nat({ max: 1 })) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("leave"), fc.nat({ max: 1 })) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("end"), fc.constant(0)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("crash"), fc.nat({ max: 1000 })) },
);

const steps = fc.array(step, { minLength: 5, maxLength: 80, size: "max" });

class Story {
  private broker: DurableBroker;
  private readonly pub = new Publisher("pub", 20);
  private readonly ann = new Subscriber("ann", 2, ["t/1", "t/2"]);
  private readonly bob = new Subscriber("bob", 2, ["$share/g/s/1", "$share/g/s/2"]);
  private readonly cat = new Subscriber("cat", 2, ["$share/g/s/1", "$share/g/s/2"]);
  private readonly actors = [this.pub, this.ann, this.bob, this.cat];
  private count = 0;
  private hasCrashed = false;
  private hasEnded = false;

  constructor(config: DurableConfig) {
    this.broker = new DurableBroker(config);
    for (const actor of this.actors) actor.connect(this.broker);
    this.broker.commitsAtOnce = false;
  }

  do(kind: string, n: number): void {
    const { broker } = this;
    const actor = this.actors[n % 4]!;
    if (kind === "publish") {
      broker.together(() => {
        for (let i = 0; i <= n % 5; i++) this.pub.publish(TOPICS[(n + i) % 4]!, `${this.count++}`);
        if (n > 80) this.ann.answer(1); // in the same tick
        if (n < 10) this.bob.kill();
      });
    } else if (kind === "answer") {
      const who = [this.ann, this.bob, this.cat][n % 3]!;
      broker.together(() => who.answer(1 + (n % 7)));
    } else if (kind === "commit") broker.commit(n === 2 ? undefined : broker.disk.durableBatch + 1);
    else if (kind === "time") broker.advanceMs(1 + n);
    else if (kind === "connect") actor.connect(broker);
    else if (kind === "kill") actor.kill();
    else if (kind === "leave") this.cat.leave(n === 1);
    else if (kind === "rest") broker.rest();
    else if (kind === "reads") {
      if (n === 0) broker.holdReads();
      else broker.answerReads();
    } else if (kind === "end") {
      this.hasEnded = true;
      this.cat.connect(broker, true);
    } else this.crash(n);
  }

  private crash(n: number): void {
    this.hasCrashed = true;
    for (const actor of this.actors) actor.forget();
    this.broker = this.broker.crash(n % 3 === 0 ? undefined : new Random(n));
    expect(this.broker.restored.damage).toEqual([]);
    this.broker.commitsAtOnce = false;
    this.pub.connect(this.broker);
  }

  /** Everybody comes back and answers until nothing is left; then all promises are looked at. */
  finish(): void {
    const { broker } = this;
    broker.answerReads();
    broker.commitsAtOnce = true;
    broker.commit();
    for (const actor of this.actors) {
      if (actor instanceof Subscriber) actor.isQuick = true;
      actor.connect(broker);
    }
    broker.advance(2);
    expect(this.pub.isDone).toBe(true);
    broker.stop();
    const accepted = (topic: string): string[] => this.pub.accepted[topic] ?? [];
    const got = (who: Subscriber, topic: string): string[] => who.got[topic] ?? [];
    for (const topic of ["t/1", "t/2"]) {
      const firsts = [...new Set(got(this.ann, topic))];
      expect(firsts).toEqual(accepted(topic).toSorted((a, b) => Number(a) - Number(b)));
    }
    expect(got(this.ann, "t/2")).toHaveLength(accepted("t/2").length);
    const shared = (topic: string): string[] => [...got(this.bob, topic), ...got(this.cat, topic)];
    expect(new Set(shared("s/1"))).toEqual(new Set(accepted("s/1")));
    expect(shared("s/2").toSorted()).toEqual([...new Set(shared("s/2"))].sort());
    // What was in flight to a session that ended may have arrived, and goes to nobody else.
    if (!this.hasEnded || !this.hasCrashed) expect(new Set(shared("s/2"))).toEqual(new Set(accepted("s/2")));
    broker.quiet();
    expect(broker.engine.messages.count).toBe(0);
    for (let i = 0; i < 3; i++) broker.rest();
    expect([...broker.disk.bodies, ...broker.written.pages]).toEqual([]);
    expect(broker.crash().restored).toMatchObject({ messageCount: 0, damage: [] });
  }
}

describe("the promises hold", () => {
  test("in any story", () => {
    check(
      fc.property(fc.constantFrom(...CONFIGS), steps, (config, list) => {
        const story = new Story(config);
        for (const [kind, n] of list) story.do(kind, n);
        story.finish();
      }),
      Number(process.env["MANTOU_STORIES"] ?? 150),
    );
  }, 120_000);
});
