/** The shipped modules in a whole broker: a test a line of what emqttd did, or of what differs. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RawClient } from "#test/support/client.ts";
import { type BrokerInProcess, startInProcess } from "./broker-in-process.ts";

const NODE = "$SYS/brokers/mantou@127.0.0.1";

interface Heard {
  readonly topic: string;
  readonly payload: string;
  readonly qos: number;
  readonly isRetain: boolean;
}

/** The next messages of a client, acknowledged. */
async function take(client: RawClient, count: number): Promise<Heard[]> {
  const heard: Heard[] = [];
  while (heard.length < count) {
    const message = await client.take("publish", undefined, 10_000);
    await client.ack(message);
    const { topic, payload, qos, retain } = message;
    heard.push({ topic, payload: Buffer.from(payload).toString(), qos: qos ?? 0, isRetain: retain ?? false });
  }
  return heard;
}

async function watch(world: BrokerInProcess, filter: string, qos = 2): Promise<RawClient> {
  const watcher = await world.harness.connect({ version: 5, clientId: "watcher" });
  await watcher.subscribe(filter, qos);
  return watcher;
}

const QUIET_SYS = "modules.sys.intervalSec=0";

describe("presence", () => {
  test("connected: clientid, username, ipaddress, session, protocol, connack, ts; not retained, QoS 0", async () => {
    await using world = await startInProcess([QUIET_SYS]);
    const watcher = await watch(world, `${NODE}/clients/#`);
    const beforeSec = Math.floor(Date.now() / 1000);
    await world.harness.connect({ version: 4, clientId: "c1", username: "ann", cleanStart: false });
    await world.harness.connect({ version: 3, clientId: "c2", cleanStart: true });
    await world.harness.connect({ version: 5, clientId: "c3", cleanStart: true });
    const heard = await take(watcher, 3);
    const [first] = heard;
    expect(first).toMatchObject({ topic: `${NODE}/clients/c1/connected`, qos: 0, isRetain: false });
    const { ts, ...event } = JSON.parse(first!.payload) as { ts: number };
    expect(event as unknown).toEqual({
      clientid: "c1",
      username: "ann",
      ipaddress: "127.0.0.1",
      session: true,
      protocol: 4,
      connack: 0,
    });
    expect(ts).toBeGreaterThanOrEqual(beforeSec);
    expect(ts).toBeLessThanOrEqual(Date.now() / 1000);
    expect(Object.keys(JSON.parse(first!.payload) as object)).toEqual(
      "clientid username ipaddress session protocol connack ts".split(" "),
    );
    const others = heard.slice(1).map(({ payload }) => JSON.parse(payload) as Record<string, unknown>);
    expect(others).toMatchObject([
      { username: null, session: false, protocol: 3 },
      { username: null, session: false, protocol: 5 },
    ]);
    expect(world.engine.retainedIndex.count).toBe(0);
  });

  test("connected is told of refused CONNECTs too, with the code", async () => {
    await using world = await startInProcess([QUIET_SYS, "access.authenticate=[]", "modules.presence.qos=1"]);
    const heard: Heard[] = [];
    world.engine.hooks.messagePublish.add(({ topic, payload, qos, isRetain }) => {
      heard.push({ topic, payload: payload.toString(), qos, isRetain });
    });
    const v4 = await world.harness.open(4);
    v4.send({ type: "connect", clientId: "stranger", username: "u", password: "p", cleanStart: true });
    await v4.expect("connack", { reasonCode: 4 });
    const v5 = await world.harness.open(5);
    v5.send({ type: "connect", clientId: "other", cleanStart: true });
    await v5.expect("connack", { reasonCode: 0x87 });
    expect(heard.map(({ topic, qos }) => [topic, qos])).toEqual([
      [`${NODE}/clients/stranger/connected`, 1],
      [`${NODE}/clients/other/connected`, 1],
    ]);
    expect(heard.map(({ payload }) => JSON.parse(payload) as object)).toMatchObject([
      { connack: 4, protocol: 4 },
      { connack: 0x87, protocol: 5 },
    ]);
  });

  test("disconnected: clientid, reason, ts, with emqttd's words", async () => {
    await using world = await startInProcess([QUIET_SYS]);
    const watcher = await watch(world, `${NODE}/clients/+/disconnected`);
    const connect = (clientId: string): Promise<RawClient> => world.harness.connect({ version: 5, clientId });
    await (await connect("normal")).disconnect();
    (await connect("closed")).kill();
    const kicked = await connect("kick");
    world.engine.sessions.sinks[world.engine.sessions.find(Buffer.from("kick"))]!.end(0x98);
    await kicked.expectDisconnect(0x98);
    await connect("conflict");
    await connect("conflict");
    (await connect("protocol_error")).send(Uint8Array.from([0x20, 2, 0, 0]));
    const heard = await take(watcher, 5);
    for (const { topic, payload, isRetain } of heard) {
      const { clientid, reason, ts } = JSON.parse(payload) as { clientid: string; reason: string; ts: number };
      expect([topic, reason, isRetain]).toEqual([`${NODE}/clients/${clientid}/disconnected`, clientid, false]);
      expect(Number.isInteger(ts)).toBe(true);
    }
    expect(heard.map(({ topic }) => topic.split("/")[4]).toSorted()).toEqual([
      "closed",
      "conflict",
      "kick",
      "normal",
      "protocol_error",
    ]);
  });

  test("costs a connection nothing while it lasts", async () => {
    await using world = await startInProcess([QUIET_SYS]);
    await world.harness.connect({ version: 5, clientId: "idle" });
    expect(world.broker.plugins.list()).toContainEqual(expect.objectContaining({ name: "presence", state: "running" }));
    expect(world.connectionOf("idle").rare).toBeNull();
  });

  test("a client id with wildcards stands in the topic as %2B and %23; off, nothing is told", async () => {
    await using world = await startInProcess([QUIET_SYS]);
    const watcher = await watch(world, `${NODE}/clients/#`);
    await world.harness.connect({ version: 5, clientId: "a+b#c" });
    const [heard] = await take(watcher, 1);
    expect(heard!.topic).toBe(`${NODE}/clients/a%2Bb%23c/connected`);
    expect(JSON.parse(heard!.payload)).toMatchObject({ clientid: "a+b#c" });
    await world.broker.plugins.unload("presence");
    await world.harness.connect({ version: 5, clientId: "quiet" });
    await watcher.expectNothing(20);
  });
});

