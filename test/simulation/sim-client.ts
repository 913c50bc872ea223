/**
 * A correct MQTT client: keeps its half of the session over connections, sends again what was not acknowledged,
 * acknowledges in order and late, recognises a repeated QoS 2 PUBLISH, and keeps a log of what the application saw.
 */
import type { Packet } from "#test/support/packets.ts";
import { prop } from "#test/support/packets.ts";
import {
  type ConnectInput,
  type Input,
  type Message,
  numberIn,
  type SessionModel,
  type SimVersion,
  type SubscribeWish,
} from "./model.ts";
import type { SimLink } from "./sim-link.ts";

interface Outgoing {
  readonly message: Message;
  isReceived: boolean;
}

export class SimClient {
  link: SimLink | null = null;
  isConnected = false;
  isMute = false;
  /** A clean start was asked for and not confirmed: the next must ask again. */
  needsCleanStart = false;
  private session: SessionModel | null = null;
  keepAliveSec = 0;
  lastSentMs = 0;
  /** What goes out with the next flush, in this order. */
  private answers: Input[] = [];
  private readonly outgoing = new Map<number, Outgoing>();
  private readonly incoming = new Set<number>();
  private readonly awaited = new Set<number>();
  private lastId = 0;
  private serverAliasMax = 0;
  private readonly aliases = new Map<string, number>();
  readonly filters = new Set<string>();
  /** How often the application was given each message, by QoS. */
  readonly received: Map<number, number>[] = [new Map(), new Map(), new Map()];
  /** Messages of QoS 1 and 2 that the broker acknowledged. */
  readonly published = new Set<Message>();
  nowMs = 0;
  /** Told of each PUBLISH that the application is given. */
  onDelivered: (packet: Extract<Packet, { type: "publish" }>) => void = () => {};
  /** Told when it starts a session of which it knows nothing. */
  onForget = (): void => {};

  constructor(
    readonly id: string,
    readonly version: SimVersion,
    /** Filter of the share group it works for, or undefined. */
    readonly share: string | undefined,
    private readonly receiveMax: number,
  ) {}

  get answerCount(): number {
    return this.answers.length;
  }

  get isIdle(): boolean {
    return this.answers.length === 0 && this.outgoing.size === 0 && this.awaited.size === 0;
  }

  /** What it has under way, for people. */
  get state(): string {
    return `answers ${this.answers.length}, publishes ${[...this.outgoing.keys()]}, requests ${[...this.awaited]}`;
  }

  connect(link: SimLink, input: ConnectInput): void {
    this.link = link;
    this.isConnected = this.isMute = false;
    this.keepAliveSec = input.keepAliveSec;
    this.answers = [];
    this.awaited.clear();
    this.aliases.clear();
    if (input.isCleanStart) this.forget();
    this.needsCleanStart = input.isCleanStart;
    this.send(input);
  }

  private forget(): void {
    this.outgoing.clear();
    this.incoming.clear();
    this.onForget();
  }

  /** The connection is gone. */
  leave(): void {
    this.link = null;
    this.isConnected = false;
  }

  send(input: Input): void {
    this.lastSentMs = this.nowMs;
    this.link!.send(input);
  }

  canPublish(qos: number): boolean {
    return qos === 0 || this.outgoing.size < this.receiveMax;
  }

  publish(message: Message, isAliased: boolean): void {
    const packetId = message.qos === 0 ? 0 : this.nextId();
    if (message.qos > 0) this.outgoing.set(packetId, { message, isReceived: false });
    let alias = 0;
    let isAliasOnly = false;
    if (isAliased && this.serverAliasMax > 0) {
      isAliasOnly = this.aliases.has(message.topic);
      alias = this.aliases.get(message.topic) ?? (this.aliases.size % this.serverAliasMax) + 1;
      for (const [topic, other] of this.aliases)
        if (other === alias && topic !== message.topic) this.aliases.delete(topic);
      this.aliases.set(message.topic, alias);
    }
    this.send({ type: "publish", message, packetId, isDup: false, alias, isAliasOnly });
  }

