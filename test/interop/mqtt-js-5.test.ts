/** MQTT.js, what only MQTT 5.0 has. */
import { expect } from "bun:test";
import type { IClientOptions, IDisconnectPacket, IPublishPacket, MqttClient, Packet } from "mqtt";
import { startBroker } from "#test/support/broker-process.ts";
import { brokerOfFile, unique } from "./fixture.ts";
import { Inbox } from "./inbox.ts";
import { Peer } from "./mqtt-js-client.ts";
import { PassTable } from "./pass-table.ts";

const broker = brokerOfFile();
const table = new PassTable("MQTT.js, 5.0 only");

function test5(feature: string, run: () => Promise<void>): void {
  table.test("5.0", feature, run);
}

function connect(options?: IClientOptions): Promise<Peer> {
  return Peer.connect(broker().url, "5.0", options);
}

function reasonCodeOf(packet: Packet | undefined): number | undefined {
  return (packet as { reasonCode?: number } | undefined)?.reasonCode;
}

/** What the client reads, before it is handled; the topic is still as it was on the wire. */
function publishesRead(client: MqttClient): Inbox<Pick<IPublishPacket, "topic" | "properties">> {
  const inbox = new Inbox<Pick<IPublishPacket, "topic" | "properties">>();
  client.on("packetreceive", (packet) => {
    if (packet.cmd === "publish") inbox.push({ topic: packet.topic, properties: { ...packet.properties } });
  });
  return inbox;
}

function disconnectOf(client: MqttClient): Promise<IDisconnectPacket> {
  return new Promise((resolve) => client.once("disconnect", resolve));
}

test5("properties of a message", async () => {
  const topic = unique("properties");
  await using publisher = await connect();
  await using subscriber = await connect();
  await subscriber.subscribe(topic, 2);
  const properties = {
    payloadFormatIndicator: true,
    messageExpiryInterval: 3600,
    contentType: "text/plain",
    responseTopic: `${topic}/answer`,
    correlationData: Buffer.from([0, 1, 0xff]),
    userProperties: { one: "1", many: ["b", "a", "b"], "": "empty" },
  };
  for (const qos of [0, 1, 2] as const) {
    await publisher.publish(topic, "ö", { qos, properties });
    expect((await subscriber.next()).properties).toEqual(properties);
  }
});

test5("request and response", async () => {
  const topic = unique("request");
  await using requester = await connect();
  await using responder = await connect();
  await requester.subscribe(`${topic}/answer`, 1);
  await responder.subscribe(topic, 1);
  const correlationData = Buffer.from("17");
  await requester.publish(topic, "?", { qos: 1, properties: { responseTopic: `${topic}/answer`, correlationData } });
  const request = await responder.next();
  const answer = { properties: { correlationData: request.properties.correlationData as Buffer } };
  await responder.publish(String(request.properties.responseTopic), "!", answer);
  expect(await requester.next()).toMatchObject({ payload: "!", properties: { correlationData } });
});

test5("properties of a will and of a retained message", async () => {
  const topic = unique("will");
  const properties = { contentType: "x", userProperties: { k: "v" }, messageExpiryInterval: 3600 };
  await using watcher = await connect();
  await watcher.subscribe(topic, 1);
  const will = { topic, payload: Buffer.from("gone"), qos: 1, retain: true, properties } as const;
  const dying = await connect({ will: { ...will, properties: { ...properties, willDelayInterval: 0 } } });
  await dying.cut();
  expect((await watcher.next()).properties).toEqual(properties);
  await using late = await connect();
  await late.subscribe(topic, 1);
  const replayed = await late.next();
  expect(replayed).toMatchObject({ retain: true, properties: { contentType: "x", userProperties: { k: "v" } } });
  expect(replayed.properties.messageExpiryInterval).toBeWithin(3590, 3601);
});

