/**
 * Second part of the twin (see twin.ts): which deliveries a message makes, by trying every filter, and what becomes of
 * each: sent, or dropped with a reason that is true.
 */
import {
  DROPPED,
  type Expectation,
  isMatch,
  type Message,
  NEVER,
  numberIn,
  type ReplayModel,
  RELEASED,
  type RetainedModel,
  SENT,
  type SessionModel,
  sharedParts,
  type SubscriptionModel,
  type SubscribeWish,
  WAITING,
} from "./model.ts";
import { TwinSessions } from "./twin-sessions.ts";

/** What a hook tells of a message. */
interface Told {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: number;
}

export class TwinRouting extends TwinSessions {
  readonly retained = new Map<string, RetainedModel>();
  /** Messages of share groups that nobody has been sent yet. */
  readonly unassigned = new Set<Expectation>();
  /** QoS 0 that must be sent or dropped before the call returns. */
  protected immediate: Expectation[] = [];
  /** All deliveries ever owed, for the end. */
  readonly expectations: Expectation[] = [];
  readonly dropCounts = new Map<string, number>();
  private version = 0;
  private seq = 0;

  /** Hook: the broker routes a message. Only wills are news. */
  onRoute(told: Told): void {
    const message = this.messages[numberIn(told.payload)];
    if (message?.isWill) this.route(message, this.takeWill(message));
  }

  /** A message is routed now. Returns how many deliveries are owed. */
  route(message: Message, publisher: SessionModel | null): number {
    const expiryAtSec = message.expirySec === undefined ? NEVER : this.nowSec + message.expirySec;
    message.routedCount++;
    if (message.isRetain) this.retain(message, expiryAtSec);
    const version = message.isRetain ? this.version : 0;
    const before = this.expectations.length;
    for (const session of this.sessions) {
      const merged = this.merge(session, message, session === publisher);
      if (merged) this.owe({ ...merged, message, kind: "live", expiryAtSec, version, session });
    }
    for (const [name, members] of this.groups) {
      if (members.size === 0 || !isMatch(sharedParts(name)!.filter, message.topic)) continue;
      const isOptional = message.qos === 0 || [...members].every((each) => each.subscriptions.get(name)?.qos === 0);
      const group = { group: name, eligible: new Set(members), isOptional };
      const plain = { qos: message.qos, isRetain: false, ids: [] };
      this.owe({ ...plain, ...group, message, kind: "group", expiryAtSec, version, session: null });
    }
    return this.expectations.length - before;
  }

  private retain(message: Message, expiryAtSec: number): void {
    this.version++;
    if (message.payload.length === 0) {
      this.retained.delete(message.topic);
      return;
    }
    const sec = message.expirySec ?? (this.weather.retainedExpirySec || undefined);
    const deadlineMs = sec === undefined ? Infinity : this.nowMs + sec * 1000;
    this.retained.set(message.topic, { message, expiryAtSec, deadlineMs, version: this.version });
  }

  /** One copy with the highest QoS of the matching subscriptions and all their identifiers. */
  private merge(session: SessionModel, message: Message, isOwn: boolean) {
    let qos = -1;
    let isRetain = false;
    const ids: number[] = [];
    for (const wish of session.subscriptions.values()) {
      if (sharedParts(wish.filter) || !isMatch(wish.filter, message.topic) || (isOwn && wish.noLocal)) continue;
      qos = Math.max(qos, wish.qos);
      isRetain ||= wish.retainAsPublished && message.isRetain;
      if (wish.id > 0) ids.push(wish.id);
    }
    if (qos < 0) return undefined;
    return { qos: Math.min(qos, message.qos), isRetain, ids: ids.sort((a, b) => a - b) };
  }

  private make(part: Partial<Expectation> & Pick<Expectation, "message" | "kind" | "qos">): Expectation {
    const expectation: Expectation = {
      isRetain: false,
      ids: [],
      expiryAtSec: NEVER,
      version: 0,
      session: null,
      group: "",
      eligible: new Set(),
      isOptional: false,
      ...part,
      seq: ++this.seq,
      state: WAITING,
      packetId: 0,
      heldId: 0,
      isUncertain: false,
      link: null,
    };
    this.expectations.push(expectation);
    return expectation;
  }

  private owe(part: Partial<Expectation> & Pick<Expectation, "message" | "kind" | "qos">): void {
    const each = this.make(part);
    if (each.kind === "group") this.unassigned.add(each);
    else each.session!.waiting.push(each);
    if (each.qos === 0 && !this.weather.queueQos0) this.immediate.push(each);
  }

