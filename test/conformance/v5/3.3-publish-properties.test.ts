// 3.3.2: topic names, topic aliases and the properties of PUBLISH.

import { describe, expect, test } from "bun:test";
import type { RawClient } from "#test/support/client.ts";
import { hex, prop, props, type Properties, type PublishPacket } from "#test/support/packets.ts";
import { isForeign, kept, payloadOf, payloads, publishes, resumed, topics, useHarness } from "./fixture.ts";

const h = useHarness();

async function expectRefused(properties: Properties, codes: number | number[]): Promise<void> {
  const client = await h.connect();
  client.send({ type: "publish", topic: "332/refused", properties, payload: "m" });
  await client.expectRejected(codes);
}

function aliasMaxOf(client: RawClient): number {
  return (prop(client.connack!, "topicAliasMaximum") as number | undefined) ?? 0;
}

/** Order counts among user properties only. */
function sorted(properties: Properties): unknown[] {
  const others = properties.filter(([name]) => name !== "userProperty");
  const plain = others.map(([name, value]) => [
    name,
    value instanceof Uint8Array ? [...value] : bytesOfText(name, value),
  ]);
  return [...plain.sort((a, b) => String(a[0]).localeCompare(String(b[0]))), ...props({ properties }, "userProperty")];
}

/** An expiry interval of 1000 as it was given: of a real clock a second may have passed. */
function atFirst(property: Properties[number]): Properties[number] {
  return isForeign && property[0] === "messageExpiryIntervalSec" && property[1] === 999
    ? [property[0], 1000]
    : property;
}

function bytesOfText(name: unknown, value: unknown): unknown {
  return name === "correlationData" ? [...new TextEncoder().encode(value as string)] : value;
}

describe("topic names", () => {
  test.each([
    ["an overlong NUL", "c0 80"],
    ["a lone surrogate", "ed a0 80"],
    ["a stray continuation byte", "61 80"],
    ["a sequence that is cut", "61 e2 82"],
    ["a code point beyond U+10FFFF", "f4 90 80 80"],
  ])("[MQTT-3.3.2-1] a topic name with %s is refused", async (_, bytes) => {
    const client = await h.connect();
    client.send({ type: "publish", topic: hex(bytes), payload: "m" });
    await client.expectRejected([0x81, 0x90]);
  });

  test.each(["30 01 00", "30 03 00 05 61", "32 04 00 01 61 00"])(
    "[MQTT-3.3.2-1] a PUBLISH that ends inside its topic name or packet id is malformed: %s",
    async (bytes) => {
      const client = await h.connect();
      client.send(hex(bytes));
      await client.expectDisconnect(0x81);
    },
  );

  test("[MQTT-3.3.2-1] the topic name is the first field of what is delivered", async () => {
    const sub = await h.connect();
    await sub.subscribe("332/é", 0);
    await (await h.connect()).publish("332/é", "hi", { qos: 1 });
    await sub.expectBytes("30 0b 00 06 33 33 32 2f c3 a9 00 68 69");
  });

  test.each(["#", "+", "332/+", "332/#", "332/+/x", "332/x+", "332/x#y"])(
    "[MQTT-3.3.2-2] [MQTT-4.7.0-1] PUBLISH to %s is refused and goes nowhere",
    async (topic) => {
      const sub = await h.connect();
      await sub.subscribe("332/#", 0);
      for (const qos of [0, 1, 2]) {
        const client = await h.connect();
        client.send({ type: "publish", topic, qos, packetId: 1, payload: "m" });
        await client.expectRejected([0x82, 0x90]);
      }
      expect(await sub.settle()).toEqual([]);
    },
  );

  test("[MQTT-3.3.2-3] what is delivered matches the filter and keeps its name", async () => {
    const root = "332m";
    const published = ["", "/", "/a", "/a/c", "/a/b/c", "/a//c", "/b/c", "/a/b/c/d", "/A/b/c"].map((x) => root + x);
    const expected: [string, string[]][] = [
      [`${root}/a/+/c`, ["/a/b/c", "/a//c"]],
      [`${root}/a/#`, ["/a", "/a/c", "/a/b/c", "/a//c", "/a/b/c/d"]],
      [`${root}/+`, ["/", "/a"]],
      [`+/b/c`, ["/b/c"]],
      [`${root}/b/c`, ["/b/c"]],
      [root, [""]],
      [`/${root}`, []],
      [`/+`, []],
    ];
    const pub = await h.connect();
    for (const [filter, rests] of expected) {
      const sub = await h.connect();
      await sub.subscribe(filter, 0);
      for (const topic of published) await pub.publish(topic, topic, { qos: 1 });
      const seen = publishes(await sub.settle());
      expect({ filter, seen: topics(seen) }).toEqual({ filter, seen: rests.map((rest) => root + rest) });
      expect(seen.map(payloadOf)).toEqual(topics(seen));
      sub.kill();
    }
  });
});