describe("$SYS", () => {
  test("once a second: uptime and datetime as text, not retained", async () => {
    await using world = await startInProcess();
    const watcher = await watch(world, `${NODE}/+`, 0);
    const found = new Map<string, Heard>();
    while (!found.has("uptime") || !found.has("datetime")) {
      const [heard] = await take(watcher, 1);
      found.set(heard!.topic.split("/").at(-1)!, heard!);
    }
    expect(found.get("uptime")).toMatchObject({ isRetain: false, qos: 0 });
    expect(found.get("uptime")!.payload).toMatch(/^\d+ seconds$/);
    expect(found.get("datetime")!.payload).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  });

  test("retained: $SYS/brokers (the nodes), version, sysdescr", async () => {
    await using world = await startInProcess();
    const watcher = await world.harness.connect({ version: 5 });
    await watcher.subscribe(["$SYS/brokers", `${NODE}/version`, `${NODE}/sysdescr`]);
    const heard = await take(watcher, 3);
    expect(heard.map(({ topic, payload, isRetain }) => [topic, payload, isRetain]).toSorted()).toEqual([
      ["$SYS/brokers", "mantou@127.0.0.1", true],
      [`${NODE}/sysdescr`, "mantou MQTT broker", true],
      [`${NODE}/version`, "0.1.0", true],
    ]);
  });

  test("is not bound by what clients may name", async () => {
    await using world = await startInProcess(["mqtt.topicLevelsMax=2", "mqtt.topicBytesMax=16"]);
    const watcher = await watch(world, "$SYS/#", 0);
    while ((await take(watcher, 1))[0]!.topic !== `${NODE}/uptime`);
  });

  test("each interval: every topic of emqttd below stats and metrics, as integers", async () => {
    await using world = await startInProcess(["modules.sys.intervalSec=1"]);
    const watcher = await watch(world, `${NODE}/#`, 0);
    const found = new Map<string, Heard>();
    const wanted = [
      ...["clients", "sessions", "routes", "topics", "subscribers", "subscriptions", "retained"].flatMap((name) => [
        `stats/${name}/count`,
        `stats/${name}/max`,
      ]),
      ...["received", "sent"].map((way) => `metrics/bytes/${way}`),
      ..."received sent connect connack subscribe suback unsubscribe unsuback pingreq pingresp disconnect"
        .split(" ")
        .map((name) => `metrics/packets/${name}`),
      ...["publish", "puback", "pubrec", "pubrel", "pubcomp"].flatMap((name) =>
        ["received", "sent"].map((way) => `metrics/packets/${name}/${way}`),
      ),
      ...["received", "sent", "retained", "dropped"].map((name) => `metrics/messages/${name}`),
      ...[0, 1, 2].flatMap((qos) => ["received", "sent"].map((way) => `metrics/messages/qos${qos}/${way}`)),
      "vm/memory/rss",
      "vm/memory/heap",
      "vm/lag",
      "vm/workers",
    ];
    while (wanted.some((name) => !found.has(name))) {
      const [heard] = await take(watcher, 1);
      found.set(heard!.topic.slice(NODE.length + 1), heard!);
    }
    for (const name of wanted) {
      expect(found.get(name)!.payload).toMatch(/^\d+$/);
      expect(found.get(name)!.isRetain).toBe(false);
    }
    expect(found.get("stats/subscriptions/count")!.payload).toBe("1");
    expect(found.get("stats/subscribers/count")!.payload).toBe("1");
    expect(found.get("stats/clients/max")!.payload).toBe("1");
    expect(found.get("metrics/packets/connect")!.payload).toBe("1");
    expect(found.get("vm/workers")!.payload).toBe("1");
    expect(Number(found.get("vm/memory/rss")!.payload)).toBeGreaterThan(1e6);
  });

  test("its traffic is not counted among the messages, and a leading wildcard does not match it", async () => {
    await using world = await startInProcess();
    const watcher = await watch(world, `${NODE}/uptime`, 2);
    const all = await world.harness.connect({ version: 5 });
    await all.subscribe("#");
    await all.subscribe("+/brokers");
    await take(watcher, 1);
    await all.expectNothing(1);
    const counted = Object.entries(world.engine.metrics.toObject()).filter(
      ([name, value]) => name.startsWith("messages.") && value > 0,
    );
    expect(counted).toEqual([]);
    await all.publish("t", "x");
    await all.expect("publish", { topic: "t" });
    expect(world.engine.metrics.get("messages.qos0.sent")).toBe(1);
  });

  test("alarms: alert with id, severity, title, summary, ts; clear with id, ts", async () => {
    await using world = await startInProcess();
    const watcher = await watch(world, `${NODE}/alarms/#`);
    const { alarms } = world.broker.observation;
    alarms.set({ id: "planted", severity: "warning", title: "a title", summary: "a summary" });
    alarms.clear("planted");
    const heard = await take(watcher, 2);
    expect(heard.map(({ topic }) => topic)).toEqual([`${NODE}/alarms/planted/alert`, `${NODE}/alarms/planted/clear`]);
    const [alert, clear] = heard.map(({ payload }) => JSON.parse(payload) as { ts: number });
    expect(alert as unknown).toEqual({
      id: "planted",
      severity: "warning",
      title: "a title",
      summary: "a summary",
      ts: alert!.ts,
    });
    expect(clear as unknown).toEqual({ id: "planted", ts: clear!.ts });
    expect(heard.every(({ isRetain }) => !isRetain)).toBe(true);
  });

  test("interval 0: nothing", async () => {
    await using world = await startInProcess([QUIET_SYS]);
    const watcher = await watch(world, "$SYS/#");
    await watcher.expectNothing(1100);
    expect(world.broker.plugins.list().find(({ name }) => name === "sys")).toMatchObject({
      state: "stopped",
      kind: "module",
    });
  });
});

