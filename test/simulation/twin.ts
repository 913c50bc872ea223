/**
 * The twin: a naive model of the broker that stands at its edge, sees every packet that reaches it and every packet it
 * sends, and says what must be true. It walks sessions and filters one by one and keeps every delivery ever owed.
 *
 *   client ─► bytes ─► SimLink ─┬─► engine ─┬─► SimLink ─► bytes ─► client
 *                               └─► Twin ◄──┘
 *
 *   twin-sessions.ts  who owns an id, expiry, wills      twin-routing.ts     what a message owes to whom, drops
 *   this file         inputs, acknowledgements, durability  twin-deliveries.ts  PUBLISH: content, order, ids, windows
 *
 * It is told of a packet before the engine handles it, so within a call it is ahead; `settle` is called after each call.
 */
import type { Packet } from "#test/support/packets.ts";
import {
  DONE,
  DROPPED,
  type Expectation,
  type Input,
  type LinkModel,
  type Owed,
  type PublishInput,
  RELEASED,
  SENT,
  type SessionModel,
  WAITING,
} from "./model.ts";
import type { StoreMirror, StoreView } from "./store-mirror.ts";
import { TwinDeliveries } from "./twin-deliveries.ts";
import type { Weather } from "./weather.ts";

type AckOutput = Extract<Packet, { type: "puback" | "pubrec" | "pubrel" | "pubcomp" | "suback" | "unsuback" }>;

const NO_MATCHING_SUBSCRIBERS = 0x10;
const NO_SUBSCRIPTION_EXISTED = 0x11;
const PACKET_ID_NOT_FOUND = 0x92;

/** The changes in the store that an answer stands for. */
const recordsOf: Record<string, readonly string[]> = {
  connack: ["session-opened", "session-ended"],
  puback: ["enqueued", "retained"],
  pubrec: ["enqueued", "retained", "receipt-added"],
  pubrel: ["received"],
  pubcomp: ["receipt-removed"],
  suback: ["subscribed"],
  unsuback: ["unsubscribed"],
};

export class Twin extends TwinDeliveries {
  packetsSent = 0;
  private callStartSeq = 0;
  private callStartCount = 0;

  constructor(
    weather: Weather,
    private readonly store: StoreView | undefined,
    mirror: StoreMirror | undefined,
  ) {
    super(weather, mirror);
  }

  private get storeSeq(): number {
    return this.store?.log.length ?? 0;
  }

  // ---- what reaches the broker

  /** A call into the broker begins. */
  beginCall(): void {
    this.callNo++;
    this.callStartSeq = this.storeSeq;
    this.callStartCount = this.expectations.length;
  }

  handleInput(link: LinkModel, input: Input): void {
    if (link.isLost) return;
    if (link.state === "opening") {
      link.held.push(input);
      return;
    }
    link.lastPacketMs = this.nowMs;
    const { session } = link;
    if (input.type === "connect") {
      link.state = "opening";
      link.silenceMaxMs = input.keepAliveSec * 1500;
      link.windowMax = Math.min(input.receiveMax ?? 65_535, this.weather.inflightCountMax);
      link.packetBytesMax = input.packetBytesMax ?? Infinity;
      link.aliasMax = input.aliasMax;
      link.connackRequired = -1;
      this.open(link, input);
      return;
    }
    this.handleOpen(link, session!, input);
  }