test5("subscription identifiers", async () => {
  const topic = unique("identifiers");
  await using peer = await connect();
  await peer.client.subscribeAsync(`${topic}/+`, { qos: 1, properties: { subscriptionIdentifier: 7 } });
  await peer.client.subscribeAsync(`${topic}/a`, { qos: 1, properties: { subscriptionIdentifier: 268_435_455 } });
  await peer.publish(`${topic}/b`, "");
  expect((await peer.next()).properties).toEqual({ subscriptionIdentifier: 7 });
  await peer.publish(`${topic}/a`, "");
  // MQTT.js has the identifiers of one PUBLISH as a list; two PUBLISH packets with one each would be right too.
  const seen = [(await peer.next()).properties.subscriptionIdentifier].flat();
  if (seen.length === 1) seen.push(...[(await peer.next()).properties.subscriptionIdentifier].flat());
  expect(seen.toSorted((x, y) => Number(x) - Number(y))).toEqual([7, 268_435_455]);
});

test5("no local, retain as published, retain handling", async () => {
  const topic = unique("options");
  await using peer = await connect();
  await using other = await connect();
  await other.publish(`${topic}/kept`, "old", { qos: 1, retain: true });
  await peer.client.subscribeAsync(`${topic}/#`, { qos: 1, nl: true, rap: true, rh: 2 });
  await peer.publish(`${topic}/own`, "own", { qos: 1 });
  await other.publish(`${topic}/kept`, "new", { qos: 1, retain: true });
  expect(await peer.next()).toMatchObject({ payload: "new", retain: true });
  await peer.client.subscribeAsync(`${topic}/#`, { qos: 1, rh: 1 });
  await other.publish(`${topic}/live`, "live", { qos: 1, retain: false });
  expect(await peer.next()).toMatchObject({ payload: "live", retain: false });
  await peer.client.subscribeAsync(`${topic}/#`, { qos: 1, rh: 0 });
  expect(await peer.next()).toMatchObject({ payload: "new", retain: true });
});

test5("topic aliases from the client", async () => {
  const topic = unique("alias");
  await using subscriber = await connect();
  await subscriber.subscribe(`${topic}/#`, 1);
  await using publisher = await connect({ autoAssignTopicAlias: true });
  const sent: string[] = [];
  publisher.client.on("packetsend", (packet) => {
    if (packet.cmd === "publish") sent.push(packet.topic);
  });
  expect(publisher.connack.properties?.topicAliasMaximum).toBeGreaterThan(1);
  for (const payload of ["1", "2", "3"]) {
    for (const name of ["a", "b"]) {
      await publisher.publish(`${topic}/${name}`, payload, { qos: 1 });
      expect(await subscriber.next()).toMatchObject({ topic: `${topic}/${name}`, payload });
    }
  }
  expect(sent).toEqual([`${topic}/a`, `${topic}/b`, "", "", "", ""]);
});

test5("topic aliases from the broker", async () => {
  const topic = unique("alias");
  await using subscriber = await connect({ properties: { topicAliasMaximum: 2 } });
  const read = publishesRead(subscriber.client);
  await subscriber.subscribe(`${topic}/#`, 1);
  await using publisher = await connect();
  const names = ["a", "b", "c"].flatMap((name) => Array<string>(4).fill(`${topic}/${name}`));
  for (const name of names) await publisher.publish(name, "", { qos: 1 });
  expect((await subscriber.inbox.take(names.length)).map((message) => message.topic)).toEqual(names);
  const packets = await read.take(names.length);
  expect(packets.some((packet) => packet.topic === "")).toBe(true);
  for (const { properties } of packets) expect(properties?.topicAlias ?? 1).toBeWithin(1, 3);
});

