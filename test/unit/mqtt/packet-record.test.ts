import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { describePacket, describePublish } from "#mqtt/codec/packet-record.ts";
import { arbitraryPacket, arbitraryVersion } from "#test/support/packet-arbitrary.ts";
import { encodePacket, type PacketInput, type Version } from "#test/support/packets.ts";
import { viewOf } from "#test/support/test-broker.ts";

function record(packet: PacketInput, version: Version = 5) {
  const bytes = Buffer.from(encodePacket(packet, version));
  return describePacket(bytes, 0, bytes.length, version);
}

test("every packet that a client may send is told as it was meant", () => {
  fc.assert(
    fc.property(
      arbitraryVersion.chain((version) => fc.tuple(fc.constant(version), arbitraryPacket(version))),
      ([version, packet]) => {
        const told = record(packet, version);
        expect(told.type).toBe(packet.type.toUpperCase());
        expect(told.fields).not.toHaveProperty("isMalformed");
        if ("packetId" in packet && packet.packetId !== undefined)
          expect(told.fields["packetId"]).toBe(packet.packetId);
        if (packet.type === "publish") expect(told.topic as unknown).toBe(packet.topic ?? "");
        if (packet.type === "publish") expect(told.fields["qos"]).toBe(packet.qos ?? 0);
        if (packet.type === "unsubscribe") expect(told.filters as unknown).toEqual(packet.filters);
        if (packet.type === "connect") expect(told.clientId as unknown).toBe(packet.clientId ?? "");
      },
    ),
    { numRuns: 500 },
  );
});

test("whatever the bytes are, something is told and nothing is thrown", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 40 }), arbitraryVersion, (bytes, version) => {
      const told = describePacket(Buffer.from(bytes), 0, bytes.length, version);
      expect(() => JSON.stringify(told)).not.toThrow();
      expect(told.bytes).toBe(bytes.length);
    }),
    { numRuns: 5000 },
  );
});

describe("what the broker sends", () => {
  test.each<[PacketInput, object]>([
    [
      { type: "connack", sessionPresent: true, reasonCode: 0 },
      { isSessionPresent: true, reasonCode: 0 },
    ],
    [
      { type: "puback", packetId: 7, reasonCode: 0x10 },
      { packetId: 7, reasonCode: 0x10 },
    ],
    [
      { type: "suback", packetId: 7, reasonCodes: [1, 0x80] },
      { packetId: 7, reasonCodes: [1, 0x80] },
    ],
    [
      { type: "unsuback", packetId: 7, reasonCodes: [0] },
      { packetId: 7, reasonCodes: [0] },
    ],
    [{ type: "disconnect", reasonCode: 0x8e }, { reasonCode: 0x8e }],
    [{ type: "pingresp" }, {}],
  ])("%j", (packet, fields) => expect(record(packet).fields).toEqual({ ...fields }));

  test("a PUBLISH with its identifiers", () => {
    const view = viewOf("a/b", "hello");
    view.ids = Int32Array.of(3, 4, 0, 0);
    view.idCount = 2;
    expect(describePublish(view, 9, 0b1011)).toEqual({
      topic: "a/b",
      payload: Buffer.from("hello"),
      fields: { packetId: 9, qos: 1, isDup: true, isRetain: true, subscriptionIdentifiers: [3, 4] },
    });
  });
});

test("no secret is told", () => {
  const told = record({
    type: "connect",
    clientId: "c",
    username: "u",
    password: Buffer.from("SECRET"),
    properties: [
      ["authenticationMethod", "m"],
      ["authenticationData", Buffer.from("SECRET")],
    ],
  });
  const text = JSON.stringify(told);
  expect(told.fields).toMatchObject({ username: "u", hasPassword: true, authenticationDataBytes: 6 });
  expect(text).not.toMatch(/SECRET|83,69,67|534543|U0VDUkVU/i);
});
