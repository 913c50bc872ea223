/** What hooks see and may do while clients speak MQTT; and those that make one client wait. */
import { afterEach, describe, expect, test } from "bun:test";
import type { Hooks } from "#core/hooks.ts";
import type { HookMessage } from "#core/hook-message.ts";
import { type Harness, harnessOf } from "#test/support/harness.ts";
import { type MemoryTarget, startMemoryHarness } from "#test/support/memory-harness.ts";
import { DelayedAccess } from "#test/support/delayed-ports.ts";

const running: Harness[] = [];

afterEach(async () => {
  for (const harness of running.splice(0)) await harness.stop();
});

async function start(config: Record<string, unknown> = {}): Promise<{
  harness: Harness;
  engine: MemoryTarget["engine"];
  hooks: Hooks;
}> {
  const target = await startMemoryHarness(config);
  const harness = harnessOf(target);
  running.push(harness);
  return { harness, engine: target.engine, hooks: target.engine.hooks };
}

/** Answers kept to be given later. */
class Answers<E> {
  readonly events: E[] = [];
  private readonly waiting: ((goesOn: boolean) => void)[] = [];
  readonly listener = (event: E, done: (goesOn: boolean) => void): void => {
    this.events.push(event);
    this.waiting.push(done);
  };

  answer(goesOn = true): void {
    this.waiting.shift()!(goesOn);
  }
}

describe("client.connect", () => {
  test("may refuse with a reason, or by answering false, before access is asked", async () => {
    const access = new DelayedAccess();
    const { harness, hooks } = await start({ ports: { access } });
    const refused: unknown[] = [];
    hooks.clientRefused.add(({ clientId, username }, { connack, isCleanStart, keepAliveSec, hasWill }) => {
      refused.push([clientId, username, connack, isCleanStart, keepAliveSec, hasWill]);
    });
    hooks.clientConnect.add((attempt) => {
      if (attempt.client.clientId === "banned") attempt.reasonCode = 0x8a;
      if (attempt.client.clientId === "code of 3.1.1") attempt.reasonCode = 5; // what is no reason code refuses too
      return attempt.client.clientId !== "no";
    });
    const codes: number[] = [];
    for (const [version, clientId] of [
      [5, "banned"],
      [5, "no"],
      [4, "no"],
      [5, "code of 3.1.1"],
    ] as const) {
      const client = await harness.open(version);
      client.send({ type: "connect", clientId, username: "u", keepAliveSec: 7, cleanStart: true });
      codes.push((await client.expect("connack")).reasonCode);
    }
    expect(codes).toEqual([0x8a, 0x87, 5, 0x87]);
    expect(refused).toEqual([
      ["banned", "u", 0x8a, true, 7, false],
      ["no", "u", 0x87, true, 7, false],
      ["no", "u", 5, true, 7, false],
      ["code of 3.1.1", "u", 0x87, true, 7, false],
    ]);
    expect(access.waitingCount).toBe(0);
  });

  test("that takes its time holds this client alone", async () => {
    const { harness, hooks } = await start();
    const answers = new Answers<{ client: { clientId: string } }>();
    const off = hooks.clientConnectLater.add(answers.listener);
    const slow = await harness.open(5);
    slow.send({ type: "connect", clientId: "slow", cleanStart: true });
    slow.send({ type: "publish", topic: "t", payload: "from slow", qos: 1, packetId: 1 });
    off();
    const other = await harness.connect({ clientId: "other" });
    await other.subscribe("t");
    await slow.expectNothing(5);
    answers.answer();
    await slow.expect("connack", { reasonCode: 0 });
    await slow.expect("puback", { packetId: 1 });
    await other.expect("publish", { payload: "from slow" });
    expect(answers.events.map(({ client }) => client.clientId)).toEqual(["slow"]);
  });
});

describe("client.refused and client.connected", () => {
  test("tell of a client id that is not taken, with the return code of its version", async () => {
    const { harness, hooks } = await start();
    const said: unknown[] = [];
    hooks.clientRefused.add(({ clientId }, { connack }) => said.push(["refused", clientId, connack]));
    hooks.clientConnected.add(({ clientId }, { connack, expirySec }) =>
      said.push(["connected", clientId, connack, expirySec]),
    );
    const client = await harness.open(3);
    client.send({ type: "connect", clientId: "", cleanStart: false });
    await client.expect("connack", { reasonCode: 2 });
    await harness.connect({ version: 4, clientId: "kept", cleanStart: false });
    await harness.connect({ version: 5, clientId: "new", properties: [["sessionExpiryIntervalSec", 9]] });
    expect(said).toEqual([
      ["refused", "", 2],
      ["connected", "kept", 0, 0xffff_ffff],
      ["connected", "new", 0, 9],
    ]);
  });
});