  /** A SUBSCRIBE item: the subscription, and the retained messages it asks for. */
  protected subscribe(session: SessionModel, wish: SubscribeWish, id: number): void {
    const { filter } = wish;
    const isNew = !session.subscriptions.has(filter);
    const subscription: SubscriptionModel = { ...wish, id };
    session.subscriptions.set(filter, subscription);
    if (sharedParts(filter)) {
      if (!this.groups.has(filter)) this.groups.set(filter, new Set());
      this.groups.get(filter)!.add(session);
      for (const each of this.unassigned) if (each.group === filter) each.eligible.add(session);
      return;
    }
    if (wish.retainHandling === 2 || (wish.retainHandling === 1 && !isNew)) return;
    const replay: ReplayModel = { filter, pending: new Map(), deadlines: new Map() };
    for (const [topic, kept] of this.retained) {
      if (!isMatch(filter, topic) || (wish.noLocal && kept.message.publisher === session.clientId)) continue;
      const qos = Math.min(kept.message.qos, wish.qos);
      const ids = id > 0 ? [id] : [];
      const { message, expiryAtSec, version, deadlineMs } = kept;
      const each = this.make({ message, kind: "replay", qos, isRetain: true, ids, expiryAtSec, version, session });
      replay.pending.set(topic, each);
      replay.deadlines.set(topic, deadlineMs);
    }
    session.replays.push(replay);
  }

  protected unsubscribe(session: SessionModel, filter: string): boolean {
    session.replays = session.replays.filter((replay) => replay.filter !== filter);
    this.groups.get(filter)?.delete(session);
    return session.subscriptions.delete(filter);
  }

  /** A group's message leaves its member and may go to another. */
  protected override giveBack(each: Expectation): void {
    each.session?.inflight.delete(each.packetId);
    each.eligible.delete(each.session!);
    for (const member of this.groups.get(each.group) ?? []) if (member !== each.session) each.eligible.add(member);
    each.session = null;
    each.state = WAITING;
    this.unassigned.add(each);
  }

  /** Hook: a delivery was dropped. */
  onDrop(clientId: string | undefined, reason: string, told: Told): void {
    this.dropCounts.set(reason, (this.dropCounts.get(reason) ?? 0) + 1);
    const no = numberIn(told.payload);
    const isQos0 = reason === "slow_subscriber" || reason === "absent";
    const isSame = (each: Expectation): boolean => {
      if (reason === "expired" && each.expiryAtSec > this.nowSec) return false;
      if (no >= 0) return each.message.no === no;
      const isEmpty = each.message.payload.length === 0 && each.message.topic === told.topic;
      return isEmpty && each.message.qos === told.qos && (!isQos0 || each.qos === 0 || each.kind === "group");
    };
    if (clientId === undefined) return this.onDropForNobody(reason, no, isSame);
    const mine = [...this.sessions].filter((session) => session.clientId === clientId);
    for (const session of mine.sort((a, b) => Number(b.isEnding) - Number(a.isEnding))) {
      if (reason === "session_ended" || reason === "expired") this.presume(session);
      const found = this.findDropped(session, reason, isSame);
      if (!found) continue;
      this.check(this.isTrue(reason, found, session), () => `${clientId} lost ${no} as ${reason}, which is not so`);
      const isAfterId = reason === "packet_too_large" || reason === "expired";
      if (isAfterId) session.hasUsedIds = true; // an id may have been taken for it
      if (reason === "queue_full") session.isOverflowed = this.weather.dropPolicy === "disconnect";
      return;
    }
    this.fail(`${clientId} was to get no message ${no} on ${told.topic}, but it was dropped as ${reason}`);
  }

  /** No subscriber at all, or a share group of which nobody could take it. */
  private onDropForNobody(reason: string, no: number, isSame: (each: Expectation) => boolean): void {
    if (reason === "no_subscriber") return;
    const groups = [...this.unassigned].filter(isSame);
    this.check(groups.length > 0, () => `${no} is dropped for nobody as ${reason}`);
    this.excused.add(groups[0]!.message);
  }

  /** Of those that fit the newest: what was dropped is not taken out. */
  protected pickUnassigned(isFit: (each: Expectation) => boolean): Expectation | undefined {
    return [...this.unassigned].filter(isFit).at(-1);
  }

