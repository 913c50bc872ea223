/**
 * The judgement of a run: everything its history shows that the broker must not have done.
 *
 *   lost        an accepted message did not reach a persistent session whose subscription had been acknowledged before
 *   duplicate   QoS 2 more than once in a session (in a share group: in all of its sessions), QoS 0 or a copy without cause
 *   ghost       a message for which nobody was subscribed: after UNSUBACK, from before SUBSCRIBE, of a deleted session
 *   order       the first copies of a publisher's messages of one topic and QoS came out of order
 *   expired     a message came to a client that was away while it expired
 *   session     session present was wrong
 *   retained    a value that a later, acknowledged one had replaced; or none
 *   will        a will that must not, or must have been published
 *   fault       a packet no broker may send, a refused client, a link closed for no reason
 *
 * Only what the clients' own logs prove is judged (sessions.ts and messages.ts say what they leave open).
 */
import { type Event, type EventOf, type History, isMatch, type Message, NEVER } from "./history.ts";
import { judgeRetained } from "./judge-retained.ts";
import { judgeWills } from "./judge-wills.ts";
import { MessageBook, type MessageFacts } from "./messages.ts";
import { type Session, SessionBook, type SubscriptionSpan } from "./sessions.ts";

export interface Violation {
  readonly kind: "lost" | "duplicate" | "ghost" | "order" | "expired" | "session" | "retained" | "will" | "fault";
  readonly text: string;
  /** Whose events tell the story: message keys and client ids. */
  readonly keys: readonly string[];
  readonly clients: readonly string[];
  /** Of the event that shows it, where one does. */
  readonly at?: number;
}

/** Below this a message may expire while a run lasts. */
const SHORT_EXPIRY_SEC = 600;
const EXPIRY_SLACK_MS = 3000;

export interface Case {
  readonly history: History;
  readonly sessions: readonly Session[];
  readonly facts: ReadonlyMap<string, MessageFacts>;
  readonly report: (violation: Violation) => void;
}

/** `willGraceSec` is the broker's time for clients that were connected as it was killed. */
export function judge(history: History, willGraceSec: number): Violation[] {
  const sessionBook = new SessionBook();
  const messageBook = new MessageBook(history);
  for (const event of history.events) {
    sessionBook.handle(event);
    messageBook.handle(event);
  }
  const violations: Violation[] = [];
  const report = (violation: Violation): void => void violations.push(violation);
  const { sessions } = sessionBook;
  const { facts } = messageBook;
  judgeWills({ history, sessions, facts, report }, willGraceSec); // first: it says which wills are due
  for (const { event, text } of sessionBook.wrongs) {
    report({ kind: "session", text: `${event.client}: ${text}`, keys: [], clients: [event.client], at: event.at });
  }
  for (const event of history.events) if (event.what === "fault") reportFault(event, report);
  const all = { history, sessions, facts, report };
  const matcher = new Matcher();
  const groups = groupsOf(sessions);
  for (const session of sessions) {
    judgeReceived(session, groups, matcher, all);
    judgeOwed(session, matcher, all);
  }
  for (const group of groups.values()) judgeGroup(group, matcher, all);
  judgeRetained(all);
  return violations;
}

function reportFault(event: EventOf<"fault">, report: Case["report"]): void {
  const clients = event.client === "" ? [] : [event.client];
  report({ kind: "fault", text: `${event.client || "broker"}: ${event.text}`, keys: [], clients, at: event.at });
}

/** Remembers which filter matches which topic. */
class Matcher {
  readonly #known = new Map<string, Map<string, boolean>>();

  isMatch(filter: string, topic: string): boolean {
    let topics = this.#known.get(filter);
    if (topics === undefined) this.#known.set(filter, (topics = new Map()));
    let answer = topics.get(topic);
    if (answer === undefined) topics.set(topic, (answer = isMatch(filter, topic)));
    return answer;
  }
}

function isOwed({ acked, dropSent }: SubscriptionSpan, { firstSent, done }: MessageFacts): boolean {
  return done !== NEVER && acked < firstSent && dropSent > done;
}

function mayRoute({ sent, dropped }: SubscriptionSpan, { firstSent, lastPossible }: MessageFacts): boolean {
  return sent < lastPossible && dropped > firstSent;
}

function isLasting({ expirySec }: Message): boolean {
  return expirySec === undefined || expirySec >= SHORT_EXPIRY_SEC;
}