test("client.disconnected says who ended the connection, and why", async () => {
  const { harness, hooks, engine } = await start();
  const said: unknown[] = [];
  hooks.clientDisconnected.add(({ clientId }, reasonCode, by) => said.push([clientId, reasonCode, by]));
  const polite = await harness.connect({ clientId: "polite" });
  await polite.disconnect();
  const withWill = await harness.connect({ clientId: "with will" });
  await withWill.disconnect({ reasonCode: 4 });
  const lost = await harness.connect({ clientId: "lost" });
  lost.kill();
  const silent = await harness.connect({ clientId: "silent", keepAliveSec: 1 });
  await harness.advance(3);
  await silent.expectDisconnect(0x8d);
  const first = await harness.connect({ clientId: "twice" });
  await harness.connect({ clientId: "twice" });
  await first.expectDisconnect(0x8e);
  const kicked = await harness.connect({ clientId: "kicked" });
  engine.sessions.sinks[engine.sessions.find(Buffer.from("kicked"))]!.end(0x98);
  await kicked.expectDisconnect(0x98);
  expect(said).toEqual([
    ["polite", 0, "client"],
    ["with will", 4, "client"],
    ["lost", 0, "link"],
    ["silent", 0x8d, "broker"],
    ["twice", 0x8e, "broker"],
    ["kicked", 0x98, "broker"],
  ]);
});

describe("client.subscribe", () => {
  test("may change filter and options, and refuse one filter; SUBACK keeps to what the client asked", async () => {
    const { harness, hooks, engine } = await start();
    hooks.clientSubscribe.add(({ client, wishes }) => {
      expect(client.clientId).toBe("a");
      for (const wish of wishes) {
        if (wish.filter === "secret") wish.reasonCode = 0x97;
        if (wish.filter.startsWith("old/")) wish.filter = wish.filter.replace("old/", "new/");
        wish.qos = 1;
        wish.isNoLocal = true;
      }
    });
    const a = await harness.connect({ clientId: "a" });
    const { reasonCodes } = await a.subscribe(["old/x", "secret", "y"], 2);
    expect(reasonCodes).toEqual([1, 0x97, 1]);
    engine.publishText("new/x", Buffer.from("1"), { qos: 2 });
    await a.publish("y", "own", { qos: 1 });
    engine.publishText("old/x", Buffer.from("2"));
    engine.publishText("y", Buffer.from("3"));
    await a.expect("publish", { topic: "new/x", payload: "1", qos: 1 });
    await a.expect("publish", { topic: "y", payload: "3" });
  });

  test("that answers false refuses all; a filter made wrong is refused", async () => {
    const { harness, hooks } = await start();
    const off = hooks.clientSubscribe.add(() => false);
    const v5 = await harness.connect({ version: 5 });
    expect((await v5.subscribe(["a", "b"])).reasonCodes).toEqual([0x87, 0x87]);
    const v4 = await harness.connect({ version: 4 });
    expect((await v4.subscribe("a")).reasonCodes).toEqual([0x80]);
    off();
    hooks.clientSubscribe.add(({ wishes }) => {
      wishes[0]!.filter = "a/#/b";
      if (wishes.length > 2) wishes[2]!.filter = undefined as never;
      // One wish a filter: SUBACK has a code for each.
      expect(() => (wishes as unknown[]).pop()).toThrow(TypeError);
    });
    expect((await v5.subscribe(["a", "b"])).reasonCodes).toEqual([0x8f, 0]);
    expect((await v5.subscribe(["a", "b", "c"])).reasonCodes).toEqual([0x8f, 0, 0]);
    await v5.subscribe("still/here");
  });

  test("that takes its time: what the client sends after it waits too", async () => {
    const { harness, hooks } = await start();
    const answers = new Answers<unknown>();
    hooks.clientSubscribeLater.add(answers.listener);
    const a = await harness.connect();
    a.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t", qos: 0 }] });
    a.send({ type: "publish", topic: "t", payload: "mine" });
    await a.expectNothing(5);
    answers.answer();
    await a.expect("suback", { reasonCodes: [0] });
    await a.expect("publish", { payload: "mine" });
  });
});

