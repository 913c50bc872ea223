// 4.12 with a backend that knows the method TEST, and what a refused PUBLISH means for 3.4, 3.5 and 4.3.3. A foreign broker
// cannot be given this backend and shows nothing here.

import { describe, expect, test } from "bun:test";
import type { ConnectOptions, RawClient } from "#test/support/client.ts";
import type { Harness } from "#test/support/harness.ts";
import { prop, type PacketOf, type Properties } from "#test/support/packets.ts";
import { withAccess } from "./access-backend.ts";
import { payloads } from "./fixture.ts";
import { connectSmall, expectSmall } from "./small-client.ts";

const method = (name: string, data?: string): Properties => [
  ["authenticationMethod", name],
  ...(data === undefined ? [] : ([["authenticationData", data]] as Properties)),
];

const dataOf = (packet: { properties?: Properties }) =>
  new TextDecoder().decode(prop(packet, "authenticationData") as Uint8Array);

/** Sends CONNECT with the method TEST and takes the first question. */
async function openChallenged(h: Harness, options: ConnectOptions = {}): Promise<RawClient> {
  const client = await h.open();
  const { properties = [], ...rest } = options;
  const all: Properties = [...method("TEST"), ...(properties as Properties)];
  client.send({ type: "connect", clientId: "412-challenged", ...rest, properties: all });
  expectQuestion(await client.expect("auth"));
  return client;
}

function expectQuestion(packet: PacketOf<"auth">): void {
  expect(packet.reasonCode).toBe(0x18);
  expect(prop(packet, "authenticationMethod")).toBe("TEST");
  expect(dataOf(packet)).toBe("question");
}

const answer = (client: RawClient, data: string, reasonCode = 0x18, name = "TEST") =>
  client.send({ type: "auth", reasonCode, properties: method(name, data) });

async function connectAuthenticated(h: Harness, options: ConnectOptions = {}): Promise<RawClient> {
  const client = await openChallenged(h, options);
  answer(client, "answer");
  await client.expect("connack", { reasonCode: 0 });
  return client;
}

describe("on the way in", () => {
  test("[MQTT-4.12.0-2] [MQTT-4.12.0-5] the server asks by AUTH 0x18, and names the method in AUTH and CONNACK", () =>
    withAccess(async (h) => {
      const client = await openChallenged(h);
      for (let round = 0; round < 3; round++) {
        answer(client, "more");
        expectQuestion(await client.expect("auth"));
      }
      answer(client, "answer");
      const connack = await client.expect("connack", { reasonCode: 0, sessionPresent: false });
      expect(prop(connack, "authenticationMethod")).toBe("TEST");
      expect(await client.subscribe("412/in", 1)).toMatchObject({ reasonCodes: [1] });
      await client.publish("412/in", "m", { qos: 1 });
      expect(payloads(await client.settle())).toEqual(["m"]);
    }));

  test.each([0x00, 0x19])("[MQTT-4.12.0-3] an answer by AUTH %i is a protocol error", (reasonCode) =>
    withAccess(async (h) => {
      const client = await openChallenged(h);
      answer(client, "answer", reasonCode);
      await client.expectRejected(0x82);
    }),
  );

  test("[MQTT-4.12.0-3] AUTH 0x18 is taken where the server has asked, and only there", () =>
    withAccess(async (h) => {
      const client = await connectAuthenticated(h);
      answer(client, "answer");
      await client.expectDisconnect(0x82);
    }));

  test.each([1, 2])("[MQTT-4.12.0-4] a wrong answer, as number %i, is refused and the link closed", (number) =>
    withAccess(async (h) => {
      const sub = await h.connect();
      await sub.subscribe("412/never", 0);
      const client = await openChallenged(h, { will: { topic: "412/never", payload: "will" } });
      if (number === 2) {
        answer(client, "more");
        await client.expect("auth");
      }
      answer(client, "wrong");
      client.send({ type: "publish", topic: "412/never", payload: "m" });
      await client.expectRejected(0x87);
      expect(await sub.settle()).toEqual([]);
    }),
  );

  test.each(["OTHER", "test", ""])("[MQTT-4.12.0-5] an answer that names the method '%s' is refused", (name) =>
    withAccess(async (h) => {
      const client = await openChallenged(h);
      answer(client, "answer", 0x18, name);
      await client.expectRejected([0x82, 0x8c]);
    }),
  );

  test("[MQTT-4.12.0-5] an answer that names no method is refused", () =>
    withAccess(async (h) => {
      const client = await openChallenged(h);
      client.send({ type: "auth", reasonCode: 0x18, properties: [] });
      await client.expectRejected(0x82);
    }));

  test("[MQTT-4.12.0-6] [MQTT-4.12.0-7] user name and password go without AUTH beside it", () =>
    withAccess(async (h) => {
      const client = await h.connect({ username: "u", password: "p" });
      expect(prop(client.connack!, "authenticationMethod")).toBeUndefined();
      answer(client, "answer", 0x19);
      await client.expectDisconnect(0x82);
      const nobody = await h.open();
      expect(await nobody.connect({ username: "nobody", password: "p" })).toMatchObject({ reasonCode: 0x86 });
      await nobody.expectClosed();
    }));

  test("[MQTT-4.12.0-1] [MQTT-4.12.0-4] a method that the backend does not know is refused", () =>
    withAccess(async (h) => {
      const client = await h.open();
      client.send({ type: "connect", clientId: "412-other", properties: method("OTHER", "answer") });
      await client.expectRejected(0x8c);
    }));
});

