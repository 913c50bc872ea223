/**
 * Third part of the twin (see twin.ts): each PUBLISH that the broker sends must be one that is owed, with the right
 * content, in the right order, with a packet id that is free and room in the window.
 */
import type { Packet } from "#test/support/packets.ts";
import { prop, props } from "#test/support/packets.ts";
import {
  DONE,
  type Expectation,
  type LinkModel,
  NEVER,
  numberIn,
  type ReplayModel,
  SENT,
  type SessionModel,
  WAITING,
} from "./model.ts";
import type { StoreMirror } from "./store-mirror.ts";
import { TwinRouting } from "./twin-routing.ts";
import type { Weather } from "./weather.ts";

/** A message that the broker has put in flight and sends after its commit. */
export interface Held {
  readonly clientId: string;
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: number;
  readonly isRetain: boolean;
  readonly ids: readonly number[];
  readonly packetId: number;
}

type PublishOutput = Extract<Packet, { type: "publish" }>;

export class TwinDeliveries extends TwinRouting {
  /** First transmissions by QoS. */
  readonly sentCounts = [0, 0, 0];

  constructor(
    weather: Weather,
    protected readonly mirror: StoreMirror | undefined,
  ) {
    super(weather);
  }

  /** At QoS 2 to a stored session a retained message is read now and sent later: what it is then is what it must be now. */
  onHeld({ clientId, topic, payload, qos, isRetain, ids, packetId }: Held): void {
    const session = this.current.get(clientId);
    if (!session) return this.fail(`message for ${clientId}, which has no session`);
    session.hasUsedIds = true;
    const no = numberIn(payload);
    const isExact = (each: Expectation): boolean =>
      each.state === WAITING &&
      each.heldId === 0 &&
      (no < 0 ? each.message.payload.length === 0 && each.message.topic === topic : each.message.no === no) &&
      each.qos === qos &&
      each.isRetain === isRetain &&
      each.ids.join() === [...ids].sort((a, b) => a - b).join();
    let each = session.waiting.find(isExact);
    const replay = each ? undefined : this.pickReplay(session, topic, isExact);
    if (replay) {
      each = replay.pending.get(topic)!;
      replay.pending.delete(topic);
      session.waiting.push(each);
      this.checkOrder(session, each, topic);
    }
    if (each) each.heldId = packetId; // else it came through a share group
  }

  protected handleDelivery(link: LinkModel, packet: PublishOutput, size: number): void {
    const { session } = link;
    if (!session || link.state !== "open") return this.fail(`PUBLISH on link ${link.no}, which is ${link.state}`);
    this.check(link.isWritable, () => `PUBLISH of ${size} bytes on link ${link.no}, which takes no more`);
    const topic = this.topicOf(link, packet);
    const no = numberIn(packet.payload);
    if (packet.dup) return this.handleRepeat(link, session, packet, no);
    if (packet.qos === 2) this.checkStoredFirst(session, packet.packetId!, no);
    const each = this.claim(session, packet, topic, no, link);
    this.checkContent(link, packet, each, topic);
    this.sentCounts[packet.qos]!++;
    each.qos = packet.qos;
    each.link = link;
    each.session = session;
    each.state = packet.qos === 0 ? DONE : SENT;
    if (each.kind !== "replay" || each.heldId === 0) this.checkOrder(session, each, topic);
    if (packet.qos > 0) this.enterWindow(link, session, each, packet.packetId!);
  }

  /** Exactly once needs message and packet id on disk before the client has them. */
  private checkStoredFirst(session: SessionModel, packetId: number, no: number): void {
    if (!this.mirror || !session.isStored) return;
    const fault = this.mirror.faultOfPublish(session.clientId, packetId);
    this.check(fault === undefined, () => `message ${no} is sent to ${session.clientId} at QoS 2 and ${fault}`);
  }

