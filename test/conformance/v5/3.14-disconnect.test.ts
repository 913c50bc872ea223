// DISCONNECT in both directions: when it may be sent, what it says, and that nothing follows it.

import { expect, test } from "bun:test";
import type { ConnectOptions, RawClient } from "#test/support/client.ts";
import { encodePacket, hex, type PacketInput, prop, type Properties, toHex } from "#test/support/packets.ts";
import { withAccess } from "./access-backend.ts";
import { unique } from "./connect-support.ts";
import { useHarness } from "./fixture.ts";
import { connectSmall, expectSmall } from "./small-client.ts";

const harness = useHarness();

/** SUBSCRIBE with wrong flags. */
const malformed = hex("80 07 00 01 00 00 01 61 00");
const willOn = (topic: string): ConnectOptions => ({ will: { topic, payload: "gone", qos: 1 } });

/** Several packets in one write. */
function sendTogether(client: RawClient, packets: (PacketInput | Uint8Array)[]): void {
  const frames = packets.map((packet) => (packet instanceof Uint8Array ? packet : encodePacket(packet, 5)));
  client.send(Uint8Array.from(frames.flatMap((frame) => [...frame])));
}

test("[MQTT-3.14.0-1] before it has accepted, the broker refuses by CONNACK and never by DISCONNECT", async () => {
  const refused: [options: ConnectOptions, reasonCodes: number[]][] = [
    [{ connectFlags: 0x03 }, [0x81]],
    [{ will: { topic: "3.14/will", payload: "", qos: 3 } }, [0x81]],
    [{ clientId: hex("ff fe") }, [0x81, 0x85]],
    [{ properties: [["receiveMaximum", 0]] }, [0x82]],
    [{ properties: [["maximumPacketSizeBytes", 0]] }, [0x82]],
    [{ properties: [["authenticationMethod", "unheard-of"]] }, [0x8c, 0x87]],
    [{ properties: [["authenticationData", hex("01")]] }, [0x82]],
    [{ properties: [[0x7f, hex("01")]] }, [0x81]],
  ];
  for (const [options, reasonCodes] of refused) {
    const client = await harness.open();
    client.send({ type: "connect", clientId: "c314-refused", ...options });
    await client.expectRejected(reasonCodes);
  }
  await withAccess(async (guarded) => {
    const unknown = await guarded.open();
    unknown.send({ type: "connect", clientId: "c314-refused", username: "nobody" });
    await unknown.expectRejected(0x86);
    for (const packet of [
      { type: "auth", reasonCode: 0x18, properties: [["authenticationMethod", "TEST"]] },
      { type: "publish", topic: "3.14/early", payload: "x" },
    ] as PacketInput[]) {
      const client = await guarded.open();
      const properties: Properties = [["authenticationMethod", "TEST"]];
      client.send({ type: "connect", clientId: "c314-refused", properties });
      await client.expect("auth", { reasonCode: 0x18 });
      client.send(packet);
      await client.expectRejected([0x82, 0x87]);
    }
  });
  const first: PacketInput[] = [{ type: "pingreq" }, { type: "disconnect" }, { type: "auth", reasonCode: 0x18 }];
  for (const packet of first) {
    const client = await harness.open();
    client.send(packet);
    await client.expectClosed();
  }
});

test("[MQTT-3.14.1-1] reserved flags make DISCONNECT malformed, and the will is published", async () => {
  const watcher = await harness.connect();
  await watcher.subscribe("3.14/flags/+", 0);
  for (const [index, first] of ["e1", "e2", "e8", "ef"].entries()) {
    const client = await harness.connect(willOn(`3.14/flags/${index}`));
    client.send(hex(`${first} 00`));
    await client.expectDisconnect(0x81);
    await watcher.expect("publish", { topic: `3.14/flags/${index}`, payload: "gone" });
  }
});

test("[MQTT-3.14.2-1] an unlisted reason code ends the connection, and the broker's own are the listed ones", async () => {
  for (const reasonCode of [0x01, 0x03, 0x7f, 0xff]) {
    const client = await harness.connect();
    client.send({ type: "disconnect", reasonCode });
    await client.expectRejected([0x81, 0x82]);
  }
  const faults: [bytes: string, reasonCode: number][] = [
    [toHex(malformed), 0x81],
    [toHex(encodePacket({ type: "connect", clientId: "c314-codes" }, 5)), 0x82],
    ["30 06 00 00 03 23 ff ff", 0x94],
    ["30 06 00 03 61 2f 2b 00", 0x90],
  ];
  for (const [bytes, reasonCode] of faults) {
    const client = await harness.connect({ clientId: "c314-codes" });
    client.send(hex(bytes));
    await client.expectDisconnect(reasonCode);
  }
});

