/**
 * Topic aliases of one connection (MQTT 5.0 §3.3.2.3.4). Both directions are small: a client sets its own limit, the
 * broker `mqtt.topicAliasMax`.
 */
import { equalBytes, hashBytes } from "#base/bytes.ts";

/** Client to broker: alias → topic, as the client sets them. */
export class InboundAliases {
  private readonly topics: (Buffer | undefined)[] = [];

  /** A copy is kept. */
  set(alias: number, bytes: Buffer, start: number, end: number): void {
    this.topics[alias] = Buffer.from(bytes.subarray(start, end));
  }

  get(alias: number): Buffer | undefined {
    return this.topics[alias];
  }
}

/**
 * Broker to client: the first topics that are delivered get the aliases, first come first served, and keep them. A topic
 * that comes later is sent in full: replacing aliases would cost more bytes than it saves when topics are many.
 */
export class OutboundAliases {
  private readonly slots: Int32Array;
  private readonly topics: Buffer[] = [Buffer.alloc(0)];

  constructor(private readonly max: number) {
    let size = 8;
    while (size < max * 2) size *= 2;
    this.slots = new Int32Array(size); // alias by hash of topic, 0 empty
  }

  /** The client allows one more. [MQTT-3.3.2-11] */
  get hasRoom(): boolean {
    return this.topics.length <= this.max;
  }

  /** The alias that `add` would give. */
  get next(): number {
    return this.topics.length;
  }

  /** The topic's alias, or 0. */
  find(bytes: Buffer, start: number, end: number): number {
    return this.slots[this.slotOf(bytes, start, end)];
  }

  /** Gives the next alias to a topic that has none; the topic must go out with it once. */
  add(bytes: Buffer, start: number, end: number): void {
    this.slots[this.slotOf(bytes, start, end)] = this.next;
    this.topics.push(Buffer.from(bytes.subarray(start, end)));
  }

  /** Where the topic stands, or would stand. */
  private slotOf(bytes: Buffer, start: number, end: number): number {
    const mask = this.slots.length - 1;
    let s = hashBytes(bytes, start, end, 0) & mask;
    for (; this.slots[s] !== 0; s = (s + 1) & mask) {
      const topic = this.topics[this.slots[s]];
      if (topic.length === end - start && equalBytes(topic, 0, bytes, start, topic.length)) break;
    }
    return s;
  }
}