describe("client.unsubscribe", () => {
  test("may change the filters, or refuse", async () => {
    const { harness, hooks, engine } = await start();
    const a = await harness.connect();
    await a.subscribe(["new/x", "y"]);
    const off = hooks.clientUnsubscribe.add(({ filters }) => {
      filters.forEach((filter, i) => (filters[i] = filter.replace("old/", "new/")));
    });
    expect((await a.unsubscribe(["old/x", "z"])).reasonCodes).toEqual([0, 0x11]);
    off();
    hooks.clientUnsubscribe.add(() => false);
    expect((await a.unsubscribe(["y"])).reasonCodes).toEqual([0x87]);
    expect([engine.publishText("new/x", Buffer.alloc(1)), engine.publishText("y", Buffer.alloc(1))]).toEqual([0, 1]);
  });

  test("that takes its time holds the client; one that has left meanwhile leaves nothing behind", async () => {
    const { harness, hooks, engine } = await start();
    const answers = new Answers<unknown>();
    hooks.clientUnsubscribeLater.add(answers.listener);
    const a = await harness.connect();
    const b = await harness.connect();
    for (const client of [a, b]) {
      await client.subscribe("t");
      client.send({ type: "unsubscribe", packetId: 7, filters: ["t"] });
      client.send({ type: "pingreq" });
    }
    b.kill();
    await a.expectNothing(5);
    answers.answer();
    await a.expect("unsuback", { packetId: 7 });
    await a.expect("pingresp");
    answers.answer();
    await harness.advance(60);
    expect([engine.sessions.count, engine.publishText("t", Buffer.alloc(1))]).toEqual([1, 0]);
  });
});