describe("expiry", () => {
  test("[MQTT-3.3.2-5] an expired message is neither sent from a queue nor as retained", async () => {
    const topic = "332/expired";
    const sub = await h.connect(kept("332-expired"));
    await sub.subscribe(topic, { qos: 1, retainHandling: 2 });
    await sub.disconnect();
    const pub = await h.connect();
    for (const [sec, payload] of [
      [1, "short"],
      [100, "long"],
      [1, "also short"],
    ] as const) {
      await pub.publish(topic, payload, { qos: 1, properties: [["messageExpiryIntervalSec", sec]] });
    }
    await pub.publish(`${topic}/kept`, "r", {
      qos: 1,
      retain: true,
      properties: [["messageExpiryIntervalSec", 1]],
    });
    await h.advance(2.1);
    const back = await h.connect(resumed("332-expired"));
    expect(payloads(await back.settle())).toEqual(["long"]);
    const late = await h.connect();
    await late.subscribe(`${topic}/kept`, 1);
    expect(await late.settle()).toEqual([]);
  });

  test("[MQTT-3.3.2-6] the expiry interval is sent less the time the message waited", async () => {
    const topic = "332/left";
    const sub = await h.connect(kept("332-left"));
    await sub.subscribe(topic, { qos: 1, retainHandling: 2 });
    await sub.disconnect();
    const live = await h.connect();
    await live.subscribe(topic, 1);
    const pub = await h.connect();
    await pub.publish(topic, "m", { qos: 1, retain: true, properties: [["messageExpiryIntervalSec", 100]] });
    const passedOn = prop(await live.expect("publish"), "messageExpiryIntervalSec");
    expect(isForeign ? [99, 100] : [100]).toContain(passedOn as number);
    await h.advance(2);
    const back = await h.connect(resumed("332-left"));
    const late = await h.connect();
    await late.subscribe(topic, 1);
    for (const client of [back, late]) {
      const left = prop(await client.expect("publish", { payload: "m" }), "messageExpiryIntervalSec");
      expect(isForeign ? [97, 98] : [98]).toContain(left as number); // a real clock may have passed one second more
    }
    await pub.publish(topic, "", { qos: 1, retain: true });
  });
});

describe("topic aliases from the client", () => {
  test("[MQTT-3.3.2-7] an alias is unknown on the next connection of the same session", async () => {
    const first = await h.connect(kept("332-alias"));
    await first.publish("332/alias/old", "m", { qos: 1, properties: [["topicAlias", 1]] });
    first.kill();
    const second = await h.connect(resumed("332-alias"));
    second.send({ type: "publish", topic: "", properties: [["topicAlias", 1]], payload: "m" });
    await second.expectDisconnect(0x82);
  });

  test("[MQTT-3.3.2-7] an alias of one client means nothing to another", async () => {
    const first = await h.connect();
    await first.publish("332/alias/other", "m", { qos: 1, properties: [["topicAlias", 1]] });
    const second = await h.connect();
    second.send({ type: "publish", topic: "", properties: [["topicAlias", 1]], payload: "m" });
    await second.expectDisconnect(0x82);
    await first.publish("", "m", { qos: 1, properties: [["topicAlias", 1]] });
  });

  test("[MQTT-3.3.2-8] topic alias 0 is invalid", async () => {
    await expectRefused([["topicAlias", 0]], 0x94);
  });

  test("[MQTT-3.3.2-9] an alias above the server's maximum is invalid", async () => {
    const client = await h.connect();
    const max = aliasMaxOf(client);
    if (!isForeign) expect(max).toBe(32);
    client.send({ type: "publish", topic: "332/above", properties: [["topicAlias", max + 1]] });
    await client.expectDisconnect(0x94);
    await expectRefused([["topicAlias", 65_535]], 0x94);
  });

  test("[MQTT-3.3.2-12] every alias up to the maximum works, at each QoS, and can be set anew", async () => {
    const sub = await h.connect();
    await sub.subscribe("332/all/#", 0);
    const pub = await h.connect();
    const aliases = Array.from({ length: aliasMaxOf(pub) }, (_, index) => index + 1);
    const qosOf = (alias: number) => alias % 3;
    const properties = (alias: number): Properties => [["topicAlias", alias]];
    for (const alias of aliases) {
      await pub.publish(`332/all/${alias}`, "set", { qos: qosOf(alias), properties: properties(alias) });
    }
    for (const alias of aliases) await pub.publish("", "use", { qos: qosOf(alias), properties: properties(alias) });
    await pub.publish("332/all/new", "set", { qos: 1, properties: properties(1) });
    await pub.publish("", "use", { qos: 1, properties: properties(1) });
    await pub.publish("332/all/2", "given", { qos: 1 });
    const seen = publishes(await sub.settle());
    const names = aliases.map((alias) => `332/all/${alias}`);
    expect(topics(seen)).toEqual([...names, ...names, "332/all/new", "332/all/new", "332/all/2"]);
    expect(seen.every((packet) => prop(packet, "topicAlias") === undefined)).toBe(true);
  });
});

