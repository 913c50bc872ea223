import { describe, expect, test } from "bun:test";
import { RawClient } from "#test/support/client.ts";
import type { Pipe } from "#test/support/client.ts";
import { hex, toHex } from "#test/support/packets.ts";
import type { PublishPacket, Version } from "#test/support/packets.ts";

/** The broker's end is a table: what is written gets its answer inside `write`. */
function scripted(version: Version, answers: Record<string, string> = {}) {
  const written: string[] = [];
  const pipe: Pipe = {
    write(bytes) {
      const text = toHex(bytes);
      written.push(text);
      if (answers[text]) pipe.onData(hex(answers[text]));
    },
    close: () => {},
    onData: () => {},
    onClose: () => {},
  };
  return { client: new RawClient(pipe, version), pipe, written, data: (text: string) => pipe.onData(hex(text)) };
}

describe("reading", () => {
  test("packets come out in order however the bytes were cut", async () => {
    const { client, data } = scripted(4);
    for (const byte of "30 03 00 01 61 d0 00".split(" ")) data(byte);
    data("40 02 00 01 50 02 00 02");
    expect(await client.next()).toMatchObject({ type: "publish", topic: "a" });
    expect(await client.next()).toEqual({ type: "pingresp" });
    await client.expect("puback", { packetId: 1 });
    await client.expectBytes("50 02 00 02");
  });

  test("a packet that comes later is waited for, and one that never comes is an error", async () => {
    const { client, data } = scripted(4);
    const later = client.next();
    data("d0 00");
    expect(await later).toEqual({ type: "pingresp" });
    await expect(client.next(5)).rejects.toThrow(/none came within 5 ms/);
  });

  test("expect compares the type and only the given fields, and says what differs", async () => {
    const publish = "32 0a 00 01 61 00 05 00 68 69 21 21";
    const { client, data } = scripted(5);
    const publishes = async (fields: object) => {
      data(publish);
      return client.expect("publish", fields);
    };
    await publishes({});
    await publishes({ topic: "a", payload: "hi!!", properties: [] });
    await publishes({ payload: hex("68 69 21 21"), packetId: 5 });
    await publishes({ payload: Buffer.from("hi!!") });
    await expect(publishes({ qos: 2, topic: "b" })).rejects.toThrow(
      'qos: expected 2, got 1\ntopic: expected "b", got "a"',
    );
    await expect(publishes({ payload: "no" })).rejects.toThrow(/payload: expected "no"/);
    await expect(publishes({ properties: [["topicAlias", 1]] })).rejects.toThrow(/properties: expected/);
    data(publish);
    await expect(client.expect("puback")).rejects.toThrow(/expected puback, got publish/);
    expect(await client.expectNothing(1)).toBeUndefined();
  });

  test("expectBytes points at the first byte that differs", async () => {
    const { client, data } = scripted(4);
    data("40 02 00 01");
    await expect(client.expectBytes("40 02 01 01")).rejects.toThrow(
      "expected 40 02 01 01\n     got 40 02 00 01\n               ^^",
    );
  });

  test("malformed bytes and what only clients send come out as errors of the next read", async () => {
    const { client, data } = scripted(4);
    data("d1 00 c0 00 e0 00 d0 80 80 80 80 01");
    await expect(client.next()).rejects.toThrow(/malformed pingresp/);
    await expect(client.next()).rejects.toThrow(/must not send/);
    await expect(client.next()).rejects.toThrow(/3\.x has no DISCONNECT/);
    await expect(client.next()).rejects.toThrow(/more than four bytes/);
    const five = scripted(5);
    five.data("e0 01 04");
    five.data("e0 07 00 05 11 00 00 00 01");
    await expect(five.client.next()).rejects.toThrow(/disconnect with will/);
    await expect(five.client.next()).rejects.toThrow(/session expiry/);
  });
});

describe("closing", () => {
  test("expectClosed wants a close and nothing unread", async () => {
    const { client, pipe, data } = scripted(4);
    await expect(client.expectClosed(5)).rejects.toThrow(/none came within/);
    data("d0 00");
    pipe.onClose();
    await expect(client.expectClosed()).rejects.toThrow(/unread: pingresp/);
    await client.expect("pingresp");
    await client.expectClosed();
    await expect(client.next()).rejects.toThrow(/connection is closed/);
    await expect(client.settle()).rejects.toThrow(/connection is closed/);
    await expect(client.expectNothing(1)).rejects.toThrow(/connection is closed/);
  });

  test("a close in the middle of a packet is seen", async () => {
    const { client, pipe, data } = scripted(4);
    data("30 05 00");
    pipe.onClose();
    await expect(client.expectClosed()).rejects.toThrow(/middle of a packet/);
  });

  test("expectRejected wants CONNACK before acceptance, DISCONNECT after, and a bare close in 3.x", async () => {
    const early = scripted(5);
    early.data("20 03 00 81 00");
    early.pipe.onClose();
    await early.client.expectRejected(0x81);

    const late = scripted(5);
    late.data("20 03 00 00 00 e0 01 82");
    late.pipe.onClose();
    await late.client.expect("connack");
    await late.client.expectRejected([0x81, 0x82]);

    const wrong = scripted(5);
    wrong.data("20 03 00 81 00");
    wrong.pipe.onClose();
    await expect(wrong.client.expectRejected(0x84)).rejects.toThrow(/expected reason code 84/);

    const old = scripted(4);
    old.pipe.onClose();
    await old.client.expectRejected(0x81);
  });

  test("expectDisconnect wants its code and the close", async () => {
    const { client, pipe, data } = scripted(5);
    data("e0 01 8e");
    await expect(client.expectDisconnect(0x8b)).rejects.toThrow(/reasonCode: expected 139, got 142/);
    data("e0 01 8e");
    const waiting = client.expectDisconnect(0x8e);
    pipe.onClose();
    expect(await waiting).toMatchObject({ reasonCode: 0x8e });
  });

  test("disconnect waits for the broker's close; kill does not", async () => {
    const { client, pipe, written } = scripted(4);
    const ending = client.disconnect();
    expect(written).toEqual(["e0 00"]);
    pipe.onClose();
    await ending;
    const other = scripted(4);
    other.client.kill();
    expect(other.client.isClosed).toBe(true);
    expect(other.written).toEqual([]);
  });
});