  private findDropped(
    session: SessionModel,
    reason: string,
    isSame: (each: Expectation) => boolean,
  ): Expectation | undefined {
    if (reason === "slow_subscriber" || reason === "absent" || reason === "packet_too_large") {
      const now = this.immediate.find((each) => each.session === session && each.state === WAITING && isSame(each));
      if (now) {
        session.waiting = session.waiting.filter((each) => each !== now);
        return this.markDropped(now);
      }
    }
    // What was sent may be dropped at the end, or when the next connection takes only smaller packets.
    const sent = session.isEnding || reason === "packet_too_large" ? this.findSent(session, isSame) : undefined;
    if (sent) {
      if (sent.kind === "group") this.excused.add(sent.message);
      if (!session.isEnding && sent.qos === 2) return this.release(session, sent);
      session.inflight.delete(sent.packetId);
      return this.markDropped(sent);
    }
    const isNewest = reason === "queue_full" && this.weather.dropPolicy !== "oldest";
    const candidates = this.droppable(session, reason).filter(isSame);
    const waiting = candidates.at(isNewest ? -1 : 0);
    if (waiting) {
      session.waiting = session.waiting.filter((each) => each !== waiting);
      return this.markDropped(waiting);
    }
    const shared = this.pickUnassigned((each) => isSame(each) && each.eligible.has(session));
    if (shared) {
      this.excused.add(shared.message); // and another member may yet get it
      return shared;
    }
    const refused = this.findRefused(session, isSame);
    if (refused) return refused;
    for (const replay of session.replays) {
      for (const [topic, each] of replay.pending) {
        if (!isSame(each)) continue;
        replay.pending.delete(topic);
        return this.markDropped(each);
      }
    }
    return undefined;
  }

  /** What waits and could be dropped for this reason. */
  private droppable(session: SessionModel, reason: string): Expectation[] {
    const waiting = session.waiting.filter((each) => each.state === WAITING);
    if (reason === "queue_full") return waiting.filter(({ heldId }) => heldId === 0);
    if (reason !== "packet_too_large") return waiting;
    // A retained copy at QoS 0 passes what waits for the window.
    return waiting.filter((each) => each.qos === 0 || this.hasRoom(session));
  }

  private hasRoom(session: SessionModel): boolean {
    const link = session.link ?? session.lastLink;
    let used = 0;
    for (const each of session.inflight.values()) if (each.state === RELEASED || each.link === link) used++;
    return used < link!.windowMax;
  }

  /** Of what was sent and is not acknowledged: any while the session ends, else the next that is to be sent again. */
  private findSent(session: SessionModel, isSame: (each: Expectation) => boolean): Expectation | undefined {
    const inflight = [...session.inflight.values()];
    if (session.isEnding) return inflight.find((each) => each.state === SENT && isSame(each));
    const link = session.link ?? session.lastLink;
    const next = inflight.find((each) => each.state === SENT && each.link !== link);
    return next && isSame(next) && this.hasRoom(session) ? next : undefined;
  }

  /** Messages of which a group's copy was dropped: of several groups and routings nobody says which one lost it. */
  private readonly excused = new Set<Message>();

  /** What a member that is being ended had not acknowledged was offered to this one, which could not take it. */
  private findRefused(session: SessionModel, isSame: (each: Expectation) => boolean): Expectation | undefined {
    for (const other of this.sessions) {
      if (other === session) continue;
      for (const each of other.inflight.values()) {
        if (each.kind !== "group" || !isSame(each) || !this.groups.get(each.group)?.has(session)) continue;
        this.presume(other);
        if (!other.isEnding) continue;
        this.excused.add(each.message);
        return each;
      }
    }
    return undefined;
  }

  /** A group's message may stay undelivered: a drop was reported, or nobody could take it. */
  isExcused(each: Expectation): boolean {
    return each.isOptional || this.excused.has(each.message);
  }

  /** Too large to be sent again at QoS 2: the client may have it, so PUBREL must come before the id is free. */
  private release(session: SessionModel, each: Expectation): Expectation {
    each.state = RELEASED;
    each.isUncertain = true;
    (session.link ?? session.lastLink)!.resumeOwed.add(each.packetId);
    return each;
  }

  private markDropped(each: Expectation): Expectation {
    each.state = DROPPED;
    each.session?.dropped.add(each.message);
    return each;
  }

  /** Could this have been the reason? */
  private isTrue(reason: string, each: Expectation, session: SessionModel): boolean {
    const { link } = session;
    switch (reason) {
      case "session_ended":
        return session.isEnding || each.kind === "group";
      case "expired":
        return each.expiryAtSec <= this.nowSec;
      case "queue_full":
        return this.weather.outboxCountMax < 1000;
      case "slow_subscriber":
        if (link === null) return session.lostInCall === this.callNo;
        return link.state !== "open" || !link.isWritable;
      case "absent":
        return (link === null || link.state === "opening") && !this.weather.queueQos0;
      case "packet_too_large":
        return link === null || link.packetBytesMax < each.message.payload.length + 60;
      default:
        return false;
    }
  }
}