describe("topic aliases from the broker", () => {
  /** The topic meant, by what one connection has been told so far. */
  function resolve(known: Map<number, string>, packet: PublishPacket, max: number): string {
    const alias = prop(packet, "topicAlias") as number | undefined;
    if (alias === undefined) return packet.topic;
    expect(alias).toBeGreaterThanOrEqual(1);
    expect(alias).toBeLessThanOrEqual(max);
    if (packet.topic !== "") known.set(alias, packet.topic);
    expect(known.has(alias)).toBe(true);
    return known.get(alias)!;
  }

  test.each([0, 1, 2, 65_535])("[MQTT-3.3.2-11] aliases stay within a client's maximum of %i", async (max) => {
    const sub = await h.connect({ properties: max === 0 ? [] : [["topicAliasMaximum", max]] });
    await sub.subscribe("332/out/#", 0);
    const pub = await h.connect();
    const order = [1, 2, 3, 4, 5, 1, 1, 2, 3, 3, 4, 5, 5, 5, 1, 2].map((each) => `332/out/${each}`);
    for (const topic of order) await pub.publish(topic, topic, { qos: 1 });
    const known = new Map<number, string>();
    const seen = publishes(await sub.settle());
    expect(seen.map((packet) => resolve(known, packet, max))).toEqual(order);
    expect(seen.map(payloadOf)).toEqual(order);
  });

  test("[MQTT-3.3.2-7] after a reconnect the broker names each alias's topic again", async () => {
    const max: Properties = [["topicAliasMaximum", 8]];
    const sub = await h.connect(kept("332-out", 60, max));
    await sub.subscribe("332/fresh/+", 1);
    const pub = await h.connect();
    const order = ["a", "b", "a", "b", "a"].map((name) => `332/fresh/${name}`);
    for (const topic of order) await pub.publish(topic, topic, { qos: 1 });
    expect(payloads(await sub.settle())).toEqual(order);
    sub.kill();
    const back = await h.connect(resumed("332-out", max));
    for (const topic of order) await pub.publish(topic, topic, { qos: 1 });
    const known = new Map<number, string>();
    const seen = publishes(await back.settle());
    expect(seen.map((packet) => resolve(known, packet, 8))).toEqual([...order, ...order]);
    expect(seen.map(payloadOf)).toEqual([...order, ...order]);
  });
});