test5("receive maximum of the client", async () => {
  const topic = unique("receive");
  await using subscriber = await connect({ properties: { receiveMaximum: 2 } });
  await subscriber.subscribe(topic, 1);
  const { promise: pinged, resolve: sawPong } = Promise.withResolvers<void>();
  let raw = "";
  subscriber.client.stream.on("data", (chunk: Buffer) => {
    raw += chunk.toString("latin1");
    if (raw.endsWith("\xd0\x00")) sawPong();
  });
  const held = Promise.withResolvers<void>();
  subscriber.client.handleMessage = (_packet, done) => void held.promise.then(() => done());
  await using publisher = await connect();
  const payloads = Array.from({ length: 10 }, (_, i) => `rm-${i}`);
  for (const payload of payloads) await publisher.publish(topic, payload, { qos: 1 });
  subscriber.client.sendPing();
  await pinged;
  expect(raw.match(/rm-\d/g)).toEqual(["rm-0", "rm-1"]);
  held.resolve();
  expect((await subscriber.inbox.take(10)).map(({ payload }) => payload)).toEqual(payloads);
});

test5("maximum packet size of the client", async () => {
  const topic = unique("size");
  await using subscriber = await connect({ properties: { maximumPacketSize: 200 } });
  await subscriber.subscribe(topic, 1);
  await using publisher = await connect();
  await publisher.publish(topic, "x".repeat(300), { qos: 1 });
  await publisher.publish(topic, "small", { qos: 1 });
  expect((await subscriber.next()).payload).toBe("small");
});

test5("session expiry", async () => {
  const clientId = unique("expiry");
  const kept = { clientId, clean: false, properties: { sessionExpiryInterval: 600 } };
  const first = await connect(kept);
  await first.end();
  const second = await connect(kept);
  expect(second.connack.sessionPresent).toBe(true);
  await second.client.endAsync({ properties: { sessionExpiryInterval: 0 } });
  const third = await connect(kept);
  expect(third.connack.sessionPresent).toBe(false);
  await third.cut();
  const fourth = await connect({ clientId, clean: false });
  expect(fourth.connack.sessionPresent).toBe(true);
  await fourth.end();
  await using fifth = await connect(kept);
  expect(fifth.connack.sessionPresent).toBe(false);
});

test5("assigned client id", async () => {
  await using a = await connect({ clientId: "" });
  await using b = await connect({ clientId: "" });
  const ids = [a, b].map((peer) => peer.connack.properties?.assignedClientIdentifier);
  for (const id of ids) expect(id).toBeString();
  expect(new Set(ids).size).toBe(2);
  await using named = await connect({ clientId: unique("js") });
  expect(named.connack.properties).not.toHaveProperty("assignedClientIdentifier");
});

test5("reason codes", async () => {
  const topic = unique("reasons");
  await using peer = await connect();
  const acks: string[] = [];
  peer.client.on("packetreceive", (packet) => {
    if (packet.cmd === "puback" || packet.cmd === "pubrec") acks.push(`${packet.cmd} ${reasonCodeOf(packet) ?? 0}`);
  });
  for (const qos of [1, 2] as const) await peer.publish(topic, "nobody", { qos });
  await peer.subscribe(topic, 1);
  for (const qos of [1, 2] as const) await peer.publish(topic, "somebody", { qos });
  expect(acks).toEqual(["puback 16", "pubrec 16", "puback 0", "pubrec 0"]);
  const unsuback = await peer.client.unsubscribeAsync([topic, `${topic}/none`]);
  expect((unsuback as { granted?: number[] } | undefined)?.granted).toEqual([0, 0x11]);
});

test5("take-over is told", async () => {
  const clientId = unique("twin");
  await using first = await connect({ clientId });
  const told = disconnectOf(first.client);
  await using second = await connect({ clientId });
  expect(reasonCodeOf(await told)).toBe(0x8e);
  expect(second.client.connected).toBe(true);
});

test5("shutdown is told", async () => {
  await using own = await startBroker();
  await using peer = await Peer.connect(own.url, "5.0");
  const told = disconnectOf(peer.client);
  await own.stop();
  expect(reasonCodeOf(await told)).toBe(0x8b);
});
