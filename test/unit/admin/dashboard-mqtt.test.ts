// The dashboard's own MQTT packets, against another codec: it reads what is written here, and the other way round.
import { expect, test } from "bun:test";
import fc from "fast-check";
import { generate, type Packet as Foreign, parser } from "mqtt-packet";
import {
  ackPacket,
  connectPacket,
  decode,
  disconnectPacket,
  pingPacket,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
} from "#admin/dashboard/mqtt-packet.ts";

const V5 = { protocolVersion: 5 } as const;

function read(bytes: Uint8Array): Foreign {
  const packets: Foreign[] = [];
  const reader = parser(V5);
  reader.on("packet", (packet: Foreign) => packets.push(packet));
  reader.on("error", (error: Error) => {
    throw error;
  });
  reader.parse(Buffer.from(bytes));
  expect(packets).toHaveLength(1);
  return packets[0]!;
}

const word = fc.string({ unit: "grapheme", minLength: 1, maxLength: 30 }).filter((text) => !/[\p{Cc}#+]/u.test(text));
const qos = fc.constantFrom(0, 1, 2);
const packetId = fc.integer({ min: 1, max: 65_535 });

test("what is written is what another codec reads", () => {
  fc.assert(
    fc.property(word, word, fc.string({ maxLength: 300 }), qos, packetId, (topic, name, payload, level, id) => {
      const wish = { clientId: name, username: name, password: topic, keepAliveSec: 60, isCleanStart: true };
      expect(read(connectPacket(wish))).toMatchObject({
        cmd: "connect",
        clientId: name,
        username: name,
        keepalive: 60,
        clean: true,
      });
      const sent = read(publishPacket(id, { topic, payload, qos: level, isRetain: true }));
      expect(sent).toMatchObject({
        cmd: "publish",
        topic,
        qos: level,
        retain: true,
        ...(level > 0 && { messageId: id }),
      });
      expect((sent as { payload: Buffer }).payload.toString()).toBe(Buffer.from(payload).toString());
      expect(read(subscribePacket(id, `${topic}/#`, level))).toMatchObject({
        cmd: "subscribe",
        messageId: id,
        subscriptions: [{ topic: `${topic}/#`, qos: level }],
      });
      expect(read(unsubscribePacket(id, topic))).toMatchObject({ cmd: "unsubscribe", unsubscriptions: [topic] });
      for (const type of ["puback", "pubrec", "pubrel", "pubcomp"] as const)
        expect(read(ackPacket(type, id))).toMatchObject({ cmd: type, messageId: id });
    }),
  );
  expect(read(pingPacket)).toMatchObject({ cmd: "pingreq" });
  expect(read(disconnectPacket)).toMatchObject({ cmd: "disconnect" });
});

test("what another codec writes is read, however it is cut", () => {
  fc.assert(
    fc.property(
      word,
      fc.uint8Array({ maxLength: 300 }),
      qos,
      packetId,
      fc.nat(400),
      (topic, payload, level, id, cut) => {
        const properties = {
          receiveMaximum: 10,
          userProperties: { a: "b" },
          assignedClientIdentifier: topic,
          retainAvailable: true,
        };
        const written: Foreign[] = [
          { cmd: "connack", reasonCode: 0, sessionPresent: false, properties },
          {
            cmd: "publish",
            topic,
            payload: Buffer.from(payload),
            qos: level as 0,
            dup: false,
            retain: true,
            messageId: id,
          },
          { cmd: "puback", messageId: id, reasonCode: 0x87 },
          { cmd: "suback", messageId: id, granted: [0x80, 1] },
          { cmd: "pingresp" },
          { cmd: "disconnect", reasonCode: 0x8e },
        ];
        const bytes = Buffer.concat(written.map((packet) => generate(packet, V5)));
        const first = decode(bytes.subarray(0, cut));
        const second = decode(Buffer.concat([first.rest, bytes.subarray(cut)]));
        expect([...first.packets, ...second.packets]).toEqual([
          { type: "connack", code: 0, clientId: topic },
          {
            type: "publish",
            topic,
            payload: new Uint8Array(payload),
            qos: level,
            isRetained: true,
            packetId: level > 0 ? id : 0,
          },
          { type: "puback", packetId: id, code: 0x87 },
          { type: "suback", packetId: id, codes: [0x80, 1] },
          { type: "pingresp" },
          { type: "disconnect", code: 0x8e },
        ]);
        expect(second.rest.length).toBe(0);
      },
    ),
  );
});

test("no bytes do more than end in an error that is told", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      try {
        decode(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }),
  );
});