/** What came: was it theirs, in order, not too often, not too late? */
function judgeReceived(session: Session, groups: Groups, matcher: Matcher, { facts, report }: Case): void {
  // What waits in a group moves between its members, to new ones too.
  const spans = session.subscriptions.flatMap(
    (span) => groups.get(span.filter)?.members.map((each) => each.span) ?? span,
  );
  const isMember = session.subscriptions.some(({ group }) => group !== undefined);
  for (const [key, receipts] of session.received) {
    const fact = facts.get(key);
    if (fact === undefined) {
      const text = `${session.name} received ${key}, which nobody published`;
      report({ kind: "ghost", text, keys: [key], clients: [session.client] });
      continue;
    }
    judgeCopies(session, fact, receipts, report);
    judgeExpiry(session, fact, receipts, report);
    const live = receipts.filter(({ isRetained }) => !isRetained);
    const match = (span: SubscriptionSpan): boolean => matcher.isMatch(span.plain, fact.message.topic);
    if (live.length > 0 && !spans.some((span) => match(span) && mayRoute(span, fact))) {
      const text = `${session.name} received ${key} of ${fact.message.topic} for which it was not subscribed`;
      report({ kind: "ghost", text, keys: [key], clients: [session.client] });
    }
  }
  if (!isMember && !session.isBlurred) judgeOrder(session, matcher, facts, report); // else: given to others and back; queued in another life
}

/** Of two first copies the earlier message's comes first, if it was wanted from before its first sending. */
function judgeOrder(session: Session, matcher: Matcher, facts: Case["facts"], report: Case["report"]): void {
  const last = new Map<string, EventOf<"received">>();
  const firsts = [...session.received].flatMap(([, receipts]) => receipts.find(({ isRetained }) => !isRetained) ?? []);
  for (const receipt of firsts.toSorted((a, b) => a.at - b.at)) {
    const fact = facts.get(receipt.key);
    if (fact === undefined || fact.message.isWill) continue;
    const { publisher, topic, qos, number } = fact.message;
    const lane = `${publisher} ${topic} ${qos} ${receipt.qos}`;
    const before = last.get(lane);
    if (before === undefined || facts.get(before.key)!.message.number < number) {
      last.set(lane, receipt);
      continue;
    }
    const isWanted = ({ plain, acked, dropSent }: SubscriptionSpan): boolean =>
      acked < fact.firstSent && dropSent > receipt.at && matcher.isMatch(plain, topic);
    if (!session.subscriptions.some(isWanted)) continue;
    const isFirstLost = receipt.qos === 0 || !isLasting(fact.message); // nobody was there, or it expired
    if (isFirstLost && fact.sendCount > 1) continue;
    if (!isLasting(fact.message) && receipt.isDup) continue; // it had expired unsent, and a crash took that back
    const text = `${session.name} received ${receipt.key} after ${before.key} (topic ${topic}, QoS ${receipt.qos})`;
    report({ kind: "order", text, keys: [before.key, receipt.key], clients: [session.client] });
  }
}

function judgeCopies(
  session: Session,
  { message, sendCount }: MessageFacts,
  receipts: readonly EventOf<"received">[],
  report: Case["report"],
): void {
  const live = receipts.filter(({ isRetained }) => !isRetained);
  const newCount = live.filter(({ qos, isNew }) => qos === 2 && isNew).length;
  const lowerCount = live.filter(({ qos }) => qos < 2).length;
  const { key } = message;
  const again = (text: string): void =>
    report({ kind: "duplicate", text: `${session.name}: ${key} ${text}`, keys: [key], clients: [session.client] });
  if (newCount > 1) again(`came ${newCount} times as new at QoS 2`);
  if (newCount > 0 && lowerCount > 0) again(`came at QoS 2 and at a lower one`);
  const perLink = new Map<number, number>();
  for (const { link, qos } of live) if (qos < 2) perLink.set(link, (perLink.get(link) ?? 0) + 1);
  for (const [link, count] of perLink) {
    if (count > sendCount) again(`came ${count} times on link ${link}, sent ${sendCount} times`);
  }
  const zeros = live.filter(({ qos }) => qos === 0).length;
  if (zeros > sendCount) again(`came ${zeros} times at QoS 0, sent ${sendCount} times`);
}

function judgeExpiry(
  session: Session,
  { message, firstMs, doneMs }: MessageFacts,
  receipts: readonly EventOf<"received">[],
  report: Case["report"],
): void {
  if (isLasting(message) || doneMs === NEVER) return;
  const overMs = doneMs + message.expirySec! * 1000 + EXPIRY_SLACK_MS;
  const wasThere = session.links.some(({ fromMs, toMs }) => fromMs < overMs && toMs > firstMs);
  const { key } = message;
  if (wasThere || !receipts.some(({ ms, isRetained }) => !isRetained && ms > overMs)) return;
  const text = `${session.name} received ${key}, which had expired before it came back`;
  report({ kind: "expired", text, keys: [key], clients: [session.client] });
}