  private handleOpen(link: LinkModel, session: SessionModel, input: Exclude<Input, { type: "connect" }>): void {
    switch (input.type) {
      case "publish":
        return this.handlePublish(link, session, input);
      case "puback":
        this.finish(session, input.packetId, SENT, 1);
        return;
      case "pubcomp":
        this.finish(session, input.packetId, RELEASED, 2);
        return;
      case "pubrec":
        return this.handlePubrec(link, session, input.packetId);
      case "pubrel": {
        const isKnown = session.receipts.delete(input.packetId);
        return this.owePacket(link, "pubcomp", input.packetId, [isKnown ? 0 : PACKET_ID_NOT_FOUND]);
      }
      case "subscribe":
        for (const wish of input.wishes) this.subscribe(session, wish, input.id);
        return this.owePacket(
          link,
          "suback",
          input.packetId,
          input.wishes.map(({ qos }) => qos),
        );
      case "unsubscribe": {
        const codes = input.filters.map((filter) => (this.unsubscribe(session, filter) ? 0 : NO_SUBSCRIPTION_EXISTED));
        return this.owePacket(link, "unsuback", input.packetId, codes);
      }
      case "pingreq":
        link.pingsOwed++;
        return;
      default: {
        if (input.expirySec !== undefined) session.expirySec = Math.min(input.expirySec, this.weather.expirySecMax);
        if (input.reasonCode === 0) session.will = undefined;
        this.lose(link);
      }
    }
  }

  private handlePublish(link: LinkModel, session: SessionModel, input: PublishInput): void {
    const { message, packetId } = input;
    const receipt = message.qos === 2 ? session.receipts.get(packetId) : undefined;
    if (receipt) return this.owePacket(link, "pubrec", packetId, [0], receipt);
    this.route(message, session);
    if (message.qos === 0) return;
    const made = message.qos === 2 ? { required: -1 } : undefined;
    if (made) session.receipts.set(packetId, made);
    const codes = [0, NO_MATCHING_SUBSCRIBERS];
    this.owePacket(link, message.qos === 1 ? "puback" : "pubrec", packetId, codes, made);
  }

  private handlePubrec(link: LinkModel, session: SessionModel, packetId: number): void {
    const each = session.inflight.get(packetId);
    const isKnown = each !== undefined && each.qos === 2;
    if (isKnown) each.state = RELEASED;
    this.owePacket(link, "pubrel", packetId, [isKnown ? 0 : PACKET_ID_NOT_FOUND]);
  }

  private finish(session: SessionModel, packetId: number, state: number, qos: number): void {
    const each = session.inflight.get(packetId);
    if (each?.state !== state || each.qos !== qos) return;
    each.state = DONE;
    session.inflight.delete(packetId);
    session.link?.resumeOwed.delete(packetId);
  }

  private owePacket(
    link: LinkModel,
    type: Owed["type"],
    packetId: number,
    codes: readonly number[],
    receipt?: { required: number },
  ): void {
    link.owed.push({ type, packetId, codes, required: -1, receipt });
  }

  // ---- what the broker sends

  handleOutput(link: LinkModel, packet: Packet, size: number): void {
    this.packetsSent++;
    this.check(
      size <= link.packetBytesMax,
      () => `${packet.type} of ${size} bytes, ${link.packetBytesMax} are allowed`,
    );
    // Taken over while it waits for its own CONNACK, it is refused: there is no code for that, server unavailable it is.
    const isRefused = packet.type === "connack" && packet.reasonCode === 0x88 && link.state === "opening";
    if (link.isTakenOver && isRefused) return;
    const isOver = link.isTakenOver && packet.type !== "disconnect";
    this.check(!isOver, () => `${packet.type} on link ${link.no} after it was taken over`);
    switch (packet.type) {
      case "connack":
        return this.handleConnack(link, packet.reasonCode, packet.sessionPresent);
      case "publish":
        return this.handleDelivery(link, packet, size);
      case "pingresp":
        return this.check(link.pingsOwed-- > 0, () => "PINGRESP that nobody asked for");
      case "disconnect":
        return this.handleGoodbye(link, packet.reasonCode!);
      case "puback":
      case "pubrec":
      case "pubrel":
      case "pubcomp":
      case "suback":
      case "unsuback":
        return this.handleAnswer(link, packet);
      default:
        return this.fail(`the broker sent ${packet.type}`);
    }
  }

