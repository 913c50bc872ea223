/** The bytes of a PUBLISH to a client, by its version, packet size and aliases. */
import { afterEach, describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { type Harness, startHarness } from "#test/support/harness.ts";
import { encodePacket, type PacketInput, prop, type Properties, type Version } from "#test/support/packets.ts";

let harness: Harness;
afterEach(() => harness.stop());

async function subscriber(version: Version, properties: Properties = [], qos = 2): Promise<RawClient> {
  const client = await harness.connect({ version, ...(version === 5 && { properties }) });
  await client.subscribe("#", { qos });
  return client;
}

describe("one message to all kinds of client", () => {
  const versions: Version[] = [3, 4, 5];
  const cases = versions.flatMap((from) =>
    [0, 1, 2].flatMap((qos) => [0, 1, 2].map((granted) => [from, qos, granted] as const)),
  );

  test.each(cases)("from version %d at QoS %d, granted %d", async (from, qos, granted) => {
    harness = await startHarness();
    const receivers = await Promise.all(
      [3, 3, 3, 4, 5, 5, 5, 5].map((version) => subscriber(version as Version, [], granted)),
    );
    const publisher = await harness.connect({ version: from });
    const properties: Properties = [
      ["contentType", "x"],
      ["messageExpiryIntervalSec", 100],
      ["userProperty", ["k", "v"]],
    ];
    const packet = { topic: "a/b", payload: "body", qos, ...(from === 5 && { properties }) };
    publisher.send({ type: "publish", packetId: 77, ...packet } as PacketInput);
    const sentQos = Math.min(qos, granted);
    for (const receiver of receivers) {
      const expected = encodePacket(
        {
          type: "publish",
          topic: "a/b",
          payload: "body",
          qos: sentQos,
          ...(sentQos > 0 && { packetId: 1 }),
          properties: from === 5 ? properties : [],
        },
        receiver.version,
      );
      await receiver.expectBytes(expected);
    }
  });
});

describe("maximum packet size", () => {
  const sizeOf = (packet: PacketInput): number => encodePacket(packet, 5).length;

  test("[MQTT-3.1.2-24] [MQTT-3.1.2-25] to the byte: what fits comes, what does not is dropped", async () => {
    harness = await startHarness();
    const size = sizeOf({ type: "publish", topic: "t", payload: "x".repeat(50) });
    const client = await subscriber(5, [["maximumPacketSizeBytes", size]], 0);
    for (const count of [51, 50, 49]) client.send({ type: "publish", topic: "t", payload: "x".repeat(count) });
    expect((await client.settle()).map((packet) => packet.type === "publish" && packet.payload.length)).toEqual([
      50, 49,
    ]);
  });

  test("with aliases: what fits in full comes when no alias is left", async () => {
    harness = await startHarness();
    const size = sizeOf({ type: "publish", topic: "t", payload: "x".repeat(50) });
    const client = await subscriber(
      5,
      [
        ["maximumPacketSizeBytes", size],
        ["topicAliasMaximum", 1],
      ],
      0,
    );
    client.send({ type: "publish", topic: "u", payload: "takes the alias" });
    client.send({ type: "publish", topic: "t", payload: "x".repeat(50) });
    expect(await client.settle()).toHaveLength(2);
  });

  test("with aliases: what fits with the alias it has comes", async () => {
    harness = await startHarness();
    const topic = "long/".repeat(20);
    const size = sizeOf({ type: "publish", topic, payload: "", properties: [["topicAlias", 1]] });
    const client = await subscriber(
      5,
      [
        ["maximumPacketSizeBytes", size],
        ["topicAliasMaximum", 1],
      ],
      0,
    );
    client.send({ type: "publish", topic, payload: "" });
    client.send({ type: "publish", topic, payload: "x".repeat(50) });
    expect(await client.settle()).toHaveLength(2);
  });
});

test("a large message to many: each gets its own packet id, flags and the same body", async () => {
  harness = await startHarness();
  const clients = await Promise.all(([3, 4, 4, 5, 5] as const).map((version) => subscriber(version)));
  const payload = Uint8Array.from({ length: 200_000 }, (_, i) => i * 7);
  await clients[0]!.subscribe("other", 1);
  await clients[3]!.publish("small", "x", { qos: 1 });
  clients[3]!.send({ type: "publish", qos: 2, packetId: 9, topic: "large", payload });
  for (const client of clients) {
    await client.expect("publish", { topic: "small", packetId: 1 });
    await client.expect("publish", { topic: "large", qos: 2, packetId: 2, payload });
  }
});

test("a message lives as long as it was given, at whatever part of a second it comes", async () => {
  harness = await startHarness();
  const join = (clientId: string): Promise<RawClient> =>
    harness.connect({ clientId, version: 5, cleanStart: false, properties: [["sessionExpiryIntervalSec", 100]] });
  const reader = await join("reader");
  await reader.subscribe("#", { qos: 1 });
  const writer = await harness.connect({ version: 5 });
  await harness.advance(0.9);
  const send = (payload: string, retain: boolean): Promise<unknown> =>
    writer.publish("t", payload, { qos: 1, retain, properties: [["messageExpiryIntervalSec", 2]] });
  await send("live", false);
  expect(prop(await reader.expect("publish"), "messageExpiryIntervalSec")).toBe(2);
  await reader.disconnect();
  await send("waits", false);
  await send("kept", true);
  const receivedBy = async (clientId: string): Promise<string[]> => {
    const client = await join(clientId);
    if (clientId !== "reader") await client.subscribe("#", 1);
    const packets = await client.settle();
    client.kill();
    return packets.flatMap((packet) => (packet.type === "publish" ? Buffer.from(packet.payload).toString() : []));
  };
  await harness.advance(1.9); // 2.8: the second has changed twice
  expect(await receivedBy("late")).toEqual(["kept"]);
  expect(await receivedBy("reader")).toEqual(["live", "waits", "kept"]);
  await harness.advance(0.3); // 3.1
  expect(await receivedBy("later")).toEqual([]);
});