const off = [QUIET_SYS, "modules.presence.enabled=false"];

async function runCommand({ broker }: BrokerInProcess, name: string, ...args: string[]): Promise<unknown> {
  return (await broker.control("commands.run", { name, args })).answer;
}

async function metricsOf({ broker }: BrokerInProcess): Promise<Record<string, number>> {
  const rows = await broker.control("plugins.metrics", {});
  const named = rows.map(({ name, labels, value }) => [[name, ...Object.values(labels)].join(" "), value] as const);
  return Object.fromEntries(named.filter(([, value]) => value !== 0));
}

describe("auto-subscribe", () => {
  const own = `modules.autoSubscribe.subscriptions=${JSON.stringify([
    { filter: "$queue/clients/$c", qos: 1 },
    { filter: "users/%u/+" },
  ])}`;

  test("a client has the subscriptions of the list when it is in, with its id and user name in them", async () => {
    await using world = await startInProcess([...off, own]);
    const ann = await world.harness.connect({ version: 4, clientId: "c1", username: "ann" });
    const nobody = await world.harness.connect({ version: 5, clientId: "c2" });
    await ann.publish("clients/c1", "1", { qos: 1 });
    await ann.publish("users/ann/x", "2", { qos: 1 });
    expect(await take(ann, 2)).toEqual([
      { topic: "clients/c1", payload: "1", qos: 1, isRetain: false },
      { topic: "users/ann/x", payload: "2", qos: 0, isRetain: false },
    ]);
    await ann.publish("clients/c2", "3", { qos: 1 });
    expect(await take(nobody, 1)).toMatchObject([{ payload: "3" }]);
    expect(await metricsOf(world)).toEqual({ mantou_auto_subscribe_left_out_total: 1 });
  });

  test("a client whose id is a wildcard gets nothing of others", async () => {
    await using world = await startInProcess([...off, own]);
    const client = await world.harness.connect({ version: 5, clientId: "#", username: "+" });
    await client.publish("clients/other", "x");
    await client.publish("users/ann/x", "x");
    await client.ping();
    expect(world.engine.index.subscriptionCount).toBe(0);
  });

  test("only a CONNECT that is accepted gets any; access judges them as if the client had asked", async () => {
    await using world = await startInProcess([...off, own, "access.noMatch=deny"]);
    await world.harness.connect({ version: 5, clientId: "c1" });
    expect(world.engine.index.subscriptionCount).toBe(0);
  });

  test("subscriptions listed for a client id: add, list, del; kept over a restart", async () => {
    const { mkdtempSync, rmSync } = await import("node:fs");
    const data = mkdtempSync("/tmp/mantou-auto-");
    const set = [...off, "modules.autoSubscribe.enabled=true", `node.data=${data}`];
    try {
      {
        await using world = await startInProcess(set);
        const run = (...args: string[]) => runCommand(world, "static-subscriptions", ...args);
        expect(await run("add", "c1", "a/#", "1")).toBe("ok\n");
        await run("add", "c1", "b");
        await run("add", "__proto__", "c", "2");
        expect(await run("list")).toBe("__proto__ -> c:2\nc1 -> a/#:1\nc1 -> b:0\n");
        await run("del", "c1", "b");
        expect(run("del", "c1", "b")).rejects.toThrow("Not Found.");
        expect(run("add", "c1", "a/#/b", "1")).rejects.toThrow("FILTER: found");
        expect(run("add", "c1", "a", "3")).rejects.toThrow("QOS: found 3");
        expect(run("frobnicate")).rejects.toThrow("allowed: list | add");
        await run("add", "c2", "x", "0");
        await run("del", "c2");
      }
      await using world = await startInProcess(set);
      expect(await runCommand(world, "static-subscriptions", "list")).toBe("__proto__ -> c:2\nc1 -> a/#:1\n");
      const client = await world.harness.connect({ version: 5, clientId: "c1" });
      await client.publish("a/b", "x", { qos: 1 });
      expect(await take(client, 1)).toMatchObject([{ topic: "a/b", qos: 1 }]);
    } finally {
      rmSync(data, { recursive: true });
    }
  });
});

