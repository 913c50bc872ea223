import { describe, expect, test } from "bun:test";
import { createServer } from "node:net";
import { connect } from "node:tls";
import { Random } from "#base/random.ts";
import { readServerName } from "#transport/client-hello.ts";

/** What a real client sends first. */
async function helloOf(servername: string | undefined, options: object = {}): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const server = createServer((socket) =>
    socket.once("data", (bytes) => resolve(Buffer.from(bytes))).on("error", () => {}),
  );
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  const client = connect({ host: "127.0.0.1", port, ...(servername !== undefined && { servername }), ...options });
  client.on("error", () => {});
  const bytes = await promise;
  client.destroy();
  server.close();
  return bytes;
}

/** The same message in records of `size` bytes. */
function inRecords(hello: Buffer, size: number): Buffer {
  const message = hello.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const fragment = message.subarray(at, at + size);
    records.push(Buffer.from([22, 3, 1, fragment.length >> 8, fragment.length & 255]), fragment);
  }
  return Buffer.concat(records);
}

describe("the server name", () => {
  test("is found in the hello of a real client", async () => {
    expect(readServerName(await helloOf("Broker.Example"))).toBe("broker.example");
    expect(readServerName(await helloOf("a.example", { maxVersion: "TLSv1.2" }))).toBe("a.example");
    expect(readServerName(await helloOf(undefined))).toBe("");
  });

  test("is awaited until the hello is complete, in one record or many", async () => {
    const hello = await helloOf("broker.example");
    for (let size = 0; size < hello.length; size++) expect(readServerName(hello.subarray(0, size))).toBeUndefined();
    for (const size of [1, 3, 4, 100]) {
      const records = inRecords(hello, size);
      expect(readServerName(records)).toBe("broker.example");
      expect(readServerName(records.subarray(0, -1))).toBeUndefined();
    }
    expect(readServerName(Buffer.concat([hello, Buffer.from("more")]))).toBe("broker.example");
  });

  test("is empty for what is no hello: the TLS stack refuses it", () => {
    for (const bytes of [
      "GET / HTTP/1.1",
      "\x10\x0c\x00\x04MQTT",
      "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
      "\x16\x03\x01\x00\x00",
    ])
      expect(readServerName(Buffer.from(bytes, "latin1"))).toBe("");
    expect(readServerName(Buffer.from("1603014000 01ffffff".replaceAll(" ", ""), "hex"))).toBe("");
  });

  test("damaged hellos give a name, none or wait, and never throw", async () => {
    const hello = await helloOf("broker.example");
    const random = new Random(42);
    for (let i = 0; i < 20_000; i++) {
      const bytes = Buffer.from(hello.subarray(0, 1 + random.below(hello.length)));
      for (let n = random.below(6); n >= 0; n--) bytes[random.below(bytes.length)] = random.below(256);
      const name = readServerName(bytes);
      expect(name === undefined || /^[a-z0-9._-]*$/.test(name)).toBe(true);
    }
  });
});
