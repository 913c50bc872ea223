// 4.12 and 4.13: enhanced authentication as far as a broker without any method shows it, and what errors do.

import { describe, expect, test } from "bun:test";
import type { ConnectOptions } from "#test/support/client.ts";
import { hex, prop, type Properties } from "#test/support/packets.ts";
import { useHarness } from "./fixture.ts";

const h = useHarness();

describe("enhanced authentication", () => {
  test.each(["nope", "", "PLAIN", "SCRAM-SHA-1"])(
    "[MQTT-4.12.0-1] [MQTT-4.12.0-4] the method '%s', which nobody offers, is refused and the link closed",
    async (method) => {
      const bare: Properties = [["authenticationMethod", method]];
      const empty: Properties = [...bare, ["authenticationData", new Uint8Array(0)]];
      const full: Properties = [["authenticationData", hex("00 01 ff")], ...bare];
      for (const properties of [bare, empty, full]) {
        const client = await h.open();
        client.send({ type: "connect", clientId: "412-method", properties });
        await client.expectRejected(0x8c);
      }
    },
  );

  test("[MQTT-4.12.0-1] a refused method leaves the session that holds the client id alone", async () => {
    const holder = await h.connect({ clientId: "412-holder" });
    const client = await h.open();
    client.send({ type: "connect", clientId: "412-holder", properties: [["authenticationMethod", "nope"]] });
    await client.expectRejected(0x8c);
    expect(await holder.settle()).toEqual([]);
  });

  test("[MQTT-4.12.0-4] nothing that follows the refused CONNECT is handled", async () => {
    const sub = await h.connect();
    await sub.subscribe("412/after", 0);
    const client = await h.open();
    client.send({ type: "connect", clientId: "412-x", properties: [["authenticationMethod", "nope"]] });
    client.send({ type: "publish", topic: "412/after", payload: "m" });
    await client.expectRejected(0x8c);
    expect(await sub.settle()).toEqual([]);
  });

  const plain: [string, ConnectOptions][] = [
    ["bare", {}],
    ["with user name and password", { username: "u", password: "p" }],
    ["with a session", { properties: [["sessionExpiryIntervalSec", 10]] }],
  ];

  test.each(plain)("[MQTT-4.12.0-6] a CONNECT without method, %s, brings no AUTH and no method", async (_, options) => {
    const client = await h.connect(options); // the first packet back is its CONNACK
    expect(prop(client.connack!, "authenticationMethod")).toBeUndefined();
    expect(prop(client.connack!, "authenticationData")).toBeUndefined();
    await client.subscribe("412/plain", 1);
    await client.publish("412/plain", "m", { qos: 1 });
    expect((await client.settle()).map(({ type }) => type)).toEqual(["publish"]);
  });

  test.each([
    ["re-authenticate", { reasonCode: 0x19 }],
    ["continue", { reasonCode: 0x18 }],
    ["success", { reasonCode: 0x00 }],
  ])("[MQTT-4.12.0-7] after a CONNECT without method, AUTH %s is a protocol error", async (_, { reasonCode }) => {
    for (const method of ["nope", "PLAIN"]) {
      const client = await h.connect();
      client.send({ type: "auth", reasonCode, properties: [["authenticationMethod", method]] });
      await client.expectDisconnect(0x82);
    }
  });

  test.each(["f0 00", "f0 02 00 00", "f0 02 19 00", "f0 01 00"])(
    "[MQTT-4.12.0-7] neither is AUTH without a method taken: %s",
    async (bytes) => {
      const client = await h.connect();
      client.send(hex(bytes));
      await client.expectRejected([0x81, 0x82]);
    },
  );
});