describe("rewrite", () => {
  const rules = `modules.rewrite.rules=${JSON.stringify([
    { filter: "old/#", steps: [{ pattern: "^old/(.+)$", to: "new/$1" }] },
    { filter: "bad/#", steps: [{ pattern: "^bad/(.*)$", to: "$1" }] },
  ])}`;

  test.each([0, 1, 2] as const)("PUBLISH at QoS %i goes to the new topic", async (qos) => {
    await using world = await startInProcess([...off, rules]);
    const client = await world.harness.connect({ version: 5 });
    await client.subscribe("new/#", 2);
    client.send({ type: "publish", topic: "old/a", payload: "x", qos, ...(qos > 0 && { packetId: 7 }), retain: true });
    expect(await take(client, 1)).toMatchObject([{ topic: "new/a", payload: "x", qos }]);
    if (qos === 2) {
      await client.take("pubrec", 7);
      client.send({ type: "pubrel", packetId: 7 });
      await client.take("pubcomp", 7);
    }
    const late = await world.harness.connect({ version: 5 });
    await late.subscribe("#");
    expect(await take(late, 1)).toMatchObject([{ topic: "new/a", isRetain: true }]);
  });

  test("SUBSCRIBE and UNSUBSCRIBE as well, a share keeps its prefix", async () => {
    await using world = await startInProcess([...off, rules]);
    const client = await world.harness.connect({ version: 5 });
    expect((await client.subscribe(["old/+", "$share/g/old/s"], 1)).reasonCodes).toEqual([1, 1]);
    const other = await world.harness.connect({ version: 5 });
    await other.publish("new/x", "1");
    expect(await take(client, 1)).toMatchObject([{ topic: "new/x" }]);
    expect((await client.unsubscribe(["old/+"])).reasonCodes).toEqual([0]);
    await other.publish("new/s", "2", { qos: 1 });
    expect(await take(client, 1)).toMatchObject([{ topic: "new/s", payload: "2" }]);
    expect((await client.unsubscribe(["$share/g/new/s"])).reasonCodes).toEqual([0]);
  });

  test("what waits for a client that is away has the new topic, over a restart as well", async () => {
    const { mkdtempSync, rmSync } = await import("node:fs");
    const data = mkdtempSync("/tmp/mantou-rewrite-");
    const set = [...off, rules, `node.data=${data}`, "store.type=sqlite"];
    const stays: [["sessionExpiryIntervalSec", number]] = [["sessionExpiryIntervalSec", 3600]];
    const connect = ({ harness }: BrokerInProcess) =>
      harness.connect({ version: 5, clientId: "away", cleanStart: false, properties: stays });
    try {
      {
        await using world = await startInProcess(set);
        const away = await connect(world);
        await away.subscribe("old/#", 2);
        await away.disconnect();
        const publisher = await world.harness.connect({ version: 5 });
        await publisher.publish("old/1", "one", { qos: 1 });
        await publisher.publish("old/2", "two", { qos: 2, retain: true });
      }
      await using world = await startInProcess(set);
      const away = await connect(world);
      expect(await take(away, 2)).toMatchObject([
        { topic: "new/1", payload: "one", qos: 1 },
        { topic: "new/2", payload: "two", qos: 2 },
      ]);
    } finally {
      rmSync(data, { recursive: true });
    }
  });

  test("what would be no topic any more stays as it was, and is counted", async () => {
    await using world = await startInProcess([...off, rules]);
    const client = await world.harness.connect({ version: 5 });
    await client.subscribe("bad/");
    await client.publish("bad/", "x");
    expect(await take(client, 1)).toMatchObject([{ topic: "bad/" }]);
    expect(await metricsOf(world)).toEqual({ mantou_rewrite_invalid_total: 2 });
  });

  test("access judges the topic that the client named", async () => {
    const set = [...off, rules, "access.noMatch=deny"];
    await using world = await startInProcess(set);
    world.broker.access.addBackend(
      { name: "t", authorize: ({ topic }, answer) => answer(topic.startsWith("old/") ? "allow" : "ignore") },
      0,
    );
    const client = await world.harness.connect({ version: 5 });
    expect((await client.subscribe(["old/a", "new/a"])).reasonCodes).toEqual([0, 0x87]);
    await client.publish("old/a", "x");
    expect(await take(client, 1)).toMatchObject([{ topic: "new/a" }]);
  });

  test("a pattern that RE2 does not know stops the start", async () => {
    const wrong = `modules.rewrite.rules=${JSON.stringify([{ filter: "#", steps: [{ pattern: "(?=a)", to: "b" }] }])}`;
    expect(startInProcess([...off, wrong])).rejects.toThrow(
      /modules\.rewrite\.rules\.0\.steps\.0\.pattern: found "\(\?=a\)", allowed: a regular expression as RE2 reads it \(/,
    );
    await startInProcess([...off, wrong]).catch(() => {});
  });
});

test("a prefix of a filter hides nothing from access", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mantou-acl-"));
  const rules = join(folder, "acl.yaml");
  writeFileSync(rules, '[{ deny: all, topics: ["secret/#"] }, { allow: all }]');
  await using world = await startInProcess([
    ...off,
    "modules.exclusive.enabled=true",
    "modules.local.enabled=true",
    `access.authorize=[{"type":"acl-file","file":"${rules}"}]`,
  ]);
  const client = await world.harness.connect({ version: 5 });
  for (const prefix of ["$exclusive/", "$local/", "$local/$exclusive/", "$exclusive/$share/g/", "$local/$queue/"])
    expect((await client.subscribe([`${prefix}secret/x`, `${prefix}open/x`])).reasonCodes).toEqual([0x87, 0]);
  rmSync(folder, { recursive: true });
});