  subscribe(wishes: readonly SubscribeWish[], id: number): void {
    const packetId = this.nextId();
    this.awaited.add(packetId);
    for (const { filter } of wishes) this.filters.add(filter);
    this.send({ type: "subscribe", packetId, id, wishes });
  }

  unsubscribe(filters: readonly string[]): void {
    const packetId = this.nextId();
    this.awaited.add(packetId);
    this.send({ type: "unsubscribe", packetId, filters });
  }

  private nextId(): number {
    do this.lastId = (this.lastId % 65_535) + 1;
    while (this.outgoing.has(this.lastId) || this.awaited.has(this.lastId));
    return this.lastId;
  }

  /** Sends the first `count` answers. */
  flush(count: number): void {
    for (const answer of this.answers.splice(0, count)) this.send(answer);
  }

  ping(): void {
    const isDue = this.keepAliveSec > 0 && this.nowMs - this.lastSentMs >= this.keepAliveSec * 500;
    if (this.isConnected && !this.isMute && isDue) this.send({ type: "pingreq" });
  }

  handle(packet: Packet): void {
    switch (packet.type) {
      case "connack":
        if (packet.reasonCode !== 0) return;
        this.isConnected = true;
        this.serverAliasMax = (prop(packet, "topicAliasMaximum") as number | undefined) ?? 0;
        this.needsCleanStart = false;
        this.handleSession(packet.sessionPresent);
        return;
      case "publish":
        return this.handlePublish(packet);
      case "pubrel":
        return this.answer("pubcomp", packet.packetId, this.incoming.delete(packet.packetId));
      case "puback":
      case "pubcomp":
        return this.handleDone(packet.packetId, packet.reasonCode ?? 0);
      case "pubrec":
        return this.handlePubrec(packet.packetId, packet.reasonCode ?? 0);
      case "suback":
      case "unsuback":
        this.awaited.delete(packet.packetId);
        return;
      default:
    }
  }

  /**
   * A session that was made anew, with a CONNACK that got lost, is present and not the one this client knows. No client
   * could tell; this one is told, since what follows from that is the protocol's fault and not the broker's.
   */
  private handleSession(isPresent: boolean): void {
    const { session } = this.link!.model;
    if (!isPresent || session !== this.session) this.forget();
    else this.resume();
    this.session = session;
  }

  private resume(): void {
    for (const [packetId, { message, isReceived }] of this.outgoing) {
      if (isReceived) this.send({ type: "pubrel", packetId, reasonCode: 0 });
      else this.send({ type: "publish", message, packetId, isDup: true, alias: 0, isAliasOnly: false });
    }
  }

  private handlePublish(packet: Extract<Packet, { type: "publish" }>): void {
    const { qos, packetId } = packet;
    const isKnown = qos === 2 && this.incoming.has(packetId!);
    if (!isKnown) {
      const no = numberIn(packet.payload);
      const log = this.received[qos]!;
      if (no >= 0) log.set(no, (log.get(no) ?? 0) + 1);
      this.onDelivered(packet);
    }
    if (qos === 1) this.answer("puback", packetId!, true);
    if (qos < 2) return;
    this.incoming.add(packetId!);
    this.answer("pubrec", packetId!, true);
  }

  private handleDone(packetId: number, reasonCode: number): void {
    const done = this.outgoing.get(packetId);
    if (done && reasonCode < 0x80) this.published.add(done.message);
    this.outgoing.delete(packetId);
  }

  private handlePubrec(packetId: number, reasonCode: number): void {
    const outgoing = this.outgoing.get(packetId);
    if (reasonCode >= 0x80) return void this.outgoing.delete(packetId); // refused: no PUBREL
    if (outgoing) outgoing.isReceived = true;
    this.answer("pubrel", packetId, outgoing !== undefined);
  }

  private answer(type: "puback" | "pubrec" | "pubrel" | "pubcomp", packetId: number, isKnown: boolean): void {
    const reasonCode = isKnown || this.version === 4 ? 0 : 0x92;
    this.answers.push({ type, packetId, reasonCode });
  }
}
