// 4.7: topic names and filters: wildcards, $-topics, characters, lengths, and matching byte by byte.

import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { hex, type SubackPacket } from "#test/support/packets.ts";
import { isForeign, payloads, publishes, topics, useHarness } from "./fixture.ts";

const h = useHarness();

async function expectFilterRefused(filter: string): Promise<void> {
  const client = await h.connect();
  expect(await client.subscribe([filter, "47/good"], 1)).toMatchObject({ reasonCodes: [0x8f, 1] });
}

async function expectFilterGranted(filter: string): Promise<void> {
  const client = await h.connect();
  expect(await client.subscribe(filter, { qos: 1, retainHandling: 2 })).toMatchObject({ reasonCodes: [1] });
}

/** What a subscriber of `filter` gets of messages to `published`. */
async function matching(filter: string, published: string[]): Promise<string[]> {
  const sub = await h.connect();
  await sub.subscribe(filter, { qos: 0, retainHandling: 2 });
  const pub = await h.connect();
  for (const topic of published) await pub.publish(topic, "m", { qos: 1 });
  const seen = topics(await sub.settle());
  sub.kill();
  return seen;
}

describe("wildcards", () => {
  test.each(["47/+", "47/#", "+", "#", "+/47", "47+", "47#"])(
    "[MQTT-4.7.0-1] %s is no topic name for PUBLISH, whatever the QoS",
    async (topic) => {
      for (const qos of [0, 1, 2]) {
        const client = await h.connect();
        client.send({ type: "publish", topic, qos, packetId: 1 });
        await client.expectRejected([0x82, 0x90]);
      }
    },
  );

  test("[MQTT-4.7.0-1] the filters + and # work", async () => {
    expect(await matching("+", ["47one", "47/two"])).toEqual(["47one"]);
    expect(await matching("#", ["47one", "47/two", "/47"])).toEqual(["47one", "47/two", "/47"]);
  });

  test.each(["#", "47/#", "/#", "47//#", "+/#", "47/+/#"])("[MQTT-4.7.1-1] filter %s is valid", async (filter) => {
    await expectFilterGranted(filter);
  });

  test.each(["47#", "47/a#", "#/47", "47/#/b", "##", "47/##", "47/#/", "#/", "47/#/#", "+#", "#+", "/#/"])(
    "[MQTT-4.7.1-1] filter %s is refused, its neighbour is granted",
    expectFilterRefused,
  );

  test("[MQTT-4.7.1-1] # stands for its parent and any number of levels", async () => {
    const all = ["471/a", "471/a/", "471/a/b", "471/a/b/c", "471/a//c", "471/ab", "471", "471/b/a"];
    expect(await matching("471/a/#", all)).toEqual(all.slice(0, 5));
    expect(await matching("471/#", all)).toEqual(all);
    expect(await matching("471/a/b/#", all)).toEqual(["471/a/b", "471/a/b/c"]);
  });

  test.each(["+", "+/47", "47/+", "/+", "+/", "47/+/b", "+/+", "+/+/#"])(
    "[MQTT-4.7.1-2] filter %s is valid",
    expectFilterGranted,
  );

  test.each(["47+", "+47", "47/a+", "47/+a", "47/b+/c", "++", "47/++", "+a/b", "/a+"])(
    "[MQTT-4.7.1-2] filter %s is refused, its neighbour is granted",
    expectFilterRefused,
  );

  test("[MQTT-4.7.1-2] + stands for exactly one level, which may be empty", async () => {
    const all = ["472", "472/", "472/a", "472/a/", "472/a/b", "472//b", "472/a/b/c", "/472", "472/c/b"];
    expect(await matching("472/+", all)).toEqual(["472/", "472/a"]);
    expect(await matching("472/+/b", all)).toEqual(["472/a/b", "472//b", "472/c/b"]);
    expect(await matching("472/+/+", all)).toEqual(["472/a/", "472/a/b", "472//b", "472/c/b"]);
    expect(await matching("+/472", all)).toEqual(["/472"]);
    expect(await matching("+/+/b/+", all)).toEqual(["472/a/b/c"]);
    expect(await matching("472/+/b/#", all)).toEqual(["472/a/b", "472//b", "472/a/b/c", "472/c/b"]);
  });
});

describe("topics that begin with $", () => {
  test("[MQTT-4.7.2-1] match no filter that begins with a wildcard, live or retained", async () => {
    const wild = await h.connect();
    const literal = await h.connect();
    await literal.subscribe("$47/#", 0);
    await wild.subscribe(["#", "+/#", "+/x", "+/+", "/#"], { qos: 0, retainHandling: 2 });
    const pub = await h.connect();
    await pub.publish("$47/x", "m", { qos: 1, retain: true });
    await pub.publish("$47", "m", { qos: 1 });
    await pub.publish("47/$x", "m", { qos: 1 });
    expect(topics(await literal.settle())).toEqual(["$47/x", "$47"]);
    const seen = topics(await wild.settle());
    expect([...new Set(seen)]).toEqual(["47/$x"]);
    const late = await h.connect();
    await late.subscribe(["#", "+/x", "+/#"], { qos: 0 });
    expect(topics(await late.settle()).filter((topic) => topic.startsWith("$47"))).toEqual([]);
    await late.subscribe("$47/+", 0);
    expect(topics(await late.settle())).toEqual(["$47/x"]);
    await pub.publish("$47/x", "", { qos: 1, retain: true });
  });

  test("[MQTT-4.7.2-1] match wildcards further on, and $ elsewhere is an ordinary character", async () => {
    const all = ["$472/a", "$472/a/b", "$472", "472/$a"];
    expect(await matching("$472/+", all)).toEqual(["$472/a"]);
    expect(await matching("$472/#", all)).toEqual(["$472/a", "$472/a/b", "$472"]);
    expect(await matching("472/+", all)).toEqual(["472/$a"]);
  });
});