describe("again on an open connection", () => {
  test("[MQTT-4.12.1-1] [MQTT-4.12.0-2] [MQTT-4.12.0-5] goes by the same method, while all else is served", () =>
    withAccess(async (h) => {
      const client = await connectAuthenticated(h);
      await client.subscribe("412/again", 1);
      for (let round = 0; round < 2; round++) {
        client.send({ type: "auth", reasonCode: 0x19, properties: method("TEST") });
        expectQuestion(await client.expect("auth"));
        await client.publish("412/again", "meanwhile", { qos: 1 });
        expect(payloads(await client.settle())).toEqual(["meanwhile"]);
        answer(client, "answer");
        const success = await client.expect("auth", { reasonCode: 0 });
        expect(prop(success, "authenticationMethod")).toBe("TEST");
      }
      expect(await client.settle()).toEqual([]);
    }));

  test.each(["OTHER", "test"])("[MQTT-4.12.1-1] by another method, '%s', ends the connection", (name) =>
    withAccess(async (h) => {
      const client = await connectAuthenticated(h);
      client.send({ type: "auth", reasonCode: 0x19, properties: method(name) });
      await client.expectRejected([0x82, 0x8c]);
    }),
  );

  test("[MQTT-4.12.1-1] a change of method midway ends the connection", () =>
    withAccess(async (h) => {
      const client = await connectAuthenticated(h);
      client.send({ type: "auth", reasonCode: 0x19, properties: method("TEST") });
      expectQuestion(await client.expect("auth"));
      answer(client, "answer", 0x18, "OTHER");
      await client.expectRejected([0x82, 0x8c]);
    }));

  test("[MQTT-4.12.1-2] where it fails, the connection ends, and not normally", () =>
    withAccess(async (h) => {
      const sub = await h.connect();
      await sub.subscribe("412/fails", 0);
      const client = await connectAuthenticated(h, { will: { topic: "412/fails", payload: "will" } });
      client.send({ type: "auth", reasonCode: 0x19, properties: method("TEST") });
      expectQuestion(await client.expect("auth"));
      answer(client, "wrong");
      client.send({ type: "publish", topic: "412/fails", payload: "m" });
      await client.expectRejected(0x87);
      expect(payloads(await sub.settle())).toEqual(["will"]);
    }));
});

describe("a PUBLISH that is refused", () => {
  test("[MQTT-4.3.3-9] after a failing PUBREC its packet id is a new message", () =>
    withAccess(async (h) => {
      const sub = await h.connect();
      await sub.subscribe("#", 2);
      const client = await h.connect();
      for (const dup of [false, true]) {
        client.send({ type: "publish", topic: "deny/x", qos: 2, packetId: 5, dup, payload: "denied" });
        await client.expect("pubrec", { packetId: 5, reasonCode: 0x87 });
      }
      client.send({ type: "publish", topic: "433/ok", qos: 2, packetId: 5, payload: "allowed" });
      await client.expectBytes("50 02 00 05");
      client.send({ type: "pubrel", packetId: 5 });
      await client.expectBytes("70 02 00 05");
      expect(payloads(await sub.settle())).toEqual(["allowed"]);
    }));

  test("[MQTT-4.3.3-9] nor does a refused one wait for PUBREL, or take a slot of Receive Maximum", () =>
    withAccess(async (h) => {
      const client = await h.connect();
      const max = prop(client.connack!, "receiveMaximum") as number;
      for (let packetId = 1; packetId <= max + 1; packetId++) {
        client.send({ type: "publish", topic: "deny/x", qos: 2, packetId, payload: "denied" });
        await client.expect("pubrec", { packetId, reasonCode: 0x87 });
      }
      client.send({ type: "pubrel", packetId: 1 });
      await client.expect("pubcomp", { packetId: 1, reasonCode: 0x92 });
    }));

  test("[MQTT-3.4.2-1] [MQTT-3.5.2-1] is answered by 0x87 at QoS 1 and 2, and dropped at QoS 0", () =>
    withAccess(async (h) => {
      const sub = await h.connect();
      await sub.subscribe("+/x", 0);
      const client = await h.connect();
      await client.publish("deny/x", "m");
      expect(await client.publish("deny/x", "m", { qos: 1 })).toMatchObject([{ type: "puback", reasonCode: 0x87 }]);
      expect(await client.publish("deny/x", "m", { qos: 2 })).toMatchObject([{ type: "pubrec", reasonCode: 0x87 }]);
      expect(await client.settle()).toEqual([]);
      expect(await sub.settle()).toEqual([]);
    }));

  test("[MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] is answered within a small Maximum Packet Size", () =>
    withAccess(async (h) => {
      const { client, sizeMax } = await connectSmall(h);
      for (const [qos, type] of [
        [1, "puback"],
        [2, "pubrec"],
      ] as const) {
        client.send({ type: "publish", topic: "deny/x", qos, packetId: 7, payload: "m" });
        expectSmall(await client.expect(type, { packetId: 7, reasonCode: 0x87 }), sizeMax);
      }
    }));
});
