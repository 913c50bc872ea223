// Wills of 3.1.1.

import { expect, test } from "bun:test";
import { hex } from "#test/support/packets.ts";
import { connect, expectEachRefused, isForeign, sendTogether, topicsWithQos, unique, useHarness } from "./fixture.ts";

const harness = useHarness();

/** A link with flags, client id w1 and the bytes after it, as a first packet. */
function connectHex(flags: string, rest = ""): string {
  const body = `00 04 4d 51 54 54 04 ${flags} 00 3c 00 02 77 31 ${rest}`.trim();
  return `10 ${hex(body).length.toString(16).padStart(2, "0")} ${body}`;
}

async function watch(filter: string, qos = 0) {
  const watcher = await harness.connect({ version: 4 });
  await watcher.subscribe(filter, qos);
  return watcher;
}

const will = (topic: string, options: { qos?: number; retain?: boolean } = {}) => ({
  version: 4 as const,
  will: { topic, payload: "gone", ...options },
});

test("[MQTT3-3.1.2-8] the will comes when the connection ends otherwise than by DISCONNECT", async () => {
  const watcher = await watch("will/ends/+");
  const clientId = unique("v3-will-kept");
  const killed = await harness.connect(will("will/ends/killed"));
  killed.kill();
  await watcher.expect("publish", { topic: "will/ends/killed", payload: "gone", qos: 0, retain: false });
  const faulty = await harness.connect(will("will/ends/faulty"));
  sendTogether(faulty, ["36 05 00 01 61 00 01"]);
  await watcher.expect("publish", { topic: "will/ends/faulty", payload: "gone" });
  const silent = await harness.connect({ ...will("will/ends/silent"), keepAliveSec: 1 });
  await harness.advance(2);
  await watcher.expect("publish", { topic: "will/ends/silent", payload: "gone" }, isForeign ? 8000 : 1000);
  await silent.expectClosed();
  const kept = await harness.connect({ ...will("will/ends/kept"), clientId, cleanStart: false });
  kept.kill();
  await watcher.expect("publish", { topic: "will/ends/kept", payload: "gone" });

  await (await harness.connect(will("will/ends/left"))).disconnect();
  await (await harness.connect({ ...will("will/ends/left"), clientId, cleanStart: false })).disconnect();
  expect(await watcher.settle()).toEqual([]);
}, 20_000);

test("[MQTT3-3.1.2-9] the will flag asks for topic and message, and its QoS and retain flag are used", async () => {
  await expectEachRefused(harness, [
    connectHex("06"),
    connectHex("06", "00 01 77"),
    connectHex("06", "00 01 77 00 02 78"),
    connectHex("06", "00 05 77"),
  ]);
  const watcher = await watch("will/used/+", 2);
  const topic = "will/used/a";
  (await harness.connect(will(topic, { qos: 1, retain: true }))).kill();
  await watcher.ack(await watcher.expect("publish", { topic, qos: 1, retain: false, payload: "gone" }));
  const empty = await harness.open(4);
  empty.send(connect({ clientId: "v3-will-empty", will: { topic, payload: "", retain: true } }));
  await empty.expectBytes("20 02 00 00");
  empty.kill();
  await watcher.expect("publish", { topic, qos: 0, retain: false, payload: "" }); // and takes the retained one away
  const later = await watch(topic);
  expect(await later.settle()).toEqual([]);
});

test("[MQTT3-3.1.2-10] a will is used up when published and forgotten on DISCONNECT", async () => {
  const watcher = await watch("will/once/+");
  const clientId = unique("v3-will-once");
  const session = { version: 4 as const, clientId, cleanStart: false };
  (await harness.connect({ ...session, ...will("will/once/a") })).kill();
  await watcher.expect("publish", { topic: "will/once/a" });
  await (await harness.connect({ ...session, ...will("will/once/b") })).disconnect();
  (await harness.connect(session)).kill();
  const last = await harness.connect(session); // takes over where the broker has not noticed the break yet
  await last.disconnect();
  expect(await watcher.settle()).toEqual([]);
});

test("[MQTT3-3.1.2-11] [MQTT3-3.1.2-13] [MQTT3-3.1.2-15] without the will flag neither will flags nor will fields are allowed", async () => {
  await expectEachRefused(harness, [
    connectHex("0a"),
    connectHex("12"),
    connectHex("1a"),
    connectHex("22"),
    connectHex("2a"),
    connectHex("02", "00 01 77 00 01 78"),
  ]);
});

test("[MQTT3-3.1.2-12] without a will nothing is published at the end of a connection", async () => {
  const watcher = await watch("#");
  await watcher.settle();
  const killed = await harness.connect({ version: 4, clientId: "v3-will-less" });
  killed.kill();
  const again = await harness.connect({ version: 4, clientId: "v3-will-less" });
  sendTogether(again, ["36 05 00 01 61 00 01"]);
  await again.expectClosed();
  expect(await watcher.settle()).toEqual([]);
});

test("[MQTT3-3.1.2-14] will QoS 0, 1 and 2 are used, 3 closes the connection", async () => {
  await expectEachRefused(harness, [connectHex("1e", "00 01 77 00 01 78"), connectHex("3e", "00 01 77 00 01 78")]);
  const watcher = await watch("will/qos/+", 2);
  watcher.autoAck = true;
  const seen: string[] = [];
  for (const qos of [0, 1, 2]) {
    (await harness.connect(will(`will/qos/${qos}`, { qos }))).kill();
    seen.push(...topicsWithQos([await watcher.expect("publish")]));
  }
  expect(seen).toEqual(["will/qos/0 0", "will/qos/1 1", "will/qos/2 2"]);
});

test("[MQTT3-3.1.2-16] [MQTT3-3.1.2-17] a will is kept as a retained message only when its flag says so", async () => {
  const watcher = await watch("will/retain/+", 1);
  for (const retain of [false, true]) {
    (await harness.connect(will(`will/retain/${retain}`, { qos: 1, retain }))).kill();
    await watcher.ack(await watcher.expect("publish", { topic: `will/retain/${retain}`, retain: false }));
  }
  const later = await watch("will/retain/+", 1);
  const kept = await later.settle();
  expect(kept).toMatchObject([{ type: "publish", topic: "will/retain/true", qos: 1, retain: true }]);
  await watcher.publish("will/retain/true", "", { qos: 1, retain: true });
});