describe("exclusive", () => {
  const on = [...off, "modules.exclusive.enabled=true"];

  test("one client at a time: the next is refused with 0x97, 3.x with 0x80, until the first leaves it", async () => {
    await using world = await startInProcess(on);
    const [first, second] = [
      await world.harness.connect({ version: 5, clientId: "first" }),
      await world.harness.connect({ version: 5, clientId: "second" }),
    ];
    const old = await world.harness.connect({ version: 4, clientId: "old" });
    expect((await first.subscribe("$exclusive/t", 1)).reasonCodes).toEqual([1]);
    expect((await second.subscribe(["$exclusive/t", "$exclusive/u"])).reasonCodes).toEqual([0x97, 0]);
    expect((await old.subscribe("$exclusive/t")).reasonCodes).toEqual([0x80]);
    expect((await first.subscribe("$exclusive/t", 0)).reasonCodes).toEqual([0]);
    await second.publish("t", "x");
    expect(await take(first, 1)).toMatchObject([{ topic: "t" }]);
    expect((await first.unsubscribe("$exclusive/t")).reasonCodes).toEqual([0]);
    expect((await old.subscribe("$exclusive/t")).reasonCodes).toEqual([0]);
  });

  test("a session that ends gives it free, one that is only away does not; a plain subscription is not in the way", async () => {
    await using world = await startInProcess(on);
    const plain = await world.harness.connect({ version: 5 });
    await plain.subscribe(["t", "u"]);
    const brief = await world.harness.connect({ version: 5, clientId: "brief" });
    await brief.subscribe("$exclusive/t");
    const day: [["sessionExpiryIntervalSec", number]] = [["sessionExpiryIntervalSec", 86_400]];
    const lasting = await world.harness.connect({ version: 5, clientId: "lasting", properties: day });
    await lasting.subscribe("$exclusive/u");
    for (const client of [brief, lasting]) {
      await client.disconnect();
      await client.expectClosed();
    }
    const next = await world.harness.connect({ version: 5 });
    expect((await next.subscribe(["$exclusive/t", "$exclusive/u"])).reasonCodes).toEqual([0, 0x97]);
  });
});

