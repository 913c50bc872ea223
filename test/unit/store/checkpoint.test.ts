/** The log is kept short, bodies that nothing names are collected, and nothing that is named ever is. */
import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { DurableBroker } from "#test/support/durable-broker.ts";
import { numbered, payloadsOf, publishAll } from "./published.ts";

async function absent(broker: DurableBroker, clientId: string, filter = "t", qos = 1): Promise<void> {
  const client = await broker.connect(clientId);
  await client.subscribe(filter, qos);
  client.kill();
}

function source(broker: DurableBroker): Promise<RawClient> {
  return broker.connect("source", { expirySec: 0 });
}

/** All that a client has waiting; it acknowledges. */
async function drain(broker: DurableBroker, clientId: string): Promise<string[]> {
  const client = await broker.connect(clientId, { autoAck: true });
  const got = payloadsOf(await client.settle());
  client.kill();
  return got;
}

describe("when it is quiet", () => {
  test("the log is trimmed and the bodies of messages that have gone are collected", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(50));
    expect(broker.disk.bodies).toHaveLength(50);
    await drain(broker, "ann");
    expect(broker.written.logRows.size).toBeGreaterThan(50);
    broker.rest();
    expect(broker.disk.bodies).toEqual([]);
    expect(broker.written.logRows.size).toBeLessThan(2);
    expect((await drain(broker.crash(), "ann")).length).toBe(0);
  });

  test("at QoS 2 too", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann", "t", 2);
    await publishAll(broker, await source(broker), "t", numbered(5), 2);
    const ann = await broker.connect("ann", { autoAck: true });
    expect(payloadsOf(await ann.settle())).toEqual(numbered(5));
    broker.rest();
    expect(broker.disk.bodies).toEqual([]);
  });

  test("messages that wait stay, in memory and on pages", async () => {
    const broker = new DurableBroker({ store: { pageCount: 8 } });
    await absent(broker, "ann");
    await absent(broker, "bob", "other");
    const from = await source(broker);
    await publishAll(broker, from, "t", numbered(20));
    await publishAll(broker, from, "other", numbered(20));
    await drain(broker, "bob");
    broker.rest();
    expect(broker.disk.bodies).toHaveLength(20);
    const next = broker.crash();
    expect(next.restored.messageCount).toBe(20);
    next.rest();
    expect(await drain(next, "ann")).toEqual(numbered(20));
  });

  test("nothing more is written", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(3));
    broker.rest();
    broker.rest();
    const { writtenBatch } = broker.disk;
    broker.advance(600);
    expect(broker.disk.writtenBatch).toBe(writtenBatch);
  });

  test("sessions that are gone leave nothing", async () => {
    const broker = new DurableBroker({ store: { pageCount: 4 } });
    for (const name of ["ann", "bob", "cat"]) await absent(broker, name);
    await publishAll(broker, await source(broker), "t", numbered(10));
    broker.rest();
    expect([broker.written.sessions.size, broker.written.pages.size > 0]).toEqual([3, true]);
    for (const name of ["ann", "bob", "cat"]) (await broker.connect(name, { cleanStart: true, expirySec: 0 })).kill();
    broker.rest();
    broker.rest();
    expect([...broker.written.sessions, ...broker.written.pages, ...broker.disk.bodies]).toEqual([]);
    expect(broker.crash().restored).toEqual({ sessionCount: 0, messageCount: 0, retainedCount: 0, damage: [] });
    expect(broker.engine.messages.count).toBe(0);
  });

  test("pages that came back leave nothing", async () => {
    const broker = new DurableBroker({ store: { pageCount: 4 } });
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(30));
    expect(broker.written.pages.size).toBeGreaterThan(5);
    await drain(broker, "ann");
    broker.rest();
    expect([...broker.written.pages, ...broker.disk.bodies]).toEqual([]);
  });
});

test("a log that is long enough is trimmed without waiting for quiet", async () => {
  const broker = new DurableBroker({ store: { logBytesMax: 2000 } });
  await absent(broker, "ann");
  await absent(broker, "bob");
  await publishAll(broker, await source(broker), "t", numbered(200));
  expect(broker.written.logRows.size).toBeLessThan(60);
  const next = broker.crash();
  expect(await drain(next, "ann")).toEqual(numbered(200));
  expect(await drain(next, "bob")).toEqual(numbered(200));
});

test("snapshots of many sessions are spread over batches, and the log is kept until all are written", async () => {
  const broker = new DurableBroker();
  const names = Array.from({ length: 700 }, (_, i) => `c${i}`);
  for (const name of names) broker.ask(name).kill();
  broker.quiet();
  broker.written.snapshotCounts.length = 0;
  broker.commitsAtOnce = false;
  broker.advance(11);
  expect(broker.written.logRows.size).toBeGreaterThan(2);
  broker.commitsAtOnce = true;
  broker.commit();
  broker.rest();
  expect(Math.max(...broker.written.snapshotCounts)).toBeLessThanOrEqual(2 * 256);
  expect(broker.written.sessions.size).toBe(700);
  expect(broker.written.logRows.size).toBeLessThan(2);
  expect(broker.crash().restored.sessionCount).toBe(700);
});