describe("characters and length", () => {
  /** A SUBACK of 0x8F, or the connection's end. */
  async function expectEitherRefusal(client: RawClient, codes: number[]): Promise<void> {
    const packet = await client.next();
    if (packet.type === "suback") return void expect(packet.reasonCodes).toEqual([0x8f]);
    expect(packet.type).toBe("disconnect");
    expect(codes).toContain((packet as { reasonCode?: number }).reasonCode!);
    await client.expectClosed();
  }

  test("[MQTT-4.7.3-1] an empty topic name without alias is refused", async () => {
    for (const qos of [0, 1, 2]) {
      const client = await h.connect();
      client.send({ type: "publish", topic: "", qos, packetId: 1, payload: "m" });
      await client.expectDisconnect(0x82);
    }
  });

  test("[MQTT-4.7.3-1] an empty filter is refused", async () => {
    const client = await h.connect();
    client.send(hex("82 06 00 01 00 00 00 00"));
    await expectEitherRefusal(client, [0x81, 0x82]);
    const other = await h.connect();
    other.send(hex("a2 05 00 01 00 00 00"));
    const answer = await other.next();
    if (answer.type === "unsuback") expect(answer.reasonCodes).toEqual([0x8f]);
    else expect([0x81, 0x82]).toContain((answer as { reasonCode?: number }).reasonCode!);
  });

  test("[MQTT-4.7.3-1] one character, if a slash, is enough", async () => {
    expect(await matching("/", ["/", "4", "//"])).toEqual(["/"]);
    expect(await matching("4", ["/", "4", "44"])).toEqual(["4"]);
    expect(await matching("+/+", ["/", "//", "4"])).toEqual(["/"]);
  });

  test("[MQTT-4.7.3-2] U+0000 in a topic name or filter is refused", async () => {
    for (const text of ["00", "61 00", "00 61", "61 2f 00 2f 62"].map(hex)) {
      const pub = await h.connect();
      pub.send({ type: "publish", topic: text, payload: "m" });
      await pub.expectRejected([0x81, 0x90]);
      const sub = await h.connect();
      sub.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: text, qos: 0 }] });
      await expectEitherRefusal(sub, [0x81, 0x8f]);
    }
  });

  test("[MQTT-4.7.3-4] nothing is normalized: no case, no slashes, no accents", async () => {
    const composed = "473/é";
    const decomposed = "473/e\u0301";
    const all = [
      "473/a",
      "473/A",
      "473//a",
      "473/a/",
      "/473/a",
      "473/a ",
      "473/ a",
      composed,
      decomposed,
      "473/\ufeffa",
    ];
    for (const topic of all) expect(await matching(topic, all)).toEqual([topic]);
    expect(await matching("473/+", all)).toEqual(all.filter((topic) => topic.split("/").length === 2));
  });

  test("[MQTT-4.7.3-4] retained messages and UNSUBSCRIBE tell the same topics apart", async () => {
    const names = ["474/é", "474/e\u0301", "474/E\u0301"];
    const client = await h.connect();
    for (const name of names) await client.publish(name, name, { qos: 1, retain: true });
    await client.subscribe(names[1]!, 0);
    expect(payloads(await client.settle())).toEqual([names[1]!]);
    expect(await client.unsubscribe(names[0]!)).toMatchObject({ reasonCodes: [0x11] });
    expect(await client.unsubscribe(names[1]!)).toMatchObject({ reasonCodes: [0] });
    for (const name of names) await client.publish(name, "", { qos: 1, retain: true });
  });
});

describe("length", () => {
  const long = useHarness({ mqtt: { topicBytesMax: 65_535 } });

  test.each([65_535, 65_534, 16_384, 4097])("[MQTT-4.7.3-3] a topic of %i bytes is carried whole", async (bytes) => {
    const topic = `47/${"é".repeat((bytes - 3) >> 1)}${(bytes - 3) % 2 === 1 ? "x" : ""}`;
    expect(new TextEncoder().encode(topic)).toHaveLength(bytes);
    const sub = await long.connect();
    expect(await sub.subscribe(topic, 1)).toMatchObject({ reasonCodes: [1] });
    const pub = await long.connect();
    await pub.publish(topic, "m", { qos: 1, retain: true });
    await pub.publish(`${topic.slice(0, -1)}y`, "another", { qos: 1 });
    expect(publishes(await sub.settle())).toMatchObject([{ topic, retain: false }]);
    const late = await long.connect();
    await late.subscribe("47/+", 0);
    expect(topics(await late.settle())).toEqual([topic]);
    await pub.publish(topic, "", { qos: 1, retain: true });
  });

  test("[MQTT-4.7.3-3] the broker's own limit is stricter by default", async () => {
    if (isForeign) return;
    const client = await h.connect();
    const topic = "x".repeat(4096);
    expect(await client.publish(topic, "m", { qos: 1 })).toMatchObject([{ reasonCode: 0x10 }]);
    const suback: SubackPacket = await client.subscribe([topic, `${topic}x`], 0);
    expect(suback.reasonCodes).toEqual([0, 0x8f]);
    client.send({ type: "publish", topic: `${topic}x`, payload: "m" });
    await client.expectDisconnect(0x90);
  });
});