test("local: $local/FILTER is FILTER, in SUBSCRIBE and UNSUBSCRIBE", async () => {
  await using world = await startInProcess([...off, "modules.local.enabled=true"]);
  const client = await world.harness.connect({ version: 5 });
  expect((await client.subscribe("$local/a/+", 1)).reasonCodes).toEqual([1]);
  await client.publish("a/b", "x");
  expect(await take(client, 1)).toMatchObject([{ topic: "a/b" }]);
  expect((await client.unsubscribe("$local/a/+")).reasonCodes).toEqual([0]);
});

test("topic-metrics: in, out and dropped by filter", async () => {
  await using world = await startInProcess([...off, `modules.topicMetrics.filters=["a/#","a/b","c"]`]);
  const client = await world.harness.connect({ version: 5 });
  await client.subscribe("a/b");
  await client.publish("a/b", "1234");
  await client.publish("a/c", "12");
  await client.publish("d", "1");
  await take(client, 1);
  expect(await metricsOf(world)).toEqual({
    "mantou_topic_metrics_received_total a/#": 2,
    "mantou_topic_metrics_received_total a/b": 1,
    "mantou_topic_metrics_received_bytes_total a/#": 6,
    "mantou_topic_metrics_received_bytes_total a/b": 4,
    "mantou_topic_metrics_sent_total a/#": 1,
    "mantou_topic_metrics_sent_total a/b": 1,
    "mantou_topic_metrics_dropped_total a/#": 1,
  });
});