/** What must have come to a session that was there to the end. */
function judgeOwed(session: Session, matcher: Matcher, { facts, report }: Case): void {
  if (!session.isSurvivor) return;
  const spans = session.subscriptions.filter(({ group, qos }) => group === undefined && qos > 0);
  for (const fact of facts.values()) {
    const { message } = fact;
    if (message.qos === 0 || message.isEmpty || !isLasting(message)) continue;
    if (session.received.has(message.key)) continue;
    if (!spans.some((span) => isOwed(span, fact) && matcher.isMatch(span.plain, message.topic))) continue;
    const text = `${session.name} never received ${message.key} of ${message.topic}, QoS ${message.qos}`;
    report({ kind: "lost", text, keys: [message.key], clients: [session.client] });
  }
}

interface Group {
  readonly filter: string;
  readonly members: readonly { readonly session: Session; readonly span: SubscriptionSpan }[];
}

type Groups = ReadonlyMap<string, Group>;

function groupsOf(sessions: readonly Session[]): Groups {
  const groups = new Map<string, { session: Session; span: SubscriptionSpan }[]>();
  for (const session of sessions) {
    for (const span of session.subscriptions) {
      if (span.group === undefined) continue;
      const members = groups.get(span.filter) ?? [];
      members.push({ session, span });
      groups.set(span.filter, members);
    }
  }
  return new Map([...groups].map(([filter, members]) => [filter, { filter, members }]));
}

/** Each message to one member. A QoS 2 message may be gone with the session that had it in flight. */
function judgeGroup({ filter, members }: Group, matcher: Matcher, { facts, report }: Case): void {
  const sessions = [...new Set(members.map(({ session }) => session))];
  const clients = [...new Set(sessions.map(({ client }) => client))];
  const hasEnded = sessions.some(({ isSurvivor }) => !isSurvivor);
  for (const fact of facts.values()) {
    const { message, done } = fact;
    const { key, topic, qos } = message;
    if (qos === 0 || message.isEmpty || !matcher.isMatch(members[0].span.plain, topic)) continue;
    const receipts = sessions.flatMap((session) => session.received.get(key) ?? []);
    const newCount = receipts.filter((receipt) => receipt.qos === 2 && receipt.isNew).length;
    if (newCount > 1 && !hasEnded) {
      const text = `${filter}: ${key} came ${newCount} times as new at QoS 2`;
      report({ kind: "duplicate", text, keys: [key], clients });
    }
    if (receipts.length > 0 || done === NEVER || !isLasting(message) || (qos === 2 && hasEnded)) continue;
    if (!members.some(({ session, span }) => session.isSurvivor && isOwed(span, fact))) continue;
    report({ kind: "lost", text: `${filter}: nobody received ${key} of ${topic}, QoS ${qos}`, keys: [key], clients });
  }
}

/** The events that tell of a violation, at most so many: those of its messages, and of its clients those around them. */
export function storyOf({ keys, clients, at }: Violation, history: History, countMax: number): Event[] {
  const mine = history.events.filter(
    (event) => "key" in event && keys.includes(event.key) && event.at <= (at ?? NEVER),
  );
  const anchors = mine.map((event) => event.at);
  if (at !== undefined) anchors.push(at);
  const distance = (event: Event): number => Math.min(...anchors.map((anchor) => Math.abs(anchor - event.at)));
  const packetIds = new Set(
    mine.map((event) => (event.what === "received" ? `${event.client} ${event.packetId}` : "")),
  );
  const isNear = (event: Event): boolean => {
    if (event.at > (at ?? NEVER) || mine.includes(event)) return false;
    if (event.client === "") return event.what !== "note";
    if (event.what === "connect" && keys.includes(event.will?.key ?? "")) return true;
    if (event.what === "acknowledged") return packetIds.has(`${event.client} ${event.packetId}`);
    return clients.includes(event.client) && (at !== undefined || SESSION_EVENTS.has(event.what));
  };
  const others = history.events.filter(isNear).toSorted((a, b) => distance(a) - distance(b));
  const told = [...mine.slice(0, countMax / 2), ...mine.slice(countMax / 2).slice(-countMax / 4)];
  return [...told, ...others.slice(0, countMax - told.length)].toSorted((a, b) => a.at - b.at);
}

const SESSION_EVENTS = new Set([
  "connect",
  "connack",
  "left",
  "subscribe",
  "suback",
  "unsubscribe",
  "unsuback",
  "retained",
]);
