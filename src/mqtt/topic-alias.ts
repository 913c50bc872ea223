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
  /** Set by `find`: the alias is new, so the topic must be sent along once more. */
  isNew = false;
  private readonly slots: Int32Array;
  private readonly topics: Buffer[] = [Buffer.alloc(0)];

  constructor(private readonly max: number) {
    let size = 8;
    while (size < max * 2) size *= 2;
    this.slots = new Int32Array(size); // alias by hash of topic, 0 empty
  }

  /** The topic's alias, or 0 when none is left. */
  find(bytes: Buffer, start: number, end: number): number {
    const mask = this.slots.length - 1;
    let s = hashBytes(bytes, start, end, 0) & mask;
    for (; this.slots[s] !== 0; s = (s + 1) & mask) {
      const topic = this.topics[this.slots[s]];
      if (topic.length === end - start && equalBytes(topic, 0, bytes, start, topic.length)) {
        this.isNew = false;
        return this.slots[s];
      }
    }
    if (this.topics.length > this.max) return 0; // [MQTT-3.3.2-11]
    this.slots[s] = this.topics.push(Buffer.from(bytes.subarray(start, end))) - 1;
    this.isNew = true;
    return this.slots[s];
  }
}