describe("passed on", () => {
  const sets: [string, Properties][] = [
    ["nothing", []],
    ["payload format 0", [["payloadFormatIndicator", 0]]],
    ["payload format 1", [["payloadFormatIndicator", 1]]],
    ["a response topic", [["responseTopic", "réply/x"]]],
    ["correlation data", [["correlationData", hex("00 ff 80")]]],
    ["empty correlation data", [["correlationData", new Uint8Array(0)]]],
    ["a content type", [["contentType", "text/ünï"]]],
    ["an empty content type", [["contentType", ""]]],
    [
      "user properties",
      [
        ["userProperty", ["a", "1"]],
        ["userProperty", ["b", ""]],
        ["userProperty", ["a", "1"]],
        ["userProperty", ["", "ö"]],
        ["userProperty", ["A", "0"]],
        ["userProperty", ["a", "2"]],
      ],
    ],
    [
      "everything",
      [
        ["userProperty", ["z", "1"]],
        ["payloadFormatIndicator", 1],
        ["contentType", "c"],
        ["userProperty", ["y", "2"]],
        ["responseTopic", "r"],
        ["correlationData", "d"],
        ["userProperty", ["z", "0"]],
      ],
    ],
  ];

  test.each(sets)(
    "[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] %s: live, queued, retained",
    async (name, properties) => {
      const topic = `332/pass/${name}`;
      const clientId = `332-pass-${name}`;
      const absent = await h.connect(kept(clientId));
      await absent.subscribe(topic, { qos: 1, retainHandling: 2 });
      await absent.disconnect();
      const live = [await h.connect(), await h.connect()];
      for (const [qos, client] of live.entries()) await client.subscribe(topic, qos * 2);
      const pub = await h.connect();
      await pub.publish(topic, "m", { qos: 2, retain: true, properties });
      const late = await h.connect();
      await late.subscribe(topic, 0);
      for (const client of [...live, late, await h.connect(resumed(clientId))]) {
        const packet = await client.expect("publish", { topic, payload: "m" });
        expect(sorted(packet.properties!)).toEqual(sorted(properties));
      }
      await pub.publish(topic, "", { qos: 1, retain: true });
    },
  );
});

test.each([0, 1, 2, 3, 4])(
  "[MQTT-3.3.2-12] [MQTT-3.3.2-6] [MQTT-3.3.2-18] an alias as property number %i leaves the others and the topic whole",
  async (position) => {
    const topic = `332/beside/${position}`;
    const others: Properties = [
      ["userProperty", ["b", "1"]],
      ["messageExpiryIntervalSec", 1000],
      ["userProperty", ["a", "2"]],
      ["contentType", "c"],
    ];
    const properties: Properties = others.toSpliced(position, 0, ["topicAlias", 1]);
    const away = await h.connect(kept(`332-beside-${position}`));
    await away.subscribe(topic, { qos: 1, retainHandling: 2 });
    await away.disconnect();
    const live: RawClient[] = [];
    for (const qos of [0, 1, 2]) {
      const sub = await h.connect({ properties: qos === 2 ? [["topicAliasMaximum", 4]] : [] });
      await sub.subscribe(topic, { qos, properties: qos === 1 ? [["subscriptionIdentifier", 300]] : [] });
      live.push(sub);
    }
    const pub = await h.connect();
    await pub.publish(topic, "set", { qos: 1, properties });
    await pub.publish("", "used", { qos: 2, retain: true, properties });
    const late = await h.connect();
    await late.subscribe(topic, 0);
    for (const client of [...live, await h.connect(resumed(`332-beside-${position}`)), late]) {
      const seen = publishes(await client.settle());
      expect(payloads(seen)).toEqual(client === late ? ["used"] : ["set", "used"]);
      expect(seen[0]!.topic).toBe(topic);
      const own = new Set<unknown>(["subscriptionIdentifier", "topicAlias"]);
      for (const packet of seen) {
        const given = packet.properties!.filter(([name]) => !own.has(name));
        expect(sorted(given.map(atFirst))).toEqual(sorted(others));
      }
    }
    await pub.publish(topic, "", { qos: 1, retain: true });
  },
);

test.each(["ff", "c0 80", "61 00", "ed b0 80"])(
  "[MQTT-3.3.2-13] a response topic of %s is malformed",
  async (bytes) => {
    await expectRefused([["responseTopic", hex(bytes)]], 0x81);
  },
);

test.each(["a/#", "+", "a/+/b"])("[MQTT-3.3.2-14] a response topic %s is refused", async (topic) => {
  await expectRefused([["responseTopic", topic]], [0x82, 0x90]);
});

test.each(["ff", "c0 80", "61 00", "ed b0 80"])("[MQTT-3.3.2-19] a content type of %s is malformed", async (bytes) => {
  await expectRefused([["contentType", hex(bytes)]], 0x81);
});