describe("handshakes", () => {
  test("connect counts client ids and keeps an assigned one", async () => {
    const { client, data, written } = scripted(5);
    const connecting = client.connect({ clientId: "" });
    expect(written).toEqual(["10 0d 00 04 4d 51 54 54 05 02 00 00 00 00 00"]);
    data("20 07 00 00 04 12 00 01 78");
    expect((await connecting).reasonCode).toBe(0);
    expect(client.clientId).toBe("x");
    expect(client.connack).toBeDefined();
    const others = [scripted(4), scripted(4)].map(({ client: other }) => (other.connect().catch(() => {}), other));
    expect(new Set(others.map((other) => other.clientId)).size).toBe(2);
  });

  test("subscribe and unsubscribe take their own answers and leave deliveries readable", async () => {
    const { client, written } = scripted(4, {
      "82 06 00 01 00 01 61 01": "30 03 00 01 61 90 03 00 01 01",
      "a2 08 00 02 00 01 61 00 01 62": "b0 02 00 02",
    });
    expect(await client.subscribe("a", 1)).toEqual({ type: "suback", packetId: 1, reasonCodes: [1] });
    expect(await client.unsubscribe(["a", "b"])).toEqual({ type: "unsuback", packetId: 2 });
    await client.expect("publish", { topic: "a" });
    expect(written).toHaveLength(2);
  });

  test("subscribe writes 5.0 options, per packet and per filter", async () => {
    const bytes = "82 0d 00 07 02 0b 05 00 01 61 2d 00 01 62 02";
    const { client } = scripted(5, { [bytes]: "90 05 00 07 00 01 02" });
    const options = { qos: 1, noLocal: true, retainAsPublished: true, retainHandling: 2, packetId: 7 };
    await client.subscribe(["a", { filter: "b", qos: 2 }], { ...options, properties: [["subscriptionIdentifier", 5]] });
  });

  test("publish completes QoS 1 and 2 and stops at a refusing PUBREC", async () => {
    const { client, written } = scripted(5, {
      "32 08 00 01 61 00 01 00 68 69": "40 02 00 01",
      "34 08 00 01 61 00 02 00 68 69": "50 02 00 02",
      "62 02 00 02": "70 02 00 02",
      "34 08 00 01 61 00 03 00 68 69": "50 03 00 03 97",
    });
    expect(await client.publish("a", "hi")).toEqual([]);
    expect((await client.publish("a", "hi", { qos: 1 })).map(({ type }) => type)).toEqual(["puback"]);
    expect((await client.publish("a", "hi", { qos: 2 })).map(({ type }) => type)).toEqual(["pubrec", "pubcomp"]);
    expect(await client.publish("a", "hi", { qos: 2 })).toMatchObject([{ type: "pubrec", reasonCode: 0x97 }]);
    expect(written).toHaveLength(5);
  });

  test("ack answers by QoS, and nothing is acknowledged unasked", async () => {
    const { client, data, written } = scripted(4, { "50 02 00 02": "62 02 00 02" });
    data("30 03 00 01 61 32 05 00 01 61 00 01 34 05 00 01 61 00 02");
    const publishes = [await client.next(), await client.next(), await client.next()] as PublishPacket[];
    expect(written).toEqual([]);
    for (const publish of publishes) await client.ack(publish);
    expect(written).toEqual(["40 02 00 01", "50 02 00 02", "70 02 00 02"]);
  });

  test("autoAck answers inside the delivery, keeps the order and hides PUBREL", async () => {
    const { client, data, written } = scripted(4, { "50 02 00 02": "62 02 00 02 30 03 00 01 7a", "c0 00": "d0 00" });
    client.autoAck = true;
    data("34 05 00 01 61 00 02 32 05 00 01 62 00 03");
    expect(written).toEqual(["50 02 00 02", "40 02 00 03", "70 02 00 02"]);
    const topics = (await client.settle()).map((packet) => (packet as PublishPacket).topic);
    expect(topics).toEqual(["a", "b", "z"]);
  });

  test("settle returns what came before its PINGRESP and leaves what follows; ping leaves all", async () => {
    const { client } = scripted(4, { "c0 00": "30 03 00 01 61 d0 00 30 03 00 01 62" });
    expect(await client.settle()).toMatchObject([{ topic: "a" }]);
    await client.ping();
    await client.expect("publish", { topic: "b" });
    await client.expect("publish", { topic: "a" });
    await expect(client.expectNothing(1)).rejects.toThrow(/expected nothing, but unread: publish/);
  });

  test("packet ids wrap past 65535 without 0", () => {
    const { client } = scripted(4);
    const ids = Array.from({ length: 65536 }, () => client.nextPacketId());
    expect([ids[0], ids[1], ids[65534], ids[65535]]).toEqual([1, 2, 65535, 1]);
  });
});
