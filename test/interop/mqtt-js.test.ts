/** MQTT.js, what all three protocol versions have. What only 5.0 has is in mqtt-js-5.test.ts. */
import { expect } from "bun:test";
import type { IClientOptions } from "mqtt";
import { startBroker } from "#test/support/broker-process.ts";
import { brokerOfFile, unique } from "./fixture.ts";
import { Peer, type Qos } from "./mqtt-js-client.ts";
import { PassTable, type Version, versions } from "./pass-table.ts";

const allQos: readonly Qos[] = [0, 1, 2];
const LARGE_BYTES = 900 * 1024;

const broker = brokerOfFile(["--set", "log.level=debug"]);
const table = new PassTable("MQTT.js");

function connect(version: Version, options?: IClientOptions): Promise<Peer> {
  return Peer.connect(broker().url, version, options);
}

/** A session that outlives its connection. */
function keep(clientId: string, version: Version): IClientOptions {
  const properties = version === "5.0" ? { properties: { sessionExpiryInterval: 600 } } : {};
  return { clientId, clean: false, ...properties };
}

for (const version of versions) {
  table.test(version, "connect", async () => {
    const clientId = unique("js");
    await using peer = await connect(version, { clientId, keepalive: 30 });
    const level = { "3.1": 3, "3.1.1": 4, "5.0": 5 }[version];
    await broker().line(new RegExp(`client connected clientId=${clientId} .*version=${level}`));
    expect(peer.connack.sessionPresent).toBe(false);
    expect(version === "5.0" ? peer.connack.reasonCode : peer.connack.returnCode).toBe(0);
    await peer.end();
    expect(peer.client.connected).toBe(false);
  });

  table.test(version, "QoS 0, 1 and 2, both ways, in order", async () => {
    const topic = unique("qos");
    await using publisher = await connect(version);
    for (const granted of allQos) {
      await using subscriber = await connect(version);
      await subscriber.subscribe(`${topic}/#`, granted);
      for (const sent of allQos) {
        const payloads = Array.from({ length: 20 }, (_, i) => `${sent}-${granted}-${i}`);
        await Promise.all(payloads.map((payload) => publisher.publish(`${topic}/${sent}`, payload, { qos: sent })));
        const received = await subscriber.inbox.take(payloads.length);
        expect(received.map((message) => message.payload)).toEqual(payloads);
        const qos = Math.min(sent, granted);
        for (const message of received)
          expect(message).toMatchObject({ topic: `${topic}/${sent}`, qos, retain: false });
      }
    }
  });

  table.test(version, "retained", async () => {
    const topic = unique("retained");
    await using publisher = await connect(version);
    await using early = await connect(version);
    await early.subscribe(`${topic}/+`, 2);
    for (const qos of allQos) await publisher.publish(`${topic}/${qos}`, `kept ${qos}`, { qos, retain: true });
    for (const qos of allQos) expect(await early.next()).toMatchObject({ payload: `kept ${qos}`, qos, retain: false });

    await using late = await connect(version);
    await late.subscribe(`${topic}/+`, 2);
    const replayed = await late.inbox.take(3);
    expect(replayed.map(({ payload, qos, retain }) => `${payload} ${qos} ${retain}`).toSorted()).toEqual(
      allQos.map((qos) => `kept ${qos} ${qos} true`),
    );

    for (const qos of allQos) await publisher.publish(`${topic}/${qos}`, "", { qos, retain: true });
    await using none = await connect(version);
    await none.subscribe(`${topic}/+`, 2);
    await publisher.publish(`${topic}/live`, "live", { qos: 1 });
    expect(await none.next()).toMatchObject({ payload: "live", retain: false });
  });

  table.test(version, "will", async () => {
    const topic = unique("will");
    await using watcher = await connect(version);
    await watcher.subscribe(`${topic}/#`, 2);
    for (const qos of allQos) {
      const will = { topic: `${topic}/${qos}`, payload: Buffer.from("gone"), qos, retain: qos === 2 };
      const polite = await connect(version, { will: { ...will, topic: `${topic}/polite` } });
      await polite.end();
      const dying = await connect(version, { will });
      await dying.cut();
      expect(await watcher.next()).toMatchObject({ topic: `${topic}/${qos}`, payload: "gone", qos, retain: false });
    }
    await using late = await connect(version);
    await late.subscribe(`${topic}/#`, 2);
    expect(await late.next()).toMatchObject({ topic: `${topic}/2`, payload: "gone", qos: 2, retain: true });
  });

  table.test(version, "persistent session with offline messages", async () => {
    const topic = unique("offline");
    const options = keep(unique("js"), version);
    const first = await connect(version, options);
    await first.subscribe(`${topic}/#`, 2);
    await first.end();

    await using publisher = await connect(version);
    const payloads = Array.from({ length: 30 }, (_, i) => `m${i}`);
    for (const payload of payloads) {
      await publisher.publish(`${topic}/a`, payload, { qos: 1 });
      await publisher.publish(`${topic}/a`, payload, { qos: 2 });
      await publisher.publish(`${topic}/a`, "QoS 0 is not kept");
    }
    const again = await connect(version, options);
    // The CONNACK of 3.1 has no such flag.
    expect(again.connack.sessionPresent).toBe(version !== "3.1");
    // MQTT.js hands out QoS 2 on PUBREL, so order is seen within one QoS only.
    const received = await again.inbox.take(2 * payloads.length);
    for (const qos of [1, 2])
      expect(received.filter((message) => message.qos === qos).map(({ payload }) => payload)).toEqual(payloads);
    await publisher.publish(`${topic}/a`, "on line");
    expect((await again.next()).payload).toBe("on line");
    await again.end();

    const clean = await connect(version, { clientId: String(options.clientId), clean: true });
    expect(clean.connack.sessionPresent).toBe(false);
    await clean.subscribe(`${topic}/end`, 0);
    await publisher.publish(`${topic}/a`, "not subscribed any more", { qos: 1 });
    await publisher.publish(`${topic}/end`, "end", { qos: 1 });
    expect((await clean.next()).payload).toBe("end");
    await clean.end();
  });

  table.test(version, "unsubscribe", async () => {
    const topic = unique("unsubscribe");
    await using peer = await connect(version);
    await peer.subscribe(`${topic}/a`, 1);
    await peer.subscribe(`${topic}/b`, 1);
    await peer.publish(`${topic}/a`, "1", { qos: 1 });
    expect((await peer.next()).payload).toBe("1");
    await peer.client.unsubscribeAsync(`${topic}/a`);
    await peer.publish(`${topic}/a`, "2", { qos: 1 });
    await peer.publish(`${topic}/b`, "3", { qos: 1 });
    expect((await peer.next()).payload).toBe("3");
  });

  table.test(version, "payload of 900 KiB", async () => {
    const topic = unique("large");
    const payload = Buffer.alloc(LARGE_BYTES);
    for (let i = 0; i < payload.length; i += 4) payload.writeUInt32LE((i * 2_654_435_761) % 2 ** 32, i);
    await using publisher = await connect(version);
    await using subscriber = await connect(version);
    await subscriber.subscribe(topic, 2);
    for (const qos of allQos) {
      await publisher.publish(topic, payload, { qos });
      const { bytes, qos: receivedQos } = await subscriber.next();
      expect(receivedQos).toBe(qos);
      expect(bytes.equals(payload)).toBe(true);
    }
  });

  table.test(version, "shared subscription over three clients", async () => {
    const topic = unique("shared");
    await using publisher = await connect(version);
    await using a = await connect(version);
    await using b = await connect(version);
    await using c = await connect(version);
    const members = [a, b, c];
    for (const member of members) await member.subscribe(`$share/group/${topic}/+`, 1);
    const payloads = Array.from({ length: 30 }, (_, i) => String(i));
    for (const payload of payloads) await publisher.publish(`${topic}/x`, payload, { qos: 1 });
    const shares = await Promise.all(members.map((member) => member.inbox.take(10)));
    expect(
      shares
        .flat()
        .map(({ payload }) => Number(payload))
        .toSorted((x, y) => x - y),
    ).toEqual(payloads.map(Number));

    await a.client.unsubscribeAsync(`$share/group/${topic}/+`);
    await b.end();
    for (const payload of payloads) await publisher.publish(`${topic}/x`, payload, { qos: 1 });
    expect((await c.inbox.take(30)).map(({ payload }) => payload)).toEqual(payloads);
    expect([...a.inbox.drain(), ...b.inbox.drain()]).toEqual([]);
  });

  table.test(version, "reconnect after the broker was killed and started again", async () => {
    const first = await startBroker();
    await using subscriber = await Peer.connect(first.url, version, { reconnectPeriod: 20 });
    await using publisher = await Peer.connect(first.url, version, { reconnectPeriod: 20 });
    await subscriber.subscribe("a/#", 1);
    await publisher.publish("a/b", "before", { qos: 1 });
    expect((await subscriber.next()).payload).toBe("before");

    const offline = Promise.all([subscriber.event("close"), publisher.event("close")]);
    await first.kill();
    await offline;
    const back = subscriber.event("connect");
    await using second = await startBroker([], { port: first.port });
    await back;
    // MQTT.js subscribes again before it tells of the connection; this one's SUBACK comes after that one's.
    await subscriber.subscribe("own/#", 1);
    await publisher.publish("a/b", "after", { qos: 2 });
    expect((await subscriber.next()).payload).toBe("after");
    await Promise.all([subscriber.end(), publisher.end()]);
    await second.stop();
  });
}