  private topicOf(link: LinkModel, packet: PublishOutput): string {
    const alias = prop(packet, "topicAlias") as number | undefined;
    if (alias === undefined) return packet.topic;
    this.check(alias <= link.aliasMax, () => `alias ${alias} of ${link.aliasMax}`);
    if (packet.topic !== "") link.aliases.set(alias, packet.topic);
    return link.aliases.get(alias) ?? this.fail(`alias ${alias} stands for nothing`);
  }

  /** The delivery that this packet is, taken off what waits. */
  private claim(session: SessionModel, packet: PublishOutput, topic: string, no: number, link: LinkModel): Expectation {
    const ids = props(packet, "subscriptionIdentifier")
      .map(Number)
      .sort((a, b) => a - b);
    const isSame = (each: Expectation): boolean =>
      no < 0 ? each.message.payload.length === 0 && each.message.topic === topic : each.message.no === no;
    const isExact = (each: Expectation): boolean =>
      each.state === WAITING &&
      isSame(each) &&
      each.qos === packet.qos &&
      each.isRetain === packet.retain &&
      (each.heldId === 0 || each.heldId === packet.packetId) &&
      (link.version === 4 || each.ids.join() === ids.join());
    const isNow = (each: Expectation): boolean => each.session === session && isExact(each);
    const isHeld = (each: Expectation): boolean => each.heldId > 0 && isExact(each);
    const waiting = this.immediate.find(isNow) ?? session.waiting.find(isHeld) ?? session.waiting.find(isExact);
    if (waiting) {
      session.waiting = session.waiting.filter((each) => each !== waiting);
      return waiting;
    }
    const shared = this.claimShared(session, packet, isSame);
    if (shared) return shared;
    const replay = this.pickReplay(session, topic, isExact);
    if (replay) {
      const each = replay.pending.get(topic)!;
      replay.pending.delete(topic);
      return each;
    }
    const like = session.waiting.find(isSame);
    const hint = like ? `; owed is QoS ${like.qos}, retain ${like.isRetain}, ids ${like.ids}` : "";
    const what = `${no} on ${topic} at QoS ${packet.qos}, retain ${packet.retain}, ids ${ids}`;
    return this.fail(`${session.clientId} is sent message ${what}, which is not owed${hint}`);
  }

  /** Several SUBSCRIBE may have asked for the same: the newest value first, then the oldest wish. */
  private pickReplay(
    session: SessionModel,
    topic: string,
    isExact: (each: Expectation) => boolean,
  ): ReplayModel | undefined {
    let best: ReplayModel | undefined;
    const rank = (replay: ReplayModel): number => replay.pending.get(topic)!.version;
    for (const replay of session.replays) {
      const each = replay.pending.get(topic);
      if (each && isExact(each) && (!best || rank(replay) > rank(best))) best = replay;
    }
    return best;
  }

  private claimShared(
    session: SessionModel,
    packet: PublishOutput,
    isSame: (each: Expectation) => boolean,
  ): Expectation | undefined {
    const isFit = (each: Expectation): boolean =>
      isSame(each) &&
      packet.qos <= each.message.qos &&
      each.eligible.has(session) &&
      packet.retain <= each.message.isRetain;
    const isFresh = (each: Expectation): boolean => isFit(each) && each.expiryAtSec > this.nowSec;
    const shared = this.pickUnassigned(isFresh) ?? this.pickUnassigned(isFit);
    if (shared) {
      this.unassigned.delete(shared);
      return shared;
    }
    // A member is being ended: what it had not acknowledged at QoS 1 goes to another, before we are told of the end.
    for (const other of this.sessions) {
      if (other === session) continue;
      for (const each of other.inflight.values()) {
        if (each.kind !== "group" || each.qos !== 1 || !isSame(each)) continue;
        this.presume(other);
        if (!other.isEnding) continue;
        this.giveBack(each);
        return this.claimShared(session, packet, isSame);
      }
    }
    return undefined;
  }