describe("message.publish that takes its time", () => {
  test.each([0, 1, 2] as const)("holds the publisher, at QoS %i, and goes on with what it has become", async (qos) => {
    const { harness, hooks } = await start();
    const answers = new Answers<HookMessage>();
    hooks.messagePublishLater.add(answers.listener);
    const [slow, other, watcher] = await Promise.all(
      ["slow", "other", "watcher"].map((clientId) => harness.connect({ clientId })),
    );
    await watcher!.subscribe("#", 2);
    slow!.send({ type: "publish", topic: "t", payload: "before", qos, ...(qos > 0 && { packetId: 5 }) });
    slow!.send({ type: "pingreq" });
    await slow!.expectNothing(5);
    await other!.ping();
    const [message] = answers.events;
    expect([message!.topic, String(message!.payload), message!.publisher, message!.client?.clientId]).toEqual([
      "t",
      "before",
      "slow",
      "slow",
    ]);
    message!.topic = "changed";
    expect(() => (message!.payload = 5 as never)).toThrow(TypeError);
    message!.payload = "after";
    message!.qos = 1;
    answers.answer();
    if (qos === 1) await slow!.expect("puback", { packetId: 5 });
    if (qos === 2) await slow!.expect("pubrec", { packetId: 5 });
    await slow!.expect("pingresp");
    await watcher!.expect("publish", { topic: "changed", payload: "after", qos: 1 });
    if (qos < 2) return;
    slow!.send({ type: "publish", topic: "t", payload: "before", qos, packetId: 5, dup: true });
    await slow!.expect("pubrec", { packetId: 5 });
    expect(answers.events).toHaveLength(1);
    await watcher!.expectNothing(5);
  });

  test("stops it: acknowledged, counted, delivered to nobody", async () => {
    const { harness, hooks, engine } = await start();
    const answers = new Answers<HookMessage>();
    hooks.messagePublishLater.add(answers.listener);
    const client = await harness.connect();
    await client.subscribe("#", 2);
    for (const [qos, packetId] of [
      [1, 1],
      [2, 2],
    ] as const)
      client.send({ type: "publish", topic: "t", payload: "x", qos, packetId });
    answers.answer(false);
    await client.expect("puback", { packetId: 1, reasonCode: 0 });
    answers.answer(false);
    await client.expect("pubrec", { packetId: 2, reasonCode: 0 });
    client.send({ type: "pubrel", packetId: 2 });
    await client.expect("pubcomp", { packetId: 2, reasonCode: 0 });
    expect(engine.metrics.get("messages.dropped.stopped_by_hook")).toBe(2);
    expect(engine.metrics.get("messages.qos2.received")).toBe(1);
  });

  test("takes it or refuses it: no drop, or told with the reason code; 3.x is not told what is wrong", async () => {
    const { harness, hooks, engine } = await start();
    hooks.messagePublishLater.add((message, done) => {
      if (message.topic === "take") message.isTaken = true;
      else message.reasonCode = 0x97;
      done(false);
    });
    const client = await harness.connect({ version: 5 });
    expect((await client.publish("take", "x", { qos: 2 })).map(({ reasonCode }) => reasonCode)).toEqual([0, 0]);
    expect(engine.metrics.get("messages.dropped.stopped_by_hook")).toBe(0);
    expect((await client.publish("refuse", "x", { qos: 1 }))[0]!.reasonCode).toBe(0x97);
    expect((await client.publish("refuse", "x", { qos: 2 }))[0]!.reasonCode).toBe(0x97);
    await client.publish("refuse", "x");
    const old = await harness.connect({ version: 4, clientId: "old" });
    await old.publish("refuse", "x");
    await old.ping();
    old.send({ type: "publish", topic: "refuse", payload: "x", qos: 1, packetId: 9 });
    await old.expectClosed();
    expect(engine.metrics.get("messages.dropped.stopped_by_hook")).toBe(5);
  });

  test("of topics below a prefix alone: others do not pass it", async () => {
    const { harness, hooks } = await start();
    const seen: string[] = [];
    const prefix = { first: Buffer.from("$p/"), levels: 2 };
    const listen = (message: HookMessage, done: (goesOn: boolean) => void): void => {
      seen.push(message.topic);
      done(true);
    };
    const off = hooks.messagePublishLater.add(listen, 0, prefix);
    const client = await harness.connect();
    for (const topic of ["$p", "$p/1", "$p/1/a", "$pp/1", "a/$p/1", "a"]) await client.publish(topic, "x");
    await client.ping();
    expect(seen).toEqual(["$p/1", "$p/1/a"]);
    const offAll = hooks.messagePublishLater.add(listen);
    await client.publish("b", "x");
    await client.ping();
    expect(seen.slice(2)).toEqual(["b"]);
    offAll();
    off();
    await client.publish("$p/1", "x");
    await client.ping();
    expect([seen.length, hooks.messagePublishLater.isUsed]).toEqual([3, false]);
  });

  test("answers at once, or goes away meanwhile: no message is taken for another", async () => {
    const { harness, hooks } = await start();
    const client = await harness.connect();
    await client.subscribe("#");
    const off = hooks.messagePublishLater.add((message, done) => {
      message.payload = Buffer.from(`${message.payload}!`);
      done(message.topic !== "stop");
    });
    for (const [topic, payload] of [
      ["a", "1"],
      ["stop", "2"],
      ["b", "3"],
    ] as const)
      await client.publish(topic, payload);
    await client.expect("publish", { topic: "a", payload: "1!" });
    await client.expect("publish", { topic: "b", payload: "3!" });
    off();
    const answers = new Answers<HookMessage>();
    const offLater = hooks.messagePublishLater.add(answers.listener);
    await client.publish("a", "4");
    await client.publish("a", "5");
    offLater();
    answers.events[0]!.payload = Buffer.from("changed");
    answers.answer();
    await client.expect("publish", { topic: "a", payload: "changed" });
    await client.expect("publish", { topic: "a", payload: "5" });
  });

  test("after access has answered later, in packets cut anywhere", async () => {
    const access = new DelayedAccess();
    const { harness, hooks } = await start({ ports: { access } });
    const client = await harness.open(5);
    client.send({ type: "connect", clientId: "a", cleanStart: true });
    access.answerAll();
    await client.expect("connack");
    client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "#", qos: 0 }] });
    access.answerAll();
    await client.expect("suback");
    const answers = new Answers<HookMessage>();
    hooks.messagePublishLater.add(answers.listener);
    // PUBLISH t "xy", in two pieces.
    client.send(Uint8Array.from([0x30, 6, 0, 1, 0x74]));
    client.send(Uint8Array.from([0, 0x78, 0x79, 0xc0, 0]));
    access.answerAll();
    await client.expectNothing(5);
    answers.answer();
    access.answerAll();
    await client.expect("publish", { topic: "t", payload: "xy" });
    await client.expect("pingresp");
  });
});

