/** The shipped modules in a whole broker: a test a line of what emqttd did, or of what differs. */
import { describe, expect, test } from "bun:test";
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
    const message = await client.take("publish");
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
