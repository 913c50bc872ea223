/**
 * First part of the twin (see twin.ts): sessions and wills. Who holds a client id, when a session must end, when a will
 * is due. Timers of the broker may be late by two ticks of its wheel, never early.
 */
import { type LinkModel, type Message, NEVER, SENT, SessionModel, Violation, WAITING } from "./model.ts";
import type { ConnectInput } from "./model.ts";
import type { Weather } from "./weather.ts";

/** Two ticks of the timer wheel, and one to be generous. */
const TIMER_SLACK_MS = 200;

export class TwinSessions {
  nowMs = 0;
  nowSec = 0;
  /** All that have not ended, those being ended among them. */
  readonly sessions = new Set<SessionModel>();
  readonly current = new Map<string, SessionModel>();
  readonly links = new Set<LinkModel>();
  readonly messages: Message[] = [];
  /** Wills that must be published before the call returns. */
  protected readonly dueWills = new Set<number>();
  /** Members by share group. */
  readonly groups = new Map<string, Set<SessionModel>>();
  /** The broker fires timers, or does what it has put off: it ends those whose outbox overflowed. */
  isTurning = false;
  protected callNo = 0;
  endedCount = 0;
  createdCount = 0;

  constructor(protected readonly weather: Weather) {}

  fail(what: string): never {
    throw new Violation(what);
  }

  check(isRight: boolean, what: () => string): void {
    if (!isRight) this.fail(what());
  }

  /** CONNECT was handled: the id has a new owner. */
  protected open(link: LinkModel, input: ConnectInput): void {
    const old = this.current.get(input.clientId);
    const isEnding = old !== undefined && (input.isCleanStart || old.expirySec === 0);
    if (old?.link) {
      old.link.isTakenOver = old.link.isLost = true;
      old.link.owed = [];
      old.link = null;
      if (!isEnding && old.will?.delaySec === 0) this.dueWills.add(old.will.message.no);
    }
    if (old && isEnding) this.beginEnd(old);
    const session = old && !isEnding ? old : this.create(input.clientId);
    link.session = session;
    link.isPresent = session === old;
    session.link = link;
    session.endDeadlineMs = session.willDueMs = Infinity;
    session.expirySec = Math.min(input.expirySec, this.weather.expirySecMax);
    session.isStored ||= session.expirySec > 0;
    session.will = input.will;
    session.isOverflowed = false;
  }

  private create(clientId: string): SessionModel {
    const session = new SessionModel(clientId);
    this.sessions.add(session);
    this.current.set(clientId, session);
    this.createdCount++;
    return session;
  }

  /** The broker does not have the link any more: its session goes its way. */
  lose(link: LinkModel): void {
    if (link.isLost) return;
    link.isLost = true;
    const { session } = link;
    if (session?.link !== link) return;
    session.link = null;
    session.lostInCall = this.callNo;
    session.lastLink = link;
    if (session.expirySec === 0) return this.beginEnd(session);
    if (session.expirySec !== NEVER) session.endDeadlineMs = this.nowMs + session.expirySec * 1000;
    if (session.will?.delaySec === 0) this.becomeDue(session);
    else if (session.will) session.willDueMs = this.nowMs + session.will.delaySec * 1000;
  }

  private beginEnd(session: SessionModel): void {
    session.isEnding = true;
    this.becomeDue(session);
    if (this.current.get(session.clientId) === session) this.current.delete(session.clientId);
  }

  private becomeDue(session: SessionModel): void {
    if (session.will) this.dueWills.add(session.will.message.no);
    session.willDueMs = Infinity;
  }

  /** In a tick or a turn a link may be closed, or a session expired, before we are told of it. */
  protected presume(session: SessionModel): void {
    if (!this.isTurning) return;
    if (session.link && (session.isOverflowed || this.isSilent(session.link))) this.lose(session.link);
    if (!session.isEnding && session.link === null && this.nowMs >= session.endDeadlineMs) this.beginEnd(session);
  }

  isSilent(link: LinkModel): boolean {
    if (link.state !== "open") return this.nowMs - link.openedMs >= 10_000;
    return link.silenceMaxMs > 0 && this.nowMs - link.lastPacketMs >= link.silenceMaxMs;
  }

  /** The broker publishes a will: it must be due. Returns whose it is. */
  protected takeWill(message: Message): SessionModel {
    for (const session of this.sessions) {
      if (session.will?.message !== message) continue;
      if (this.nowMs < session.willDueMs) this.presume(session);
      const isDue = this.dueWills.delete(message.no) || this.nowMs >= session.willDueMs;
      this.check(isDue, () => `the will ${message.no} of ${session.clientId} is published and not due`);
      session.will = undefined;
      session.willDueMs = Infinity;
      return session;
    }
    // Taken over: the session has another will by now.
    const isDue = this.dueWills.delete(message.no);
    this.check(isDue, () => `the will ${message.no} of ${message.publisher} is published, but it was dropped`);
    const owner = [...this.sessions].find((session) => session.clientId === message.publisher);
    return owner ?? this.fail(`nobody owns the will ${message.no}`);
  }

  /** Hook: the broker has ended a session. */
  onSessionEnded(clientId: string): void {
    const mine = [...this.sessions].filter((session) => session.clientId === clientId);
    for (const session of mine) this.presume(session);
    const session = mine.find((candidate) => candidate.isEnding);
    if (!session) return this.fail(`the session of ${clientId} ended for no reason`);
    const lost = session.waiting.find((each) => each.state === WAITING);
    this.check(!lost, () => `${clientId} ended and message ${lost!.message.no} was lost without a word`);
    for (const each of session.inflight.values()) {
      if (each.state !== SENT) continue;
      const isLost = each.kind !== "group" || each.qos === 2;
      this.check(!isLost, () => `${clientId} ended and the unacknowledged ${each.message.no} was lost without a word`);
      this.giveBack(each);
    }
    session.isEnded = true;
    this.endedCount++;
    this.sessions.delete(session);
    for (const members of this.groups.values()) members.delete(session);
  }

  /** A group's message leaves its member; second part. */
  protected giveBack(_each: unknown): void {}

  /** Everything due by now must have happened. */
  protected settleSessions(): void {
    for (const no of this.dueWills) this.fail(`the will ${no} was due and has not been published`);
    for (const session of this.sessions) {
      const { clientId } = session;
      this.check(!session.isEnding, () => `the session of ${clientId} should have ended`);
      const late = this.nowMs - TIMER_SLACK_MS;
      this.check(session.endDeadlineMs > late, () => `the session of ${clientId} has not expired`);
      this.check(session.willDueMs > late, () => `the delayed will of ${clientId} has not been published`);
    }
    for (const link of this.links) {
      if (link.isLost || link.state !== "open" || link.silenceMaxMs === 0) continue;
      const silentMs = this.nowMs - link.lastPacketMs;
      this.check(silentMs < link.silenceMaxMs + TIMER_SLACK_MS, () => `link ${link.no} is silent and still open`);
    }
  }
}