  private handleConnack(link: LinkModel, reasonCode: number, isPresent: boolean): void {
    this.check(link.state === "opening" && !link.isLost, () => "CONNACK out of place");
    if (reasonCode === 0x97 && link.session!.isOverflowed) return this.lose(link);
    this.check(reasonCode === 0, () => `CONNACK with 0x${reasonCode.toString(16)}`);
    this.check(isPresent === link.isPresent, () => `CONNACK says session present ${isPresent}, which is wrong`);
    this.checkDurable(link.connackRequired, "connack", 0);
    link.state = "open";
    link.lastPacketMs = this.nowMs;
    for (const [packetId, each] of link.session!.inflight) if (each.state === RELEASED) link.resumeOwed.add(packetId);
    for (const input of link.held.splice(0)) this.handleInput(link, input);
    for (const owed of link.owed) owed.required = 0; // several packets in one call: not known which waits for what
  }

  private checkDurable(required: number, type: string, packetId: number): void {
    if (!this.store) return;
    const until = required >= 0 ? required : this.seqOf(type);
    this.check(this.store.durableSeq >= until, () => `${type} ${packetId} left before it was durable`);
  }

  /** Number of the last change of this call that an answer of this type stands for. */
  private seqOf(type: string): number {
    for (let seq = this.storeSeq; seq > this.callStartSeq; seq--) {
      if (recordsOf[type]!.includes(this.store!.log[seq - 1]!.record)) return seq;
    }
    return 0;
  }

  private handleAnswer(link: LinkModel, packet: AckOutput): void {
    const { type, packetId } = packet;
    const owed = link.owed[0];
    if (type === "pubrel") this.checkReleased(link, packetId);
    if (type === "pubrel" && (owed?.type !== "pubrel" || owed.packetId !== packetId)) {
      const isResent = link.session?.inflight.get(packetId)?.state === RELEASED && this.mayRepeat(link, packetId);
      this.check(isResent, () => `PUBREL ${packetId} out of place on link ${link.no}`);
      link.resumeOwed.delete(packetId);
      return;
    }
    const isRight = owed?.type === type && owed.packetId === packetId;
    this.check(isRight, () => `${type} ${packetId} where ${owed?.type} ${owed?.packetId} was owed on link ${link.no}`);
    link.owed.shift();
    this.checkCodes(link, packet, owed!);
    this.checkDurable(owed!.receipt?.required ?? owed!.required, type, packetId);
  }

  /** Exactly once needs the subscriber's PUBREC on disk before our PUBREL. */
  private checkReleased({ session }: LinkModel, packetId: number): void {
    if (!this.mirror || !session?.isStored || session.inflight.get(packetId)?.state !== RELEASED) return;
    const fault = this.mirror.faultOfPubrel(session.clientId, packetId);
    this.check(fault === undefined, () => `PUBREL ${packetId} to ${session.clientId}: PUBREC ${fault}`);
  }

  private mayRepeat(link: LinkModel, packetId: number): boolean {
    return link.resumeOwed.has(packetId) || (link.version === 4 && this.weather.retrySec > 0);
  }

  private checkCodes(link: LinkModel, packet: AckOutput, owed: Owed): void {
    const wrong = (codes: readonly number[]): string =>
      `${packet.type} ${packet.packetId} says ${codes}, not ${owed.codes}`;
    if (packet.type === "suback" || (packet.type === "unsuback" && link.version === 5)) {
      const codes = packet.reasonCodes!;
      return this.check(codes.join() === owed.codes.join(), () => wrong(codes));
    }
    if (link.version === 5 && packet.type !== "unsuback") {
      const code = packet.reasonCode!;
      this.check(owed.codes.includes(code), () => wrong([code]));
    }
  }