  private checkContent(link: LinkModel, packet: PublishOutput, each: Expectation, topic: string): void {
    const { message } = each;
    this.check(topic === message.topic, () => `message ${message.no} arrives on ${topic}`);
    const isSame = Buffer.from(packet.payload).equals(message.payload);
    this.check(isSame, () => `message ${message.no} has another payload`);
    const isOther = each.kind === "group" && message.routedCount > 1; // which of its copies this is, nobody can say
    this.check(each.expiryAtSec > this.nowSec || isOther, () => `message ${message.no} is sent and has expired`);
    if (link.version === 4) return;
    const hasProperties = message.version === 5;
    const expirySec =
      hasProperties && each.expiryAtSec !== NEVER ? Math.max(0, each.expiryAtSec - this.nowSec) : undefined;
    const given = prop(packet, "messageExpiryIntervalSec");
    const isAmbiguous = each.kind === "group" && message.routedCount > 1 && given !== undefined;
    this.check(
      given === expirySec || isAmbiguous,
      () => `message ${message.no} expires in ${given}, not in ${expirySec}`,
    );
    const isMarked = prop(packet, "userProperty") !== undefined;
    this.check(isMarked === (hasProperties && message.hasUserProperty), () => `message ${message.no}: User Property`);
  }

  private checkOrder(session: SessionModel, each: Expectation, topic: string): void {
    const { message, version, kind } = each;
    if (kind === "live") {
      const key = `${message.publisher} ${topic} ${each.qos > 0}`;
      const last = session.lastSeq.get(key) ?? 0;
      this.check(each.seq > last, () => `${session.clientId} gets message ${message.no} on ${topic} out of order`);
      session.lastSeq.set(key, each.seq);
    }
    if (version === 0) return;
    const seen = session.seen.get(topic);
    const isOld = kind === "replay" && seen !== undefined && version < seen.version && message !== seen.message;
    this.check(!isOld, () => `${session.clientId} gets the retained ${message.no} of ${topic} after a newer one`);
    if (!seen || version > seen.version) session.seen.set(topic, each);
  }

  private enterWindow(link: LinkModel, session: SessionModel, each: Expectation, packetId: number): void {
    this.check(!session.inflight.has(packetId), () => `${session.clientId}: packet id ${packetId} is in use`);
    const isFirst = session.hasUsedIds || packetId === 1;
    this.check(isFirst, () => `the first packet id of ${session.clientId} is ${packetId}`);
    session.hasUsedIds = true;
    for (const other of session.inflight.values()) {
      const isBehind = other.state === SENT && other.link !== link;
      this.check(!isBehind, () => `${each.message.no} overtakes ${other.message.no}, which is to be sent again`);
    }
    each.packetId = packetId;
    session.inflight.set(packetId, each);
    this.checkWindow(link, session);
  }

  private checkWindow(link: LinkModel, session: SessionModel): void {
    let count = 0;
    for (const each of session.inflight.values()) if (each.link === link) count++;
    this.check(
      count <= link.windowMax,
      () => `${count} unacknowledged on link ${link.no}, ${link.windowMax} are allowed`,
    );
  }

  /** DUP: the same message with the same id, in the order of the first time. */
  private handleRepeat(link: LinkModel, session: SessionModel, packet: PublishOutput, no: number): void {
    const each = session.inflight.get(packet.packetId!);
    const isKnown = each?.state === SENT && (no < 0 || each.message.no === no) && each.qos === packet.qos;
    this.check(isKnown, () => `packet ${packet.packetId} of message ${no} is repeated and was not awaited`);
    if (each!.link === link) {
      const isRetry = link.version === 4 && this.weather.retrySec > 0;
      return this.check(isRetry, () => `message ${no} is sent twice on link ${link.no}`);
    }
    for (const other of session.inflight.values()) {
      if (other === each) break;
      const isBehind = other.state === SENT && other.link !== link;
      this.check(!isBehind, () => `the repeated ${no} overtakes ${other.message.no}`);
    }
    each!.link = link;
    this.checkWindow(link, session);
  }
}
