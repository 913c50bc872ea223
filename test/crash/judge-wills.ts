/**
 * Wills: which must not be published, and which must. The rest may be, once.
 *
 * Must not: its client took leave and the broker has shown that it knows; the delay is longer than any run; or the broker
 * was killed under the client and saw it again before the grace for such clients was over. Must: the client went without a
 * word, or with the broker, and never came back; but a long grace is not waited for.
 */
import { type Event, type EventOf, NEVER } from "./history.ts";
import type { Case } from "./judge.ts";

/** Longer than any run. */
const LONG_DELAY_SEC = 600;
/** A grace that is over before a run gives up. */
const SHORT_GRACE_SEC = 2;

export function judgeWills({ history, sessions, facts, report }: Case, graceSec: number): void {
  const events = new Map<string, Event[]>();
  for (const event of history.events) {
    const list = events.get(event.client);
    if (list === undefined) events.set(event.client, [event]);
    else list.push(event);
  }
  const broker = events.get("") ?? [];
  for (const connect of history.events) {
    if (connect.what !== "connect" || connect.will === undefined) continue;
    const { key } = connect.will;
    const { client } = connect;
    const receivers = sessions.filter((session) => session.received.has(key));
    const why = whyForbidden(connect, events.get(client)!, { broker, graceSec });
    if (why !== undefined && receivers.length > 0) {
      const text = `${receivers[0].name} received the will ${key}, though ${why}`;
      report({ kind: "will", text, keys: [key], clients: [client, receivers[0].client] });
    }
    const due = dueSince(connect, events.get(client)!, { broker, graceSec });
    if (due !== undefined) facts.get(key)!.done = due; // judged as lost where it is missing
  }
}

function linkEvents({ link }: EventOf<"connect">, mine: readonly Event[]) {
  return {
    connack: mine.find((event) => event.what === "connack" && event.link === link),
    left: mine.find((event): event is EventOf<"left"> => event.what === "left" && event.link === link),
  };
}

interface Circumstances {
  readonly broker: readonly Event[];
  readonly graceSec: number;
}

function whyForbidden(
  connect: EventOf<"connect">,
  mine: readonly Event[],
  { broker, graceSec }: Circumstances,
): string | undefined {
  const { connack, left } = linkEvents(connect, mine);
  if (connack === undefined || left === undefined) return undefined;
  if (connect.will!.delaySec > LONG_DELAY_SEC) return `its delay is ${connect.will!.delaySec} s`;
  const isKilled = (from: number, to: number): boolean =>
    broker.some(({ what, at }) => what === "killed" && at > from && at < to);
  const back = mine.find(({ what, at }) => what === "connack" && at > left.at);
  const wasKilled = isKilled(connack.at, left.at);
  if (left.how === "disconnect" && !wasKilled) {
    const isKnown = back !== undefined ? !isKilled(left.at, back.at) : !isKilled(left.at, NEVER);
    return isKnown ? "its client had disconnected" : undefined;
  }
  const killed = broker.find(({ what, at }) => what === "killed" && at > connack.at);
  const ready = broker.find(({ what, at }) => what === "ready" && at > (killed?.at ?? NEVER));
  const isBackInTime = ready !== undefined && back !== undefined && back.ms < ready.ms + (graceSec * 1000) / 2;
  return left.how === "lost" && wasKilled && isBackInTime ? "its client was back in time" : undefined;
}

/** The event at which nothing could stop it any more. */
function dueSince(
  connect: EventOf<"connect">,
  mine: readonly Event[],
  { broker, graceSec }: Circumstances,
): number | undefined {
  const { connack, left } = linkEvents(connect, mine);
  if (connack === undefined || left === undefined || connect.will!.delaySec > LONG_DELAY_SEC) return undefined;
  if (left.how === "disconnect" || mine.some(({ what, at }) => what === "connect" && at > left.at)) return undefined;
  const isHeldUp = graceSec > SHORT_GRACE_SEC && broker.some(({ what, at }) => what === "killed" && at > connack.at);
  return isHeldUp ? undefined : left.at;
}
