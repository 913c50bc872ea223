/**
 * Retained messages: what a new subscriber of everything saw (events `retained`), and replays that others received.
 *
 * A value may be the current one unless another write came certainly after it and certainly before the look: that
 * write's first sending is later than the value's last possible routing, and it was acknowledged before the look.
 */
import { type EventOf, NEVER } from "./history.ts";
import type { Case, Violation } from "./judge.ts";
import type { MessageFacts } from "./messages.ts";

/** Retained messages with an expiry below this may be gone at any look. */
const SHORT_EXPIRY_SEC = 600;

export function judgeRetained({ history, sessions, facts, report }: Case): void {
  const writes = new Map<string, MessageFacts[]>();
  for (const fact of facts.values()) {
    const { isRetained, topic } = fact.message;
    if (!isRetained || fact.message.isWill) continue;
    const list = writes.get(topic);
    if (list === undefined) writes.set(topic, [fact]);
    else list.push(fact);
  }
  let lookFrom = 0;
  for (const event of history.events) {
    if (event.what === "connack" && event.client === "probe") lookFrom = event.at;
    if (event.what === "retained") judgeLook(event, { writes, lookFrom, report });
  }
  for (const session of sessions) {
    for (const [key, receipts] of session.received) {
      const fact = facts.get(key);
      if (fact === undefined || !receipts.some(({ isRetained }) => isRetained)) continue;
      const { topic } = fact.message;
      const subscribed = Math.min(...session.subscriptions.map(({ sent }) => sent));
      const newer = supersederOf(fact, writes.get(topic) ?? [], session.isBlurred ? 0 : subscribed);
      if (newer === undefined && fact.message.isRetained) continue;
      const why = newer === undefined ? "was not retained" : `was replaced by ${newer.message.key} before`;
      const text = `${session.name} received ${key} as retained on ${topic}, which ${why}`;
      report({ kind: "retained", text, keys: [key, ...(newer ? [newer.message.key] : [])], clients: [session.client] });
    }
  }
}

interface Look {
  readonly writes: ReadonlyMap<string, readonly MessageFacts[]>;
  /** Nothing acknowledged before this event may be missing. */
  readonly lookFrom: number;
  readonly report: (violation: Violation) => void;
}

function judgeLook(event: EventOf<"retained">, { writes, lookFrom, report }: Look): void {
  const seen = new Map(event.values);
  for (const [topic, key] of seen) {
    const list = writes.get(topic) ?? [];
    const fact = list.find(({ message }) => message.key === key);
    const newer = fact === undefined ? undefined : supersederOf(fact, list, lookFrom);
    if (fact !== undefined && newer === undefined) continue;
    const why = newer === undefined ? "was never published there" : `was replaced by ${newer.message.key}`;
    const keys = [key, ...(newer ? [newer.message.key] : [])];
    report({ kind: "retained", text: `${topic} has ${key}, which ${why}`, keys, clients: ["probe"] });
  }
  for (const [topic, list] of writes) {
    if (seen.has(topic)) continue;
    const last = list.findLast((fact) => fact.done < lookFrom && !mayBeNothing(fact));
    if (last === undefined) continue;
    const mayBeAway = list.some((fact) => mayBeNothing(fact) && supersederOf(fact, list, lookFrom) === undefined);
    if (mayBeAway) continue;
    const { key } = last.message;
    report({
      kind: "retained",
      text: `${topic} has no value, ${key} was acknowledged`,
      keys: [key],
      clients: ["probe"],
    });
  }
}

/** A value after which the topic has none: an empty one, or one that has perhaps expired. */
function mayBeNothing({ message }: MessageFacts): boolean {
  return message.isEmpty || (message.expirySec ?? NEVER) < SHORT_EXPIRY_SEC;
}

function supersederOf(fact: MessageFacts, list: readonly MessageFacts[], before: number): MessageFacts | undefined {
  return list.find((other) => other.firstSent > fact.lastPossible && other.done < before);
}
