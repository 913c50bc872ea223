import { describe, expect, test } from "bun:test";
import { Random } from "#base/random.ts";
import { readProxyHeader } from "#transport/proxy-protocol.ts";

const SIGNATURE = "0d0a0d0a000d0a515549540a";
const text = (line: string) => Buffer.from(line, "latin1");

function tlv(type: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 255]), value]);
}

function v2(command: number, family: number, rest: Buffer): Buffer {
  return Buffer.concat([
    Buffer.from(SIGNATURE, "hex"),
    Buffer.from([command, family, rest.length >> 8, rest.length & 255]),
    rest,
  ]);
}

const address4 = Buffer.from("c0000201" + "c6336407" + "dc04" + "075b", "hex");
const ssl = (flags: number, verify: number, ...inner: Buffer[]) =>
  tlv(0x20, Buffer.concat([Buffer.from([flags, 0, 0, 0, verify]), ...inner]));

describe("version 1", () => {
  test.each([
    ["PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n", { address: "192.0.2.1", port: 56_324 }],
    ["PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", { address: "2001:db8::1", port: 1 }],
  ])("%j", (line, source) => {
    expect(readProxyHeader(text(`${line}\x10\x00`))).toEqual({ size: line.length, source });
  });

  test("UNKNOWN keeps the socket's address", () => {
    expect(readProxyHeader(text("PROXY UNKNOWN\r\n"))).toEqual({ size: 15 });
    expect(readProxyHeader(text("PROXY UNKNOWN ffff::1 x y z\r\n"))).toEqual({ size: 29 });
  });

  test("is awaited to its end, at most 107 bytes", () => {
    const line = "PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n";
    for (let size = 1; size < line.length; size++) expect(readProxyHeader(text(line.slice(0, size)))).toBeUndefined();
    expect(readProxyHeader(text(`PROXY UNKNOWN ${"a".repeat(92)}`))).toBeUndefined();
    expect(readProxyHeader(text(`PROXY UNKNOWN ${"a".repeat(93)}`))).toBeNull();
  });

  test.each([
    "PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883 1\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.7 65536 1883\r\n",
    "PROXY TCP4 192.0.2.1 198.51.100.7 01 1883\r\n",
    "PROXY TCP4 2001:db8::1 198.51.100.7 1 1883\r\n",
    "PROXY TCP6 192.0.2.1 2001:db8::2 1 1883\r\n",
    "PROXY UDP4 192.0.2.1 198.51.100.7 1 1883\r\n",
    "PROXY TCP4  198.51.100.7 1 1883\r\n",
    "PROXY\r\n",
    "proxy TCP4 192.0.2.1 198.51.100.7 1 1883\r\n",
    "\x10\x0c\x00\x04MQTT",
  ])("%j is refused", (line) => expect(readProxyHeader(text(line))).toBeNull());
});

describe("version 2", () => {
  test("TCP over IPv4 and IPv6", () => {
    const source = { address: "192.0.2.1", port: 56_324 };
    expect(readProxyHeader(v2(0x21, 0x11, address4))).toEqual({ size: 28, source });
    const address6 = Buffer.from(
      "20010db8000000000000000000000001" + "20010db8000000000000000000000002" + "0001" + "075b",
      "hex",
    );
    expect(readProxyHeader(v2(0x21, 0x21, address6))).toEqual({
      size: 52,
      source: { address: "2001:db8::1", port: 1 },
    });
  });

  test("LOCAL, unspecified and Unix keep the socket's address", () => {
    expect(readProxyHeader(v2(0x20, 0x00, Buffer.alloc(0)))).toEqual({ size: 16 });
    expect(readProxyHeader(v2(0x20, 0x11, address4))).toEqual({ size: 28 });
    expect(readProxyHeader(v2(0x21, 0x00, Buffer.alloc(5)))).toEqual({ size: 21 });
    expect(readProxyHeader(v2(0x21, 0x31, Buffer.alloc(216)))).toEqual({ size: 232 });
  });

  test("the common name of a verified client certificate", () => {
    const name = tlv(0x22, Buffer.from("device-7"));
    const header = (...tlvs: Buffer[]) => readProxyHeader(v2(0x21, 0x11, Buffer.concat([address4, ...tlvs])));
    expect(header(tlv(0x04, Buffer.alloc(3)), ssl(7, 0, tlv(0x21, text("TLSv1.3")), name))).toMatchObject({
      commonName: "device-7",
    });
    expect(header(ssl(3, 0, name))).toMatchObject({ commonName: "device-7" });
    expect(header(ssl(1, 0, name))).not.toHaveProperty("commonName"); // no certificate
    expect(header(ssl(7, 1, name))).not.toHaveProperty("commonName"); // not verified
    expect(header(name)).not.toHaveProperty("commonName"); // not within SSL
  });

  test("is awaited to its end", () => {
    const header = v2(0x21, 0x11, Buffer.concat([address4, ssl(7, 0, tlv(0x22, Buffer.from("x")))]));
    for (let size = 1; size < header.length; size++) expect(readProxyHeader(header.subarray(0, size))).toBeUndefined();
    expect(readProxyHeader(header)).toMatchObject({ size: header.length });
  });

  test.each([
    ["version 1 in the form of 2", v2(0x11, 0x11, address4)],
    ["an unknown command", v2(0x22, 0x11, address4)],
    ["an unknown family", v2(0x21, 0x41, address4)],
    ["addresses cut short", v2(0x21, 0x11, address4.subarray(0, 11))],
    ["a TLV that does not fit", v2(0x21, 0x11, Buffer.concat([address4, Buffer.from([4, 0, 9, 1])]))],
    ["half a TLV", v2(0x21, 0x11, Buffer.concat([address4, Buffer.from([4, 0])]))],
    ["an SSL TLV without its fields", v2(0x21, 0x11, Buffer.concat([address4, tlv(0x20, Buffer.alloc(4))]))],
    ["a length beyond all reason", v2(0x21, 0x11, Buffer.alloc(4081))],
  ])("%s is refused", (_, bytes) => expect(readProxyHeader(bytes)).toBeNull());
});

test("damaged headers are read, awaited or refused, and never throw", () => {
  const random = new Random(3);
  const whole = v2(0x21, 0x11, Buffer.concat([address4, ssl(7, 0, tlv(0x22, Buffer.from("device-7")))]));
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(random.below(2) === 0 ? whole : text("PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n"));
    for (let n = random.below(4); n >= 0; n--) bytes[random.below(bytes.length)] = random.below(256);
    const header = readProxyHeader(bytes.subarray(0, 1 + random.below(bytes.length)));
    if (header) expect(header.size).toBeLessThanOrEqual(bytes.length);
  }
});
