import { expect, test } from "bun:test";
import { prop } from "#test/support/packets.ts";
import { unique, withConfig } from "./connect-support.ts";
import { isForeign, payloads, useHarness } from "./fixture.ts";

const harness = useHarness();

/** The limit is 1.5 keep alives; a little time is lost on the way when it is real. */
const keepAliveSec = isForeign ? 2 : 10;
const NOT_YET = 1.3 * keepAliveSec;
const AND_OVER = 0.3 * keepAliveSec;
const TIMEOUT_MS = 20_000;

test(
  "[MQTT-3.1.2-22] [MQTT-3.1.2-20] [MQTT-3.2.2-22] silence of 1.5 keep alives ends the connection with 0x8D, and the will is sent",
  async () => {
    const topic = unique("w");
    const subscriber = await harness.connect();
    await subscriber.subscribe(topic);
    const silent = await harness.connect({ keepAliveSec, will: { topic, payload: "gone" } });
    expect(prop(silent.connack!, "serverKeepAliveSec")).toBeUndefined();
    await harness.advance(NOT_YET);
    expect(silent.isClosed).toBe(false);
    expect(await subscriber.settle()).toEqual([]);
    await harness.advance(AND_OVER);
    await silent.expectDisconnect(0x8d);
    await subscriber.expect("publish", { topic, payload: "gone" });
  },
  TIMEOUT_MS,
);

test(
  "[MQTT-3.1.2-22] [MQTT-3.1.2-20] any packet from the client starts the time again, what it receives does not",
  async () => {
    const topic = unique("t");
    const pinging = await harness.connect({ keepAliveSec });
    const publishing = await harness.connect({ keepAliveSec });
    const acknowledging = await harness.connect({ keepAliveSec });
    const listening = await harness.connect({ keepAliveSec });
    await acknowledging.subscribe(topic, 1);
    await listening.subscribe(topic, 0);
    const speak = async () => {
      await pinging.ping();
      await publishing.publish(topic, "x", { qos: 1 });
      await acknowledging.ack(await acknowledging.expect("publish", { topic, qos: 1 }));
    };
    await harness.advance(NOT_YET);
    await speak();
    await harness.advance(AND_OVER);
    await listening.expect("publish", { topic });
    await listening.expectDisconnect(0x8d);
    await harness.advance(NOT_YET - AND_OVER);
    await speak();
    for (const client of [pinging, publishing, acknowledging]) await client.ping();
  },
  TIMEOUT_MS,
);

test("[MQTT-3.1.2-22] half a packet does not count as a packet", async () => {
  if (isForeign) return; // not said by the specification in so many words
  const client = await harness.connect({ keepAliveSec });
  await harness.advance(NOT_YET);
  client.send(Uint8Array.of(0x30));
  await harness.advance(AND_OVER);
  await client.expectDisconnect(0x8d);
});

test(
  "[MQTT-3.1.2-22] a kept session survives the end by keep alive, and its will waits for the delay",
  async () => {
    const [clientId, topic] = [unique("c"), unique("w")];
    const subscriber = await harness.connect();
    await subscriber.subscribe(topic);
    const silent = await harness.connect({
      clientId,
      keepAliveSec,
      will: { topic, payload: "gone", properties: [["willDelayIntervalSec", 1]] },
      properties: [["sessionExpiryIntervalSec", 60]],
    });
    await harness.advance(1.5 * keepAliveSec + 0.5);
    await silent.expectDisconnect(0x8d);
    await harness.advance(2);
    expect(payloads(await subscriber.settle())).toEqual(["gone"]);
    const back = await harness.connect({ clientId, cleanStart: false });
    expect(back.connack!.sessionPresent).toBe(true);
  },
  TIMEOUT_MS,
);

test("[MQTT-3.1.2-22] keep alive 0 switches the limit off", async () => {
  const client = await harness.connect({ keepAliveSec: 0 });
  await harness.advance(isForeign ? 2 : 200_000);
  expect(client.isClosed).toBe(false);
  await client.ping();
});

test("[MQTT-3.1.2-22] the greatest keep alive is kept to", async () => {
  if (isForeign) return; // hours
  const client = await harness.connect({ keepAliveSec: 65_535 });
  expect(prop(client.connack!, "serverKeepAliveSec")).toBeUndefined();
  await harness.advance(98_300);
  expect(client.isClosed).toBe(false);
  await harness.advance(4);
  await client.expectDisconnect(0x8d);
});

test("[MQTT-3.1.2-21] [MQTT-3.2.2-21] a Server Keep Alive is told in CONNACK, and is the one that counts", async () => {
  await withConfig({ mqtt: { keepAliveSecMax: 10 } }, async (limited) => {
    for (const asked of [60, 65_535]) {
      const client = await limited.connect({ keepAliveSec: asked });
      expect(prop(client.connack!, "serverKeepAliveSec")).toBe(10);
      await limited.advance(14);
      expect(client.isClosed).toBe(false);
      await limited.advance(2);
      await client.expectDisconnect(0x8d);
    }
    const lower = await limited.connect({ keepAliveSec: 4 });
    expect(prop(lower.connack!, "serverKeepAliveSec")).toBeUndefined();
    await limited.advance(5);
    expect(lower.isClosed).toBe(false);
    await limited.advance(2);
    await lower.expectDisconnect(0x8d);
  });
});
