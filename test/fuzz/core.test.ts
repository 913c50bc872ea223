/** The structures of core/ against a naive twin over strings and arrays. */
import { test } from "bun:test";
import fc from "fast-check";
import { BlockPool, offsetOf, pageOf } from "#base/block-pool.ts";
import { Inflight } from "#core/inflight.ts";
import { MatchCache, MERGED } from "#core/match-cache.ts";
import { MessagePool, MessageView } from "#core/message.ts";
import { DELIVERY, GROUP, IDS, MESSAGE, Outbox } from "#core/outbox.ts";
import type { RetainedCursor } from "#core/ports.ts";
import { RetainedIndex } from "#core/retained.ts";
import { TopicIndex } from "#core/topic-index.ts";
import { check } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";
import { TestBroker, viewOf } from "#test/support/test-broker.ts";

function same(what: string, actual: unknown, expected: unknown): void {
  if (!Bun.deepEquals(actual, expected)) {
    throw new Error(`${what}: ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`);
  }
}

/** [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.2-1] in the plainest form. */
function isMatch(filter: string, topic: string): boolean {
  if (topic.startsWith("$") && /^[+#]/.test(filter)) return false;
  const [filters, levels] = [filter.split("/"), topic.split("/")];
  for (const [i, wanted] of filters.entries()) {
    if (wanted === "#") return true;
    if (i >= levels.length || (wanted !== "+" && wanted !== levels[i])) return false;
  }
  return filters.length === levels.length;
}

const level = fc.constantFrom("", "a", "b", "$s", "aa", "é");
const topicName = fc
  .array(level, { minLength: 1, maxLength: 4 })
  .map((levels) => levels.join("/"))
  .filter((topic) => topic !== "");
const filterLevel = fc.oneof({ weight: 3, arbitrary: level }, { weight: 2, arbitrary: fc.constant("+") });
const topicFilter = fc
  .tuple(fc.array(filterLevel, { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([levels, isOpen]) => (isOpen ? [...levels.slice(1), "#"] : levels).join("/"))
  .filter((filter) => filter !== "");

test("topic index and match cache: what a naive matcher says, through any changes", () => {
  const step = fc.record({
    op: fc.constantFrom("add", "add", "remove", "change", "match", "match", "match"),
    session: fc.nat(4),
    filter: topicFilter,
    topic: topicName,
    options: fc.nat(2),
    id: fc.nat(3),
  });
  const property = fc.property(fc.array(step, { maxLength: 100, size: "max" }), (steps) => {
    const pool = new BlockPool();
    const index = new TopicIndex(pool, 1);
    const cache = new MatchCache(pool, index, 256);
    const twin = new Map<string, { session: number; filter: string; sub: number; options: number; id: number }>();
    for (const { op, session, filter, topic, options, id } of steps) {
      const key = `${session} ${filter}`;
      const known = twin.get(key);
      same(`find ${key}`, index.find(session, Buffer.from(filter)), known?.sub ?? -1);
      if (op === "add" && !known) {
        twin.set(key, { session, filter, options, id, sub: index.add(session, Buffer.from(filter), options, id) });
      } else if (op === "remove" && known) {
        index.remove(known.sub);
        twin.delete(key);
      } else if (op === "change" && known) {
        index.change(known.sub, options, id);
        twin.set(key, { ...known, options, id });
      } else if (op === "match") {
        const wanted = [...twin.values()].filter((each) => isMatch(each.filter, topic));
        same(`${topic} of ${[...twin.keys()].join(", ")}`, matched(index, cache, pool, topic), mergedTwin(wanted));
      }
    }
    for (const { sub, filter } of twin.values()) same("filter", index.filterOf(sub).toString(), filter);
    same("filters", index.filterCount, new Set([...twin.values()].map(({ filter }) => filter)).size);
    for (const { sub } of twin.values()) index.remove(sub);
    same("left", [index.subscriptionCount, index.filterCount, index.keyCount], [0, 0, 0]);
  });
  check(property, rounds(400, 2000, 20_000));
});

type Target = [session: number, qos: number, subs: number[]];
const ascending = (a: number, b: number): number => a - b;

function mergedTwin(wanted: { session: number; sub: number; options: number }[]): Target[] {
  const sessions = [...new Set(wanted.map(({ session }) => session))].toSorted(ascending);
  return sessions.map((session) => {
    const own = wanted.filter((each) => each.session === session);
    return [session, Math.max(...own.map(({ options }) => options)), own.map(({ sub }) => sub).toSorted(ascending)];
  });
}

/** The remembered answer if there is one, else a new one. */
function matched(index: TopicIndex, cache: MatchCache, pool: BlockPool, topic: string): Target[] {
  const bytes = Buffer.from(topic);
  const hash = index.hash(bytes, 0, bytes.length);
  const known = cache.find(bytes, 0, bytes.length, hash);
  const slot = known >= 0 ? known : cache.fill(bytes, 0, bytes.length, hash);
  const block = cache.listBlock[slot]!;
  const words = pool.words[pageOf(block)]!;
  const start = offsetOf(block) >>> 2;
  const targets = Array.from({ length: cache.targetCount[slot]! }, (_, i): Target => {
    const [target, options, sub] = words.subarray(start + i * 3, start + i * 3 + 3);
    const list = start - sub!;
    const subs = (options! & MERGED) === 0 ? [sub!] : [...words.subarray(list + 1, list + 1 + words[list]!)];
    return [target!, options! & 3, subs.toSorted(ascending)];
  });
  return targets.toSorted(([a], [b]) => a - b);
}

test("an engine with overlapping and shared subscriptions delivers what a naive broker would", () => {
  const share = fc.constantFrom("", "", "$share/g/", "$share/h/");
  const step = fc.record({
    op: fc.constantFrom("subscribe", "subscribe", "unsubscribe", "publish", "publish", "publish", "reopen"),
    client: fc.nat(3),
    share,
    filter: topicFilter,
    topic: topicName,
    qos: fc.nat(2),
  });
  const property = fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
    const broker = new TestBroker({ limits: { cache: { matchCountMax: 256 } } });
    const sinks = [0, 1, 2, 3].map((i) => broker.open(`c${i}`));
    const twins = sinks.map(() => new Map<string, string>());
    for (const { op, client, share: prefix, filter, topic, qos } of steps) {
      const sink = sinks[client]!;
      const full = prefix + filter;
      if (op === "subscribe") {
        same(`subscribe ${full}`, broker.subscribe(sink, full, qos), qos);
        twins[client]!.set(full, filter);
      } else if (op === "unsubscribe") {
        same(`unsubscribe ${full}`, broker.unsubscribe(sink, full), twins[client]!.delete(full) ? 0 : 0x11);
      } else if (op === "reopen") {
        broker.close(sink);
        sinks[client] = broker.open(`c${client}`);
        twins[client]!.clear();
      } else {
        broker.publish(topic, "x", { qos: 0 });
        compare(
          topic,
          sinks.map((each) => each.take().length),
          twins,
        );
      }
    }
    for (const sink of sinks) broker.close(sink);
    const { index, groups, sessions, messages } = broker.engine;
    same("left", [index.subscriptionCount, groups.count, sessions.count, messages.count], [0, 0, 0, 0]);
  });
  check(property, rounds(250, 2500, 15_000));
});

/** One copy a client for all its ordinary subscriptions, and one among the members of each group. */
function compare(topic: string, counts: number[], twins: Map<string, string>[]): void {
  const groups = new Map<string, Set<number>>();
  const least = twins.map(() => 0);
  twins.forEach((twin, client) => {
    for (const [full, filter] of twin) {
      if (!isMatch(filter, topic)) continue;
      if (full.startsWith("$share/")) groups.set(full, (groups.get(full) ?? new Set()).add(client));
      else least[client] = 1;
    }
  });
  const sum = (numbers: number[]): number => numbers.reduce((total, each) => total + each, 0);
  same(`copies of ${topic}`, sum(counts), sum(least) + groups.size);
  counts.forEach((count, client) => {
    const most = least[client]! + [...groups.values()].filter((members) => members.has(client)).length;
    if (count < least[client]! || count > most) throw new Error(`client ${client} got ${count} copies of ${topic}`);
  });
}

test("outbox: a queue", () => {
  const property = fc.property(fc.array(fc.option(fc.nat(1000)), { maxLength: 300, size: "max" }), (steps) => {
    const outbox = new Outbox();
    const twin: number[] = [];
    for (const size of steps) {
      if (size !== null) {
        outbox.push(size, size & 7, -size, size + 1, size);
        twin.push(size);
      } else if (twin.length > 0) {
        const first = twin.shift()!;
        same(
          "head",
          [MESSAGE, DELIVERY, IDS, GROUP].map((field) => outbox.first()!.head.at(0, field)),
          [first, first & 7, 0 - first, first + 1],
        );
        outbox.shift(outbox.first()!, first);
      }
      same("count", outbox.count, twin.length);
    }
    same(
      "all",
      twin.map((_, i) => outbox.first()!.head.at(i, MESSAGE)),
      twin,
    );
    same(
      "bytes",
      outbox.bytes,
      twin.reduce((sum, size) => sum + size, 0),
    );
  });
  check(property, rounds(300, 3000, 20_000));
});

interface Sent {
  id: number;
  message: number;
  isSent: boolean;
}

test("inflight: a list of sent messages and a list of released ids", () => {
  const op = fc.constantFrom(
    "push",
    "push",
    "push",
    "ack",
    "ackFirst",
    "release",
    "complete",
    "rewind",
    "resend",
    "resend",
    "turn",
  );
  const property = fc.property(fc.array(fc.tuple(op, fc.nat(1000)), { maxLength: 200, size: "max" }), (steps) => {
    const inflight = new Inflight();
    let twin: Sent[] = [];
    const released: number[] = [];
    let next = 0;
    for (const [name, choice] of steps) {
      const sent = twin.filter(({ isSent }) => isSent);
      const chosen = sent[name === "ackFirst" ? 0 : choice % Math.max(1, sent.length)];
      if (name === "push" && sent.length === twin.length) {
        const id = inflight.push(next, 1, 0, -1);
        if (twin.some((each) => each.id === id) || released.includes(id)) throw new Error(`id ${id} is in use`);
        twin.push({ id, message: next++, isSent: true });
      } else if (name === "turn" && twin.length + released.length < 20 && sent.length === twin.length) {
        for (let i = 0; i < 65_530; i++) inflight.remove(inflight.find(inflight.push(0, 1, 0, -1)));
      } else if ((name === "ack" || name === "ackFirst" || name === "release") && chosen) {
        const position = inflight.find(chosen.id);
        same("message", inflight.field(position, MESSAGE), chosen.message);
        inflight.remove(position);
        twin = twin.filter((each) => each !== chosen);
        if (name === "release") {
          inflight.release(chosen.id);
          released.push(chosen.id);
        }
      } else if (name === "complete" && released.length > 0) {
        const [id] = released.splice(choice % released.length, 1);
        same("complete", inflight.complete(id!), true);
      } else if (name === "rewind") {
        inflight.rewind();
        for (const each of twin) each.isSent = false;
      } else if (name === "resend") {
        const first = twin.find(({ isSent }) => !isSent);
        const position = inflight.nextUnsent();
        if (position >= 0) inflight.advance();
        same("resend", position < 0 ? undefined : inflight.packetIdAt(position), first?.id);
        if (first) first.isSent = true;
      }
      compareInflight(inflight, twin, released);
    }
  });
  check(property, rounds(40, 150, 1500));
});

function compareInflight(inflight: Inflight, twin: Sent[], released: number[]): void {
  const sentCount = twin.filter(({ isSent }) => isSent).length;
  same(
    "counts",
    [inflight.count, inflight.sentCount, inflight.releasedCount],
    [twin.length, sentCount, released.length],
  );
  same("sums", [inflight.used, inflight.total], [sentCount + released.length, twin.length + released.length]);
  same("oldest", inflight.oldestId, twin[0]?.id ?? released[0] ?? 0);
  same(
    "released",
    released.map((_, i) => inflight.releasedAt(i)),
    released,
  );
  const ids: number[] = [];
  for (let i = 0; i < inflight.positions; i++) if (inflight.packetIdAt(i) !== 0) ids.push(inflight.packetIdAt(i));
  same(
    "order",
    ids,
    twin.map(({ id }) => id),
  );
  for (const { id, isSent } of twin) same(`find ${id}`, inflight.find(id) >= 0, isSent);
}

test("retained index: a map of topics, and cursors that skip what has changed since", () => {
  const step = fc.record({
    op: fc.constantFrom("set", "set", "set", "remove", "look", "next", "next", "close"),
    topic: topicName,
    filter: topicFilter,
    choice: fc.nat(100),
  });
  const property = fc.property(fc.array(step, { maxLength: 100, size: "max" }), (steps) => {
    const pool = new BlockPool();
    const messages = new MessagePool(pool, 1e9);
    const index = new RetainedIndex(pool, messages, 1);
    const twin = new Map<string, string>();
    let cursors: { cursor: RetainedCursor; left: Map<string, string> }[] = [];
    const drop = (topic: string): void => cursors.forEach(({ left }) => left.delete(topic));
    const view = new MessageView();
    steps.forEach(({ op, topic, filter, choice }, i) => {
      const bytes = Buffer.from(topic);
      const node = index.find(bytes, 0, bytes.length);
      same(`find ${topic}`, node >= 0, twin.has(topic));
      const at = cursors[choice % Math.max(1, cursors.length)];
      if (op === "set") {
        const message = viewOf(topic, `${i}`);
        index.set(message, messages.keep(message));
        twin.set(topic, `${i}`);
        drop(topic);
      } else if (op === "remove" && node >= 0) {
        index.remove(node);
        twin.delete(topic);
        drop(topic);
      } else if (op === "look") {
        const left = new Map([...twin].filter(([each]) => isMatch(filter, each)));
        index.lookUp(Buffer.from(filter), (cursor) => cursors.push({ cursor, left }));
      } else if (op === "next" && at) {
        takeNext(at.cursor, at.left, view);
      } else if (op === "close" && at) {
        at.cursor.close();
        cursors = cursors.filter((each) => each !== at);
      }
      same("count", index.count, twin.size);
    });
    for (const { cursor, left } of cursors) while (takeNext(cursor, left, view));
    for (const topic of twin.keys()) index.remove(index.find(Buffer.from(topic), 0, Buffer.byteLength(topic)));
    same("memory", pool.usedBytes, 0);
  });
  check(property, rounds(400, 2000, 20_000));
});

function takeNext(cursor: RetainedCursor, left: Map<string, string>, view: MessageView): boolean {
  if (!cursor.next(view)) {
    same("not given", [...left.keys()], []);
    return false;
  }
  const topic = view.topicText();
  same(`value of ${topic}`, view.payload().toString(), left.get(topic));
  left.delete(topic);
  return true;
}
