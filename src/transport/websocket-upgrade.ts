/**
 * The HTTP request that opens a WebSocket (RFC 6455 §4.2), judged in one place for both servers: Bun's own and that on our links.
 * MQTT asks for the subprotocol `mqtt` [MQTT-6.0.0-3]; `mqttv3.1` is its older name. Anything else is refused before the upgrade.
 */
import { createHash } from "node:crypto";

export interface WebSocketOptions {
  readonly path: string;
  /** Values of Origin that may come in; empty: any. A client without Origin is no browser, and may. */
  readonly origins: readonly string[];
}

export interface Refusal {
  readonly status: 400 | 403 | 404 | 405 | 426 | 431;
  readonly reason: string;
}

/** The subprotocol to answer with, or why not. */
export type Judgement = { readonly protocol: string } | Refusal;

const PROTOCOLS = ["mqtt", "mqttv3.1"];
const ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEPT_BYTES_MAX = 8192;
const HEAD_BYTES_MAX = 16_384;
const HEAD_END = "\r\n\r\n";
/** Of the handshake itself: they say nothing of the client. */
const NOT_KEPT = /^(connection|upgrade|sec-websocket-.*)$/;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

type Get = (name: string) => string | null;

export function isUpgrade(get: Get): boolean {
  return (get("upgrade") ?? "").toLowerCase() === "websocket";
}

/** `path` without query. */
export function judgeUpgrade(path: string, get: Get, options: WebSocketOptions): Judgement {
  if (path !== options.path) return { status: 404, reason: "Not Found" };
  if (!isUpgrade(get)) return { status: 426, reason: "Upgrade Required" };
  if (get("sec-websocket-version") !== "13") return { status: 426, reason: "Upgrade Required" };
  if (!/^[+/0-9A-Za-z]{22}==$/.test(get("sec-websocket-key") ?? "")) return { status: 400, reason: "Bad Request" };
  const origin = get("origin");
  const isWelcome = options.origins.length === 0 || origin === null || options.origins.includes(origin.toLowerCase());
  if (!isWelcome) return { status: 403, reason: "Forbidden" };
  const offered = (get("sec-websocket-protocol") ?? "").split(",").map((name) => name.trim());
  const protocol = offered.find((name) => PROTOCOLS.includes(name));
  return protocol === undefined ? { status: 400, reason: "Bad WebSocket Protocol" } : { protocol };
}

/** For access backends; undefined when they are too large to be kept. */
export function keptHeaders(headers: Iterable<readonly [string, string]>): Record<string, string> | undefined {
  const kept: [string, string][] = [];
  let bytes = 0;
  for (const [name, value] of headers) {
    if (NOT_KEPT.test(name)) continue;
    bytes += name.length + value.length;
    kept.push([name, value]);
  }
  return bytes > KEPT_BYTES_MAX ? undefined : Object.fromEntries(kept);
}

export const TOO_LARGE: Refusal = { status: 431, reason: "Request Header Fields Too Large" };

// ---- on our own links

export interface UpgradeRequest {
  readonly path: string;
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /** Bytes of it. */
  readonly size: number;
}

/** The request's head; undefined while it is not complete, a refusal when it is none or too large. */
export function readRequest(bytes: Buffer): UpgradeRequest | Refusal | undefined {
  const end = bytes.subarray(0, HEAD_BYTES_MAX).indexOf(HEAD_END);
  if (end < 0) return bytes.length < HEAD_BYTES_MAX ? undefined : TOO_LARGE;
  const [first = "", ...lines] = bytes.toString("latin1", 0, end).split("\r\n");
  const [, method, target = ""] = /^([A-Z]+) (\/[\x21-\x7e]*) HTTP\/1\.1$/.exec(first) ?? [];
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(0, colon)).toLowerCase();
    if (!TOKEN.test(name)) return { status: 400, reason: "Bad Request" };
    const value = line.slice(colon + 1).trim();
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before}${name === "cookie" ? "; " : ", "}${value}`);
  }
  if (method === undefined) return { status: 400, reason: "Bad Request" };
  if (method !== "GET") return { status: 405, reason: "Method Not Allowed" };
  return { path: target.split("?", 1)[0], headers, size: end + HEAD_END.length };
}

export function acceptResponse(key: string, protocol: string): Buffer {
  const accept = createHash("sha1").update(`${key}${ACCEPT_GUID}`).digest("base64");
  const lines = [
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: Upgrade",
    `Sec-WebSocket-Accept: ${accept}`,
    `Sec-WebSocket-Protocol: ${protocol}`,
  ];
  return Buffer.from(lines.join("\r\n") + HEAD_END, "latin1");
}

export function refusalResponse({ status, reason }: Refusal): Buffer {
  const lines = [
    `HTTP/1.1 ${status} ${reason}`,
    "Connection: close",
    "Content-Type: text/plain",
    `Content-Length: ${reason.length}`,
    ...(status === 426 ? ["Upgrade: websocket", "Sec-WebSocket-Version: 13"] : []),
  ];
  return Buffer.from(lines.join("\r\n") + HEAD_END + reason, "latin1");
}
