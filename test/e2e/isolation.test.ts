// A fault, theirs or ours, ends one connection: it is counted, logged a few times a second, and nobody else notices.

import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { hex } from "#test/support/packets.ts";
import { type BrokerInProcess, startInProcess } from "./broker-in-process.ts";
import { eventually, FlowClient } from "./flow-client.ts";

const LINES_PER_SEC = 5;

describe("a bug in a handler", () => {
  test("closes the one link, is counted, and the log shows the packet", async () => {
    await using own = await startInProcess();
    const { engine } = own;
    const publish = engine.publish.bind(engine);
    engine.publish = (view) => {
      if (view.topicText() === "magic") throw new Error("planted");
      return publish(view);
    };
    const other = await own.harness.connect();
    await other.subscribe("#");
    const v5 = await own.harness.connect({ version: 5, clientId: "unlucky" });
    const v4 = await own.harness.connect({ version: 4 });
    for (const client of [v5, v4]) await client.publish("magic", "abc");
    await v5.expectDisconnect(0x80);
    await v4.expectClosed();
    expect(engine.metrics.get("bugs")).toBe(2);
    const lines = own.log.filter(({ level }) => level === "error");
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatchObject({ clientId: "unlucky", err: { message: "planted" } });
    expect(String(lines[0]["packet"])).toContain(Buffer.from("magic").toString("hex"));
    await other.publish("a", "alive");
    await other.expect("publish", { topic: "a", payload: "alive" });
  });

  test("that comes when a slow reader reads again closes that link, too", async () => {
    await using own = await startInProcess(["send.linkBytesMax=64KiB"]);
    using reader = await FlowClient.connect(own.port, { clientId: "reader" });
    await reader.subscribe("a", 0);
    reader.pause();
    const writer = await own.harness.connect({ version: 4 });
    while (own.connectionOf("reader").isWritable) {
      await writer.publish("a", Buffer.alloc(500_000));
      await writer.ping();
    }
    own.engine.resumeDelivery = () => {
      throw new Error("planted");
    };
    reader.resume();
    await reader.until(() => reader.isClosed, 3000);
    expect(own.engine.metrics.get("bugs")).toBe(1);
    await writer.ping();
  });
});

describe("a malformed packet", () => {
  const kinds: [string, string][] = [
    ["of reserved flags", "c1 00"],
    ["whose length does not end", "30 ff ff ff ff"],
    ["of a body that is too short", "82 01 00"],
  ];
  test.each(kinds)("%s closes that link, is counted and logged", async (_, bytes) => {
    await using own = await startInProcess();
    const other = await own.harness.connect();
    const client = await own.harness.connect({ version: 5, clientId: "broken" });
    client.send(hex(bytes));
    await client.expectDisconnect(0x81);
    expect(own.engine.metrics.get("connections.closed.malformed")).toBe(1);
    expect(faultLines(own)).toMatchObject([{ level: "info", clientId: "broken", reasonCode: "0x81" }]);
    await other.ping();
  });

  test("sent by hundreds is counted each time and logged a few times a second", async () => {
    await using own = await startInProcess();
    const count = 300;
    const startedMs = performance.now();
    for (let done = 0; done < count; done += 50) {
      const clients: RawClient[] = [];
      for (let i = 0; i < 50; i++) clients.push(await own.harness.connect({ version: 4 }));
      for (const client of clients) client.send(hex("c1 00"));
      await Promise.all(clients.map((client) => client.expectClosed()));
    }
    expect(own.engine.metrics.get("connections.closed.malformed")).toBe(count);
    const windows = 1 + Math.ceil((performance.now() - startedMs) / 1000);
    const lines = faultLines(own);
    expect(lines.length).toBeGreaterThanOrEqual(LINES_PER_SEC);
    expect(lines.length).toBeLessThanOrEqual(LINES_PER_SEC * windows);
    // what was left out is told by the next line of its kind, or when it has been quiet for a while
    const told = () => faultLines(own).reduce((sum, { suppressedCount }) => sum + 1 + Number(suppressedCount ?? 0), 0);
    await eventually(() => told() >= count, 4000);
  });
});

describe("the connection limit", () => {
  test("refuses one more, counts it, and lets another in when one has left", async () => {
    await using own = await startInProcess([], { connectionsMax: 3 });
    const { metrics } = own.engine;
    const first = await own.harness.connect();
    for (let i = 0; i < 2; i++) await own.harness.connect();
    const refused = await FlowClient.open(own.port);
    await refused.until(() => refused.isClosed);
    expect(refused.packets).toEqual([]);
    expect(metrics.get("connections.refused.limit")).toBe(1);
    expect(metrics.get("connections.opened")).toBe(3);
    await first.ping();
    await first.disconnect();
    await eventually(() => metrics.get("connections.closed") === 1);
    await (await own.harness.connect()).ping();
    expect(metrics.get("connections.refused.limit")).toBe(1);
  });
});

function faultLines({ log }: BrokerInProcess): BrokerInProcess["log"] {
  return log.filter(({ msg }) => msg.startsWith("a client broke the protocol"));
}