describe("a body that was collected, or might be, is written again", () => {
  test("when a retained message is replayed to a new session", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    const from = await source(broker);
    const isKept = from.publish("t", "kept", { qos: 1, retain: true });
    broker.advanceMs(5);
    await isKept;
    await drain(broker, "ann");
    broker.rest();
    expect(broker.disk.bodies).toEqual([]);
    const bob = await broker.connect("bob");
    await bob.subscribe("t", 1);
    await bob.expect("publish", { payload: "kept", retain: true });
    broker.rest();
    const next = broker.crash();
    expect(next.restored.messageCount).toBe(1);
    expect(await drain(next, "bob")).toEqual(["kept"]);
    expect(next.engine.metrics.get("store.messages.lost")).toBe(0);
  });

  test("when an old message goes to another member of its group", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann", "$share/g/t");
    await absent(broker, "dan", "other");
    const from = await source(broker);
    await publishAll(broker, from, "t", ["old"]);
    await publishAll(broker, from, "other", ["gone"]);
    await drain(broker, "dan");
    broker.rest();
    await absent(broker, "bob", "$share/g/t");
    (await broker.connect("ann", { cleanStart: true, expirySec: 0 })).kill();
    broker.rest();
    broker.rest();
    const next = broker.crash();
    expect(await drain(next, "bob")).toEqual(["old"]);
    expect(next.engine.metrics.get("store.messages.lost")).toBe(0);
  });
});

test("a body that has two numbers is there under that which its entry names, whichever was collected", async () => {
  const broker = new DurableBroker();
  await absent(broker, "ann", "$share/g/t");
  await absent(broker, "cat", "$share/h/t");
  await absent(broker, "dan", "other");
  const from = await source(broker);
  await publishAll(broker, from, "t", ["shared"]); // one body for both
  await publishAll(broker, from, "other", ["gone"]);
  await drain(broker, "dan");
  broker.rest();
  await absent(broker, "eve", "$share/h/t");
  (await broker.connect("cat", { cleanStart: true, expirySec: 0 })).kill();
  expect(await drain(broker, "eve")).toEqual(["shared"]); // under its second number, which may go now
  broker.rest();
  broker.rest();
  (await broker.connect("eve", { cleanStart: true, expirySec: 0 })).kill();
  await publishAll(broker, from, "t", ["more"]); // ann is written anew
  broker.rest();
  broker.rest();
  const next = broker.crash();
  expect(await drain(next, "ann")).toEqual(["shared", "more"]);
  expect(next.engine.metrics.get("store.messages.lost")).toBe(0);
});

test("a message that leaves a session after its body was written again for another leaves it on disk too", async () => {
  const broker = new DurableBroker();
  const ann = await broker.connect("ann", { receiveMax: 1 });
  const bob = await broker.connect("bob", { receiveMax: 1 });
  await ann.subscribe(["$share/g/t", "to/ann"], 2);
  await absent(broker, "cat", "$share/h/t", 2);
  await absent(broker, "dan", "other");
  const from = await source(broker);
  await publishAll(broker, from, "to/ann", ["fill"], 2);
  await publishAll(broker, from, "t", ["shared"], 2); // waits at ann and at cat, with one body
  await publishAll(broker, from, "other", ["gone"]);
  await drain(broker, "dan");
  broker.rest(); // bodies below may be collected from now on
  await absent(broker, "eve", "$share/h/t", 2);
  (await broker.connect("cat", { cleanStart: true, expirySec: 0 })).kill(); // to eve, with a new body
  await bob.subscribe("$share/g/t", 2);
  ann.kill(); // to bob
  broker.quiet();
  const next = broker.crash();
  expect(next.restored.damage).toEqual([]);
  expect(await drain(next, "bob")).toEqual(["shared"]);
  expect(await drain(next, "ann")).toEqual(["fill"]);
});

describe("flush", () => {
  test("writes everything and says when it is safe", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(5));
    broker.commitsAtOnce = false;
    const back = broker.ask("ann");
    let isSafe = false;
    broker.store.flush(() => (isSafe = true));
    broker.advanceMs(5);
    expect(isSafe).toBe(false);
    broker.commitsAtOnce = true;
    broker.commit();
    broker.quiet(); // what is sent to ann now is written too
    expect(isSafe).toBe(true);
    expect(broker.batchesUnderWay).toBe(0);
    await back.expect("connack", { sessionPresent: true });
    expect(broker.written.logRows.size).toBeLessThan(2);
    expect(await drain(broker.crash(), "ann")).toEqual(numbered(5));
  });

  test("is not done before what nobody waits for is safe too", async () => {
    const broker = new DurableBroker();
    await absent(broker, "ann");
    await publishAll(broker, await source(broker), "t", numbered(5));
    broker.quiet();
    await drain(broker, "ann");
    broker.commitsAtOnce = false;
    let isSafe = false;
    broker.store.flush(() => (isSafe = true));
    for (let left = 10; left > 0 && !isSafe; left--) {
      expect(broker.batchesUnderWay).toBeGreaterThan(0);
      broker.commit(broker.disk.durableBatch + 1);
    }
    expect(broker.crash().restored).toMatchObject({ messageCount: 0, damage: [] });
  });

  test("completes when there is nothing to write, and while two batches are under way", async () => {
    const idle = new DurableBroker();
    let isSafe = false;
    idle.store.flush(() => (isSafe = true));
    idle.quiet();
    expect(isSafe).toBe(true);

    const busy = new DurableBroker();
    busy.commitsAtOnce = false;
    for (const name of ["ann", "bob", "cat"]) busy.ask(name);
    expect(busy.batchesUnderWay).toBe(2);
    isSafe = false;
    busy.store.flush(() => (isSafe = true));
    expect(isSafe).toBe(false);
    busy.heal();
    expect(isSafe).toBe(true);
    expect(busy.crash().restored.sessionCount).toBe(3);
  });
});