describe("a message as a hook sees it", () => {
  test("that nobody changed goes on as it came, with its properties", async () => {
    const { harness, hooks } = await start();
    const seen: unknown[] = [];
    hooks.messagePublish.add(
      (message) => void seen.push([message.topic, message.payloadBytes, String(message.payload)]),
    );
    const a = await harness.connect({ version: 5 });
    await a.subscribe("#", { qos: 1 });
    await a.publish("t", "payload", {
      qos: 1,
      properties: [
        ["contentType", "text/x"],
        ["userProperty", ["k", "v"]],
      ],
    });
    const got = await a.expect("publish", { topic: "t", payload: "payload" });
    expect(got.properties).toEqual([
      ["contentType", "text/x"],
      ["userProperty", ["k", "v"]],
    ]);
    expect(seen).toEqual([["t", 7, "payload"]]);
  });

  test("keeps its properties when its topic changes, and its publisher's client is at hand", async () => {
    const { harness, hooks } = await start();
    const seen: unknown[] = [];
    hooks.messagePublish.add((message) => {
      seen.push([message.publisher, message.client?.username, message.propertyBytes.length > 0]);
      message.topic = "u";
    });
    const a = await harness.connect({ version: 5, clientId: "a", username: "ann" });
    await a.subscribe("#");
    await a.publish("t", "x", {
      properties: [
        ["messageExpiryIntervalSec", 60],
        ["contentType", "text/x"],
      ],
    });
    const got = await a.expect("publish", { topic: "u", payload: "x" });
    expect(got.properties).toEqual([
      ["messageExpiryIntervalSec", 60],
      ["contentType", "text/x"],
    ]);
    expect(seen).toEqual([["a", "ann", true]]);
  });

  test("is gone when the hooks have run; what was read stays; what is no topic, payload or QoS is refused", async () => {
    const { harness, hooks } = await start({ mqtt: { packetBytesMax: 1024, qosMax: 1 } });
    const kept: HookMessage[] = [];
    const faults: string[] = [];
    hooks.messagePublish.add((message) => {
      kept.push(message);
      for (const change of [
        () => (message.topic = "a/#"),
        () => (message.payload = Buffer.alloc(1025)),
        () => (message.qos = 2),
      ]) {
        try {
          change();
        } catch (error) {
          faults.push((error as Error).message);
        }
      }
      return message.topic === "t";
    });
    const a = await harness.connect();
    await a.subscribe("#");
    await a.publish("t", "x");
    await a.expect("publish", { topic: "t", payload: "x" });
    expect(kept[0]!.topic).toBe("t");
    expect(() => kept[0]!.payload).toThrow("the message is gone");
    expect(faults).toEqual(["a/# is no topic name", "a payload of more than 1024 bytes", "2 is no QoS"]);
  });
});

test("message.acked comes with the message, at PUBACK and PUBREC; one that is refused is dropped", async () => {
  const { harness, hooks, engine } = await start();
  const said: unknown[] = [];
  hooks.messageAcked.add((clientId, { topic, payload }, packetId) => {
    said.push([clientId, topic, String(payload), packetId]);
  });
  hooks.messageDropped.add((clientId, reason, { topic }) => said.push([clientId, reason, topic]));
  const a = await harness.connect({ version: 5, clientId: "a" });
  await a.subscribe("#", 2);
  engine.publishText("one", Buffer.from("1"), { qos: 1 });
  engine.publishText("two", Buffer.from("2"), { qos: 2 });
  engine.publishText("three", Buffer.from("3"), { qos: 1 });
  for (const topic of ["one", "two"]) await a.ack(await a.expect("publish", { topic }));
  const { packetId } = await a.expect("publish", { topic: "three" });
  a.send({ type: "puback", packetId: packetId!, reasonCode: 0x83 });
  await a.ping();
  expect(said).toEqual([
    ["a", "one", "1", 1],
    ["a", "two", "2", 2],
    ["a", "refused", "three"],
  ]);
});

test("sessions and wills tell what becomes of them", async () => {
  const { harness, hooks } = await start();
  const said: string[] = [];
  const names = [
    "sessionCreated",
    "sessionResumed",
    "sessionTakenOver",
    "sessionExpired",
    "sessionEnded",
    "willDropped",
  ] as const;
  for (const name of names) hooks[name].add((clientId: string) => void said.push(`${name} ${clientId}`));
  hooks.willPublished.add((clientId, { topic }) => void said.push(`willPublished ${clientId} ${topic}`));
  const will = { topic: "gone", payload: "x" };
  const connect = () =>
    harness.connect({ clientId: "a", cleanStart: false, properties: [["sessionExpiryIntervalSec", 10]], will });
  await connect();
  const second = await connect();
  await second.disconnect();
  await second.expectClosed();
  await harness.advance(11);
  const third = await harness.connect({ clientId: "b", will });
  third.kill();
  expect(said).toEqual([
    "sessionCreated a",
    "sessionTakenOver a",
    "willPublished a gone",
    "sessionResumed a",
    "willDropped a",
    "sessionExpired a",
    "sessionEnded a",
    "sessionCreated b",
    "willPublished b gone",
    "sessionEnded b",
  ]);
});