const malformed: [string, string, number[]][] = [
  ["packet type 0", "00 00", [0x81, 0x82]],
  ["CONNACK from a client", "20 03 00 00 00", [0x82]],
  ["SUBACK from a client", "90 04 00 01 00 00", [0x82]],
  ["UNSUBACK from a client", "b0 04 00 01 00 00", [0x82]],
  ["PINGRESP from a client", "d0 00", [0x82]],
  ["PINGREQ with flags", "c1 00", [0x81]],
  ["PINGREQ with a body", "c0 01 00", [0x81]],
  ["a remaining length of five bytes", "30 80 80 80 80 01", [0x81]],
  ["PUBACK of one byte", "40 01 00", [0x81]],
  ["PUBACK with flags", "42 02 00 01", [0x81]],
  ["PUBACK with properties cut", "40 04 00 01 00 05", [0x81]],
  ["PUBACK with bytes after its properties", "40 05 00 01 00 00 00", [0x81]],
  ["PUBACK with packet id 0", "40 02 00 00", [0x81, 0x82]],
  ["PUBLISH with packet id 0", "32 06 00 01 61 00 00 00", [0x81, 0x82]],
  ["PUBLISH without property length", "30 03 00 01 61", [0x81]],
  ["PUBLISH with a property length beyond its end", "30 05 00 01 61 05 01", [0x81]],
  ["PUBLISH with a property cut by the property length", "30 06 00 01 61 01 01 00", [0x81]],
  ["PUBLISH with an unknown property", "30 06 00 01 61 02 7f 00", [0x81, 0x82]],
  ["PUBLISH with a property of CONNECT", "30 07 00 01 61 03 21 00 01", [0x81, 0x82]],
  ["PUBLISH with payload format twice", "30 08 00 01 61 04 01 00 01 00", [0x82]],
  ["PUBLISH with payload format 2", "30 06 00 01 61 02 01 02", [0x81, 0x82]],
  ["PUBLISH with a content type twice", "30 0a 00 01 61 06 03 00 00 03 00 00", [0x82]],
  ["PUBLISH with a topic alias twice", "30 0a 00 01 61 06 23 00 01 23 00 01", [0x82]],
  ["SUBSCRIBE with packet id 0", "82 07 00 00 00 00 01 61 00", [0x81, 0x82]],
  ["SUBSCRIBE with identifier 0", "82 09 00 01 02 0b 00 00 01 61 00", [0x82]],
  ["SUBSCRIBE with two identifiers", "82 0b 00 01 04 0b 01 0b 02 00 01 61 00", [0x82]],
  ["UNSUBSCRIBE with packet id 0", "a2 06 00 00 00 00 01 61", [0x81, 0x82]],
  ["DISCONNECT with session expiry twice", "e0 0c 00 0a 11 00 00 00 00 11 00 00 00 00", [0x82]],
];

describe("errors", () => {
  test.each(malformed)("[MQTT-4.13.1-1] [MQTT-4.13.2-1] %s ends the connection: %s", async (_, bytes, codes) => {
    const bystander = await h.connect();
    await bystander.subscribe(["a", "413/alive"], 1);
    const client = await h.connect();
    client.send(hex(bytes));
    await client.expectRejected(codes);
    await bystander.publish("413/alive", "m", { qos: 1 });
    await bystander.expect("publish", { topic: "413/alive", payload: "m" });
    expect(await bystander.settle()).toEqual([]);
  });

  test("[MQTT-4.13.1-1] what stands before the error is handled, what follows is not", async () => {
    const sub = await h.connect();
    await sub.subscribe("413/around", 0);
    const client = await h.connect();
    const publish = (payload: string) => hex(`30 0e 00 0a 34 31 33 2f 61 72 6f 75 6e 64 00 ${payload}`);
    client.send(Buffer.concat([publish("61"), hex("c1 00"), publish("62")]));
    await client.expectDisconnect(0x81);
    await sub.expect("publish", { payload: "a" });
    expect(await sub.settle()).toEqual([]);
  });

  test("[MQTT-4.13.1-1] an error counts as an abnormal end: the will is published, the session kept", async () => {
    const sub = await h.connect();
    await sub.subscribe("413/will", 0);
    const properties: Properties = [["sessionExpiryIntervalSec", 60]];
    const client = await h.connect({ clientId: "413-will", properties, will: { topic: "413/will", payload: "gone" } });
    client.send(hex("c1 00"));
    await client.expectDisconnect(0x81);
    await sub.expect("publish", { payload: "gone" });
    const back = await h.connect({ clientId: "413-will", cleanStart: false });
    expect(back.connack?.sessionPresent).toBe(true);
  });

  const refused: [string, ConnectOptions, number[]][] = [
    ["a protocol level of 6", { protocolLevel: 6 }, [0x84]],
    ["a reserved connect flag", { connectFlags: 0x03 }, [0x81, 0x82]],
    ["a will QoS of 3", { connectFlags: 0x1e, will: { topic: "w", payload: "" } }, [0x81, 0x82]],
    ["an unknown method", { properties: [["authenticationMethod", "nope"]] }, [0x8c]],
  ];

  test.each(refused)(
    "[MQTT-4.13.2-1] a CONNACK of 0x80 or above is followed by the close: %s",
    async (_, options, codes) => {
      const client = await h.open();
      client.send({ type: "connect", clientId: "413-refused", ...options });
      await client.expectRejected(codes);
    },
  );

  test.each([0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x99])(
    "[MQTT-4.13.2-1] a client's DISCONNECT %i closes too, and its will is published",
    async (reasonCode) => {
      const topic = `413/left/${reasonCode}`;
      const sub = await h.connect();
      await sub.subscribe(topic, 0);
      const client = await h.connect({ will: { topic, payload: "gone" } });
      await client.disconnect({ reasonCode });
      await client.expectClosed();
      await sub.expect("publish", { topic, payload: "gone" });
    },
  );
});