test("[MQTT-3.14.2-2] the broker's DISCONNECT sets no session expiry, and a client's may not raise it from 0", async () => {
  const clientId = unique("c314-expiry");
  const properties = [["sessionExpiryIntervalSec", 60]] as [["sessionExpiryIntervalSec", number]];
  const older = await harness.connect({ clientId, properties });
  const newer = await harness.connect({ clientId, properties });
  expect(prop(await older.expectDisconnect(0x8e), "sessionExpiryIntervalSec")).toBeUndefined();
  newer.send(malformed);
  expect(prop(await newer.expectDisconnect(0x81), "sessionExpiryIntervalSec")).toBeUndefined();

  for (const initial of [[], [["sessionExpiryIntervalSec", 0]]] as [][]) {
    const client = await harness.connect({ properties: initial });
    client.send({ type: "disconnect", reasonCode: 0, properties: [["sessionExpiryIntervalSec", 5]] });
    await client.expectDisconnect(0x82);
  }
});

test("a client's DISCONNECT may end its session by an expiry of 0, or keep it longer", async () => {
  const session: ConnectOptions = { clientId: unique("c314-change"), cleanStart: false };
  const keeping: ConnectOptions = { ...session, properties: [["sessionExpiryIntervalSec", 1]] };
  const first = await harness.connect(keeping);
  await first.disconnect({ reasonCode: 0, properties: [["sessionExpiryIntervalSec", 60]] });
  await harness.advance(3);
  const second = await harness.connect(keeping);
  expect(second.connack?.sessionPresent).toBe(true);
  await second.disconnect({ reasonCode: 0, properties: [["sessionExpiryIntervalSec", 0]] });
  const third = await harness.connect(session);
  expect(third.connack?.sessionPresent).toBe(false);
});

test("[MQTT-3.14.2-3] [MQTT-3.14.2-4] reason string and user properties stay out when the DISCONNECT would grow too large", async () => {
  const { client, sizeMax } = await connectSmall(harness);
  client.send(malformed);
  expectSmall(await client.expectDisconnect(0x81), sizeMax);
  const { client: older, sizeMax: olderMax } = await connectSmall(harness, { clientId: "c314-small" });
  await harness.connect({ clientId: "c314-small" });
  expectSmall(await older.expectDisconnect(0x8e), olderMax);
});

test("[MQTT-3.14.4-1] nothing that follows a DISCONNECT counts, in either direction", async () => {
  const watcher = await harness.connect();
  await watcher.subscribe("3.14/after/#", 0);
  const message = (payload: string): PacketInput => ({ type: "publish", topic: "3.14/after/own", payload });

  const leaving = await harness.connect();
  sendTogether(leaving, [message("before"), { type: "disconnect" }, message("after"), { type: "pingreq" }]);
  await leaving.expectClosed();
  await watcher.expect("publish", { payload: "before" });
  expect(await watcher.settle()).toEqual([]);

  const faulty = await harness.connect();
  await faulty.subscribe("3.14/after/own", 0);
  sendTogether(faulty, [message("good"), malformed, message("late"), { type: "pingreq" }]);
  await faulty.expect("publish", { payload: "good" });
  await faulty.expectDisconnect(0x81);
  await watcher.expect("publish", { payload: "good" });
  expect(await watcher.settle()).toEqual([]);
});

test("[MQTT-3.14.4-2] the broker closes the link after its own DISCONNECT and after the client's", async () => {
  for (const bytes of ["e0 00", "e0 01 00", "e0 02 00 00", "e0 01 04", "e0 01 80", "e0 01 82"]) {
    const client = await harness.connect();
    client.send(hex(bytes));
    await client.expectClosed();
  }
  const older = await harness.connect({ clientId: "c314-close" });
  await harness.connect({ clientId: "c314-close" });
  await older.expectDisconnect(0x8e);
});

test("[MQTT-3.14.4-3] DISCONNECT with code 0 removes the will, with another code it is published", async () => {
  const watcher = await harness.connect();
  await watcher.subscribe("3.14/will/+", 0);
  for (const bytes of ["e0 00", "e0 01 00", "e0 02 00 00"]) {
    const client = await harness.connect(willOn("3.14/will/none"));
    client.send(hex(bytes));
    await client.expectClosed();
  }
  expect(await watcher.settle()).toEqual([]);
  for (const reasonCode of [0x04, 0x80, 0x93]) {
    const client = await harness.connect(willOn(`3.14/will/${reasonCode}`));
    client.send({ type: "disconnect", reasonCode });
    await client.expectClosed();
    await watcher.expect("publish", { topic: `3.14/will/${reasonCode}`, payload: "gone" });
  }
  expect(await watcher.settle()).toEqual([]);
});