  private handleGoodbye(link: LinkModel, reasonCode: number): void {
    const { session } = link;
    if (reasonCode === 0x8e) return this.check(link.isTakenOver, () => "DISCONNECT: taken over, but nobody has");
    const isSilent = reasonCode === 0x8d && this.isSilent(link);
    const isOver = reasonCode === 0x97 && session !== null && session.isOverflowed;
    this.check(isSilent || isOver, () => `DISCONNECT 0x${reasonCode.toString(16)} on link ${link.no}`);
    this.lose(link);
  }

  /** The broker has closed the link. */
  handleEnd(link: LinkModel): void {
    if (link.isLost) return;
    const isRight = this.isSilent(link) || link.session?.isOverflowed === true;
    this.check(isRight, () => `the broker closed link ${link.no} for no reason`);
    this.lose(link);
  }

  // ---- after each call

  settle(): void {
    for (const link of this.links) {
      for (const owed of link.owed) if (owed.required < 0) owed.required = this.seqOf(owed.type);
      if (link.connackRequired < 0) link.connackRequired = this.seqOf("connack");
      if (!link.isLost) this.settleLink(link);
    }
    for (const session of this.sessions) {
      for (const receipt of session.receipts.values())
        if (receipt.required < 0) receipt.required = this.seqOf("pubrec");
    }
    if (this.store) this.checkStored(this.store);
    for (const each of this.immediate) this.settleImmediate(each);
    this.immediate = [];
    this.settleSessions();
  }

  /** Each QoS 1 and 2 message for a persistent session was given to the store. */
  private checkStored(store: StoreView): void {
    let due = 0;
    for (const { kind, qos, state, session } of this.expectations.slice(this.callStartCount)) {
      if (kind === "live" && qos > 0 && state !== DROPPED && session!.expirySec > 0) due++;
    }
    const count = store.log.slice(this.callStartSeq).filter(({ record }) => record === "enqueued").length;
    this.check(count >= due, () => `${due} messages for persistent sessions, ${count} were given to the store`);
  }

  private settleLink(link: LinkModel): void {
    const durable = this.store?.durableSeq ?? 0;
    const owed = link.owed[0];
    const required = owed?.receipt?.required ?? owed?.required ?? 0;
    const isLate = link.state === "open" && owed !== undefined && (!this.store || required <= durable);
    // What stands before it in the gate may wait for longer; a repeated QoS 2 packet waits for all.
    if (isLate && !this.store) this.fail(`${owed.type} ${owed.packetId} is missing on link ${link.no}`);
    const late = link.state === "open" ? [...link.resumeOwed].filter((id) => !this.isReleaseHeld(link, id)) : [];
    this.check(late.length === 0, () => `PUBREL ${late} were not sent again on link ${link.no}`);
    this.check(link.state !== "opening" || this.store !== undefined, () => `CONNACK is missing on link ${link.no}`);
  }

  private isReleaseHeld({ session }: LinkModel, packetId: number): boolean {
    return !!session?.isStored && this.mirror?.faultOfPubrel(session.clientId, packetId) !== undefined;
  }

  private settleImmediate(each: Expectation): void {
    if (each.state !== WAITING) return;
    if (each.kind === "group") {
      this.unassigned.delete(each);
      return;
    }
    this.fail(`message ${each.message.no} at QoS 0 reached ${each.session!.clientId} neither way`);
  }

  /** Nothing that could be sent is waiting. */
  checkProgress(): void {
    for (const session of this.sessions) {
      const { link } = session;
      if (link?.state !== "open" || !link.isWritable) continue;
      let used = 0;
      let behind: Expectation | undefined;
      for (const each of session.inflight.values()) {
        if (each.state === RELEASED || each.link === link) used++;
        else behind ??= each;
      }
      const next = behind ?? session.waiting.find((each) => each.state === WAITING);
      const isHeld = !behind && this.mirror?.isHeld(session.clientId, (id) => session.inflight.has(id));
      const isStuck = next !== undefined && used < link.windowMax && !isHeld;
      this.check(!isStuck, () => `message ${next!.message.no} waits for ${session.clientId}, which could take it`);
    }
  }
}