test("retained-policy: not kept, too large, kept for a while; others as ever; an empty one always forgets", async () => {
  const rules = JSON.stringify([
    { filter: "live/#", isKept: false },
    { filter: "small/#", payloadBytesMax: 3 },
    { filter: "brief", expirySec: "1s" },
  ]);
  await using world = await startInProcess([...off, `modules.retainedPolicy.rules=${rules}`]);
  const client = await world.harness.connect({ version: 5 });
  await client.subscribe("live/#");
  for (const [topic, payload] of [
    ["live/a", "x"],
    ["small/a", "123"],
    ["small/b", "1234"],
    ["brief", "x"],
    ["other", "x"],
  ] as const)
    await client.publish(topic, payload, { qos: 1, retain: true });
  expect(await take(client, 1)).toMatchObject([{ topic: "live/a" }]);
  const kept = async (): Promise<string[]> => {
    const late = await world.harness.connect({ version: 5 });
    await late.subscribe("#");
    await late.ping();
    return (await late.settle()).flatMap((packet) => (packet.type === "publish" ? [packet.topic] : [])).toSorted();
  };
  expect(await kept()).toEqual(["brief", "other", "small/a"]);
  await client.publish("small/a", "", { qos: 1, retain: true });
  while ((await kept()).includes("brief")) await Bun.sleep(100);
  expect(await kept()).toEqual(["other"]);
  expect(world.engine.metrics.get("retained.refused.stopped_by_hook")).toBe(2);
});

test("audit: what was published and who came and went, a JSON object a line", async () => {
  const { mkdtempSync, readFileSync, rmSync } = await import("node:fs");
  const folder = mkdtempSync("/tmp/mantou-audit-");
  const options = JSON.stringify({ filters: ["a/#"], clients: true, payload: true, file: `${folder}/audit.jsonl` });
  try {
    {
      await using world = await startInProcess([...off, `modules.audit=${options}`]);
      const client = await world.harness.connect({ version: 5, clientId: "c1", username: "ann" });
      await client.publish("a/b", "secret", { qos: 1, retain: true });
      await client.publish("b", "x", { qos: 1 });
      await client.disconnect();
      await client.expectClosed();
    }
    const lines = readFileSync(`${folder}/audit.jsonl`, "utf8").trimEnd().split("\n");
    const events = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(events.map(({ event, clientid }) => [event, clientid])).toEqual([
      ["connected", "c1"],
      ["publish", "c1"],
      ["disconnected", "c1"],
    ]);
    expect(events[1]).toMatchObject({ topic: "a/b", qos: 1, retain: true, payloadBytes: 6, payload: "c2VjcmV0" });
    expect(events[2]).toMatchObject({ address: "127.0.0.1", reasonCode: 0, by: "client" });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
