/** The judgement at the end of a run, when all is drained: logs, counters, retained messages, and what is left over. */
import { DONE, type Expectation, type Message, RELEASED, SENT, Violation, WAITING } from "./model.ts";
import type { SimClient } from "./sim-client.ts";
import type { World } from "./world.ts";
import { topics } from "./script.ts";

function check(isRight: boolean, what: () => string): void {
  if (!isRight) throw new Violation(what());
}

function checkEqual(what: string, actual: number, expected: number): void {
  check(actual === expected, () => `${what}: ${actual}, expected ${expected}`);
}

/** What the applications saw against what was owed. */
export function compareLogs({ twin, clients }: World): void {
  const byClient = new Map<string, Map<Message, Expectation[]>>();
  for (const each of twin.expectations) {
    if (!each.session || each.message.payload.length === 0) continue;
    let mine = byClient.get(each.session.clientId);
    if (!mine) byClient.set(each.session.clientId, (mine = new Map()));
    mine.set(each.message, [...(mine.get(each.message) ?? []), each]);
  }
  for (const client of clients) {
    for (const [message, owed] of byClient.get(client.id) ?? []) compareOne(client, message, owed);
    for (const message of client.published) comparePublished(message);
  }
  for (const message of twin.messages) {
    if (message.qos === 1 && !message.isWill) continue;
    check(message.routedCount <= 1, () => `message ${message.no} was routed ${message.routedCount} times`);
  }
  for (const each of twin.unassigned) {
    check(twin.isExcused(each), () => `nobody of ${each.group} was given message ${each.message.no}`);
  }
  for (const each of twin.expectations) {
    const isLeft = each.kind === "live" && each.state === WAITING;
    check(!isLeft || each.session!.isEnded, () => `message ${each.message.no} is still waiting`);
  }
}

function compareOne(client: SimClient, message: Message, owed: readonly Expectation[]): void {
  for (const qos of [0, 1, 2]) {
    const mine = owed.filter((each) => each.qos === qos);
    const sent = mine.filter(({ state }) => state === SENT || state === RELEASED || state === DONE).length;
    const done = mine.filter(({ state, isUncertain }) => state === DONE && !isUncertain).length;
    const seen = client.received[qos]!.get(message.no) ?? 0;
    const what = (): string =>
      `${client.id} saw message ${message.no} at QoS ${qos} ${seen} times: ${done} of ${sent} were acknowledged`;
    if (qos !== 1) check(seen <= mine.length, what);
    if (qos !== 0) check(seen >= done, what);
  }
}

function comparePublished(message: Message): void {
  check(message.routedCount > 0, () => `message ${message.no} was acknowledged and never routed`);
}

/** The broker's counters against ours. */
export function compareCounts({ twin, engine, clients }: World): void {
  const { metrics } = engine;
  for (const qos of [0, 1, 2] as const) {
    checkEqual(`messages.qos${qos}.sent`, metrics.get(`messages.qos${qos}.sent`), twin.sentCounts[qos]!);
  }
  for (const [reason, count] of twin.dropCounts) {
    checkEqual(`dropped as ${reason}`, metrics.toObject()[`messages.dropped.${reason}` as "bugs"], count);
  }
  checkEqual("packets.sent", metrics.get("packets.sent"), twin.packetsSent);
  checkEqual("sessions.created", metrics.get("sessions.created"), twin.createdCount);
  checkEqual("sessions.ended", metrics.get("sessions.ended"), twin.endedCount);
  checkEqual("sessions", engine.sessions.count, twin.sessions.size);
  checkEqual("bugs", metrics.get("bugs"), 0);
  checkEqual("messages.dropped.memory_full", metrics.get("messages.dropped.memory_full"), 0);
  const open = metrics.get("connections.opened") - metrics.get("connections.closed");
  checkEqual("open connections", open, clients.length);
  let subscriptions = 0;
  for (const session of twin.sessions) subscriptions += session.subscriptions.size;
  const anchors = [...twin.groups].filter(([, members]) => members.size > 0);
  const anchorCount = anchors.reduce((sum, [name]) => sum + (name.startsWith("$queue/") ? 2 : 1), 0);
  checkEqual("subscriptions", engine.index.subscriptionCount, subscriptions + anchorCount);
  checkEqual("share groups", engine.groups.count, anchors.length);
  checkReplays(twin);
}

function checkReplays({ sessions, retained, nowMs, nowSec }: World["twin"]): void {
  for (const session of sessions) {
    for (const replay of session.replays) {
      for (const [topic, each] of replay.pending) {
        const isSame = retained.get(topic)?.version === each.version && !session.dropped.has(each.message);
        const isDue = isSame && each.expiryAtSec > nowSec && (replay.deadlines.get(topic) ?? 0) > nowMs;
        check(!isDue, () => `${session.clientId} was not sent the retained ${each.message.no} of ${topic}`);
      }
    }
  }
}

/** A new subscriber of everything has seen just the retained messages. */
export function compareRetained({ twin }: World, observer: SimClient): void {
  for (const { message, deadlineMs, expiryAtSec } of twin.retained.values()) {
    const seen = (observer.received[0]!.get(message.no) ?? 0) + (observer.received[1]!.get(message.no) ?? 0);
    const isRight = seen === 1 || deadlineMs <= twin.nowMs || expiryAtSec <= twin.nowSec;
    check(isRight, () => `the retained ${message.no} of ${message.topic} came ${seen} times`);
  }
}

/** Every session has ended. */
export function checkNothingLeft({ engine, context, store, twin }: World): void {
  store?.commit();
  const kept = [...twin.retained.values()].filter(({ deadlineMs }) => deadlineMs > twin.nowMs).length;
  check(engine.retainedIndex.count >= kept, () => `${engine.retainedIndex.count} retained, expected ${kept}`);
  checkEqual("messages besides the retained", engine.messages.count, engine.retainedIndex.count);
  for (const topic of topics) engine.publishText(topic, Buffer.alloc(0), { isRetain: true });
  checkEqual("retained", engine.retainedIndex.count, 0);
  checkEqual("messages", engine.messages.count, 0);
  checkEqual("sessions", engine.sessions.count, 0);
  checkEqual("subscriptions", engine.index.subscriptionCount, 0);
  checkEqual("filters", engine.index.filterCount, 0);
  checkEqual("keys of filters", engine.index.keyCount, 0);
  checkEqual("share groups", engine.groups.count, 0);
  checkEqual("identifier lists", engine.delivery.idLists.count, 0);
  checkEqual("timers", engine.timers.count, 0);
  checkEqual("connections", context.connectionCount, 0);
  checkEqual("gated connections", context.gated.size, 0);
  engine.cache.clear();
  checkEqual("bytes of the block pool", engine.pool.usedBytes, 0);
}
