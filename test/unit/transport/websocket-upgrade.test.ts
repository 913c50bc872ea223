import { describe, expect, test } from "bun:test";
import { Random } from "#base/random.ts";
import { judgeUpgrade, keptHeaders, readRequest, type WebSocketOptions } from "#transport/websocket-upgrade.ts";

const good: Record<string, string> = {
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
  "sec-websocket-protocol": "mqtt",
};
const any: WebSocketOptions = { path: "/mqtt", origins: [] };

function judge(change: Record<string, string | undefined>, options = any, path = "/mqtt") {
  const headers: Record<string, string | undefined> = { ...good, ...change };
  return judgeUpgrade(path, (name) => headers[name] ?? null, options);
}

describe("the request", () => {
  test.each([
    ["mqtt", "mqtt"],
    ["mqttv3.1", "mqttv3.1"],
    ["stomp, mqttv3.1 ,mqtt", "mqttv3.1"],
  ])("of subprotocols %j, %j is taken", (offered, protocol) => {
    expect(judge({ "sec-websocket-protocol": offered })).toEqual({ protocol });
  });

  test.each([
    ["another subprotocol", 400, { "sec-websocket-protocol": "stomp" }],
    ["a subprotocol that only begins like it", 400, { "sec-websocket-protocol": "mqttx" }],
    ["no subprotocol", 400, { "sec-websocket-protocol": undefined }],
    ["no upgrade", 426, { upgrade: undefined }],
    ["an old version", 426, { "sec-websocket-version": "8" }],
    ["no key", 400, { "sec-websocket-key": undefined }],
    ["a short key", 400, { "sec-websocket-key": "AAAA" }],
  ])("%s: %d", (_, status, change) => {
    expect(judge(change)).toMatchObject({ status });
  });

  test("of another path: 404", () => {
    expect(judge({}, any, "/other")).toMatchObject({ status: 404 });
  });

  test("from another origin is refused where origins are listed; without one it is no browser's", () => {
    const options = { path: "/mqtt", origins: ["https://app.example"] };
    expect(judge({ origin: "https://app.example" }, options)).toEqual({ protocol: "mqtt" });
    expect(judge({ origin: "HTTPS://App.example" }, options)).toEqual({ protocol: "mqtt" });
    expect(judge({}, options)).toEqual({ protocol: "mqtt" });
    for (const origin of ["https://evil.example", "https://app.example.evil", "http://app.example", "null", ""])
      expect(judge({ origin }, options)).toMatchObject({ status: 403 });
    expect(judge({ origin: "https://evil.example" })).toEqual({ protocol: "mqtt" });
  });
});

describe("its head", () => {
  const request = "GET /mqtt?a=1 HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\ncookie: b=2\r\nX-A:  x \r\nX-a: y\r\n\r\n";

  test("is read", () => {
    expect(readRequest(Buffer.from(`${request}rest`))).toEqual({
      path: "/mqtt",
      size: request.length,
      headers: new Map([
        ["host", "h"],
        ["cookie", "a=1; b=2"],
        ["x-a", "x, y"],
      ]),
    });
  });

  test("is awaited to its end, at most 16 KiB", () => {
    for (let size = 1; size < request.length; size++)
      expect(readRequest(Buffer.from(request.slice(0, size)))).toBeUndefined();
    expect(readRequest(Buffer.alloc(16_383, "a"))).toBeUndefined();
    expect(readRequest(Buffer.alloc(16_384, "a"))).toMatchObject({ status: 431 });
  });

  test.each([
    ["POST /mqtt HTTP/1.1\r\n\r\n", 405],
    ["GET /mqtt HTTP/1.0\r\n\r\n", 400],
    ["GET mqtt HTTP/1.1\r\n\r\n", 400],
    ["GET /a b HTTP/1.1\r\n\r\n", 400],
    ["\x10\x0c\x00\x04MQTT\r\n\r\n", 400],
    ["GET /mqtt HTTP/1.1\r\nno colon\r\n\r\n", 400],
    ["GET /mqtt HTTP/1.1\r\na : b\r\n\r\n", 400],
    ["GET /mqtt HTTP/1.1\r\n folded: b\r\n\r\n", 400],
  ])("%j: %d", (text, status) => {
    expect(readRequest(Buffer.from(text, "latin1"))).toMatchObject({ status });
  });

  test("random damage never throws", () => {
    const random = new Random(5);
    for (let i = 0; i < 5000; i++) {
      const bytes = Buffer.from(request);
      for (let n = random.below(5); n >= 0; n--) bytes[random.below(bytes.length)] = random.below(256);
      expect(() => readRequest(bytes)).not.toThrow();
    }
  });
});

test("headers are kept without those of the handshake, up to 8 KiB", () => {
  const headers = {
    cookie: "a=1",
    "user-agent": "x",
    upgrade: "websocket",
    connection: "Upgrade",
    "sec-websocket-key": "k",
  };
  expect(keptHeaders(Object.entries(headers))).toEqual({ cookie: "a=1", "user-agent": "x" });
  expect(keptHeaders([["cookie", "a".repeat(8186)]])).toBeDefined();
  expect(keptHeaders([["cookie", "a".repeat(8187)]])).toBeUndefined();
});
