import { expect, test } from "bun:test";
import { hex, prop, toHex } from "#test/support/packets.ts";
import { connectBytes, testAccess, unique, withConfig } from "./connect-support.ts";
import { payloads, useHarness } from "./fixture.ts";

const harness = useHarness();

const prefixed = (text: string) => {
  const bytes = new TextEncoder().encode(text);
  return `${(0x10000 + bytes.length).toString(16).slice(1)} ${toHex(bytes)}`;
};

test("[MQTT-3.1.3-1] client id, will properties, will topic, will payload, user name, password come in this order", async () => {
  const [clientId, topic] = [unique("c"), unique("w")];
  const subscriber = await harness.connect();
  await subscriber.subscribe(topic, 0);
  const client = await harness.open();
  const will = `05 02 00 00 00 3c ${prefixed(topic)} ${prefixed("last words")}`;
  client.send(connectBytes("ce", `${prefixed(clientId)} ${will} ${prefixed("user")} ${prefixed("pass")}`));
  await client.expect("connack", { reasonCode: 0, sessionPresent: false });
  const second = await harness.connect({ clientId }); // the first field is the id: this takes over
  await client.expectDisconnect(0x8e);
  await subscriber.expect("publish", {
    topic,
    payload: "last words",
    properties: [["messageExpiryIntervalSec", 60]],
  });
  await second.disconnect();
});

test("[MQTT-3.1.3-1] every subset of the optional fields is found in its place", async () => {
  const access = testAccess();
  await withConfig({ ports: { access } }, async (asking) => {
    for (const hasWill of [false, true]) {
      for (const username of [undefined, "", "user"]) {
        for (const password of [undefined, "", "pass"]) {
          const topic = unique("w");
          const subscriber = await asking.connect();
          await subscriber.subscribe(topic);
          const client = await asking.connect({
            ...(hasWill && { will: { topic, payload: "gone" } }),
            ...(username !== undefined && { username }),
            ...(password !== undefined && { password }),
          });
          const request = access.requests.at(-1)!;
          const seen = [request.client.clientId, request.client.username, request.password?.toString()];
          expect(seen).toEqual([client.clientId, username, password]);
          await client.disconnect({ reasonCode: 4 });
          expect(payloads(await subscriber.settle())).toEqual(hasWill ? ["gone"] : []);
        }
      }
    }
  });
});

test("[MQTT-3.1.3-3] a CONNECT that ends before the client id is malformed", async () => {
  for (const payload of ["", "00", "00 02", "00 02 63"]) {
    const client = await harness.open();
    client.send(connectBytes("02", payload));
    await client.expectRejected(0x81);
  }
});

test("[MQTT-3.1.3-4] a client id that is not UTF-8 is refused", async () => {
  for (const bytes of ["ff fe", "c0 80", "ed a0 80", "63 00"]) {
    const client = await harness.open();
    client.send({ type: "connect", clientId: hex(bytes) });
    await client.expectRejected([0x81, 0x85]);
  }
});

test("[MQTT-3.1.3-5] client ids of 1 to 23 digits and letters are allowed, all 62 of them", async () => {
  const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const ids = ["a", "Z", "0", alphabet.slice(0, 23), alphabet.slice(23, 46), alphabet.slice(39)];
  for (const clientId of ids) {
    const client = await harness.connect({ clientId });
    expect(prop(client.connack!, "assignedClientIdentifier")).toBeUndefined();
    await client.disconnect();
  }
});

test("[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] an empty client id is given a unique one, told in CONNACK", async () => {
  const taken = await harness.connect({ clientId: unique("c") });
  const clients = [
    await harness.connect({ clientId: "", cleanStart: true }),
    await harness.connect({ clientId: "", cleanStart: true }),
    await harness.connect({ clientId: "", cleanStart: false }),
  ];
  const ids = clients.map((client) => prop(client.connack!, "assignedClientIdentifier"));
  for (const id of ids) expect(id).toBeString();
  expect(ids).not.toContain("");
  expect(new Set([...ids, taken.clientId]).size).toBe(4);
  for (const client of [...clients, taken]) await client.ping(); // none has taken another's place
});

test("[MQTT-3.1.3-7] [MQTT-3.1.3-6] the assigned id is as good as one of the client's own: its session can be resumed", async () => {
  const topic = unique("t");
  const client = await harness.connect({ clientId: "", properties: [["sessionExpiryIntervalSec", 60]] });
  await client.subscribe(topic, 1);
  await client.disconnect();
  const publisher = await harness.connect();
  await publisher.publish(topic, "queued", { qos: 1 });
  const again = await harness.connect({ clientId: client.clientId, cleanStart: false });
  expect(again.connack!.sessionPresent).toBe(true);
  expect(prop(again.connack!, "assignedClientIdentifier")).toBeUndefined();
  await again.expect("publish", { payload: "queued" });
});

test("[MQTT-3.2.2-16] an id that a client has chosen like the assigned ones is not handed out", async () => {
  const first = await harness.connect({ clientId: "" });
  const pattern = first.clientId;
  const digits = /\d+$/.exec(pattern)?.[0];
  // If ids are counted, the next few are taken beforehand.
  const next = (step: number) =>
    digits === undefined
      ? `${pattern}${step}`
      : pattern.slice(0, -digits.length) + String(BigInt(digits) + BigInt(step)).padStart(digits.length, "0");
  const chosen = [];
  for (let step = 1; step <= 3; step++) chosen.push(await harness.connect({ clientId: next(step) }));
  for (let i = 0; i < 3; i++) await harness.connect({ clientId: "" });
  for (const client of [first, ...chosen]) await client.ping();
});

test("[MQTT-3.1.3-8] a client id that is too long is refused with 0x85 and the link closed", async () => {
  await withConfig({ mqtt: { clientIdBytesMax: 23 } }, async (limited) => {
    const fits = await limited.connect({ clientId: "a".repeat(23) });
    await fits.disconnect();
    for (const clientId of ["a".repeat(24), "é".repeat(12)]) {
      const client = await limited.open();
      await client.connect({ clientId }).then(({ reasonCode }) => expect(reasonCode).toBe(0x85));
      await client.expectClosed();
    }
  });
});

test("[MQTT-3.1.3-12] a user name that is not UTF-8 is refused", async () => {
  for (const bytes of ["ff", "c0 80", "ed a0 80", "75 00", "75 c3"]) {
    const client = await harness.open();
    client.send({ type: "connect", clientId: unique("c"), username: hex(bytes), password: "p" });
    await client.expectRejected([0x81, 0x86]);
  }
});
