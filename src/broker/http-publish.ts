/**
 * emqttd's HTTP interface on WebSocket listeners: `POST /mqtt/publish` and `GET /status`; and a page for people who came by chance.
 *
 *   form or JSON ─► topics and QoS checked ─► authenticate (Basic) ─► authorize each topic ─► publish all ─► "ok"
 *
 * Nothing is published unless all of it may be. QoS 1, 2 and retained messages are answered when they are on disk. What
 * differs from emqttd stands in docs/emqttd-compatibility.md.
 */
import type { Engine } from "#core/engine.ts";
import type { MessageView } from "#core/message.ts";
import {
  ALLOW,
  type AuthenticateOutcome,
  type AuthenticateRequest,
  type ClientInfo,
  type HttpMount,
  type HttpPeer,
  PENDING,
} from "#core/ports.ts";
import { MantouError } from "#base/error.ts";
import { keptHeaders } from "#transport/websocket-upgrade.ts";
import type { Commits } from "./commits.ts";
import { payloadOf, publishView, viewOf } from "./publish.ts";

const TOPIC_COUNT_MAX = 1000;
const MORE_BYTES = 64 * 1024;
/** Of bodies and messages of all requests that are being read, judged or written; beyond, 503. */
const HELD_BYTES_MAX = 128 * 1024 * 1024;
let heldBytes = 0;
const CLIENT_ID = "http";
/** Backends and rules see an MQTT 3.1.1 client. */
const VERSION = 4;
const BUSY_CODES: ReadonlySet<number> = new Set([0x88, 0x89]); // Server unavailable, Server busy

export interface HttpPublishParts {
  readonly engine: Engine;
  readonly commits: Commits;
  readonly node: string;
  /** New requests are refused, so that those who are in are served. */
  isBusy(): boolean;
}

interface Wish {
  readonly client: string;
  readonly qos: number;
  readonly isRetain: boolean;
  readonly topics: readonly string[];
  readonly payload: Buffer;
}

/** An answer that is no success. */
class Refused extends Error {
  constructor(
    readonly status: number,
    readonly words: string,
  ) {
    super(words);
  }
}

export function httpMounts(parts: HttpPublishParts): HttpMount[] {
  return [
    { path: "/mqtt/publish", fetch: (request, peer) => answer(parts, request, peer) },
    { path: "/status", fetch: (request) => status(parts, request) },
    { path: "/", fetch: frontPage },
  ];
}

/** The two lines of emqttd's `/status`, whose second one scripts look for. */
export function statusText(node: string): string {
  return `Node ${node} is started\nemqttd is running`;
}

function status({ node }: HttpPublishParts, { method }: Request): Response {
  return method === "GET" || method === "HEAD" ? text(200, statusText(node)) : text(405, "Method Not Allowed");
}

/** The same for everybody: it tells nothing of this broker. */
const FRONT_PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>mantou</title>
<style>body { max-width: 36em; margin: 12vh auto; padding: 0 1.5em; font: 16px/1.6 system-ui, sans-serif } dt { margin-top: .8em; font-family: monospace } dd { margin: 0 }</style>
<h1>mantou</h1>
<p>An MQTT broker answers here. This port is for programs:
<dl>
<dt>/mqtt<dd>MQTT over WebSocket, subprotocol mqtt; a listener may be set to another path
<dt>POST /mqtt/publish<dd>publishes over HTTP
<dt>GET /status<dd>whether the broker runs
</dl>
<p>The dashboard, with a page to publish and subscribe, is on the port for administrators, 18083 unless it was set otherwise. The API's document is there too.
`;

function frontPage({ method }: Request): Response {
  if (method !== "GET" && method !== "HEAD") return text(405, "Method Not Allowed");
  return new Response(FRONT_PAGE, {
    headers: {
      "Content-Type": "text/html; charset=utf-8",
      "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
      "X-Content-Type-Options": "nosniff",
    },
  });
}

async function answer(parts: HttpPublishParts, request: Request, peer: HttpPeer): Promise<Response> {
  const { metrics } = parts.engine;
  const held: Held = { bytes: 0 };
  try {
    if (request.method !== "POST") throw new Refused(405, "Method Not Allowed");
    if (parts.isBusy()) throw new Refused(503, "Service Unavailable");
    metrics.add("http.published", await publish(parts, request, { peer, held }));
    return text(200, "ok");
  } catch (error) {
    metrics.add("http.refused");
    return refusal(error);
  } finally {
    heldBytes -= held.bytes;
  }
}

/** What one request has in memory. */
interface Held {
  bytes: number;
}

/** Resolves with the number of messages when all are safe. */
async function publish(
  parts: HttpPublishParts,
  request: Request,
  { peer, held }: { readonly peer: HttpPeer; readonly held: Held },
): Promise<number> {
  const { engine } = parts;
  const wish = readWish(request.headers, await readBody(request, bodyBytesMax(engine), held));
  hold(held, wish.topics.length * wish.payload.length);
  const views = wish.topics.map((topic) => viewOf(engine, { ...wish, topic }));
  const client = await authenticate(engine, request, peer, wish.client);
  for (const view of views) if (!(await mayPublish(engine, client, view))) throw new Refused(403, "Forbidden");
  await Promise.all(views.map((view) => publishView(parts, forget(view))));
  return views.length;
}

function hold(held: Held, bytes: number): void {
  if (bytes > HELD_BYTES_MAX) throw new Refused(413, "Content Too Large");
  held.bytes += bytes;
  heldBytes += bytes;
  if (heldBytes > HELD_BYTES_MAX) throw new Refused(503, "Service Unavailable");
}

/** The largest message, each byte percent-encoded, and its topics. */
function bodyBytesMax({ limits }: Engine): number {
  return 3 * limits.mqtt.packetBytesMax + MORE_BYTES;
}

async function readBody({ body, headers }: Request, bytesMax: number, held: Held): Promise<Buffer> {
  const tooLarge = new Refused(413, "Content Too Large");
  if (Number(headers.get("content-length") ?? 0) > bytesMax) throw tooLarge;
  const chunks: Uint8Array[] = [];
  for await (const chunk of body ?? []) {
    hold(held, chunk.length);
    if (held.bytes > bytesMax) throw tooLarge;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Others have been served since the topic was looked up. */
function forget(view: MessageView): MessageView {
  view.slot = -1;
  return view;
}

function refusal(error: unknown): Response {
  if (error instanceof Refused) {
    const { status: code, words } = error;
    if (code === 401) return text(code, words, { "WWW-Authenticate": 'Basic realm="mantou", charset="UTF-8"' });
    return text(code, words, code === 503 ? { "Retry-After": "10" } : {});
  }
  if (!(error instanceof MantouError)) throw error;
  switch (error.code) {
    case "topic_invalid":
      return text(400, "Bad Topics");
    case "qos_invalid":
      return text(400, "Bad QoS");
    case "payload_too_large":
      return text(413, "Content Too Large");
    case "payload_invalid":
      return text(400, "Bad Message");
    case "retain_invalid":
      return text(400, "Bad Retain");
    default: // the store cannot keep it, or not in time
      return text(503, "Service Unavailable", { "Retry-After": "10" });
  }
}

function readWish(headers: Headers, bytes: Buffer): Wish {
  const type = (headers.get("content-type") ?? "").split(";")[0].trim().toLowerCase();
  const body = bytes.toString();
  const fields = type === "application/json" ? readJson(body) : Object.fromEntries(new URLSearchParams(body));
  const { client = CLIENT_ID, qos = 0, retain = 0, message, topic, topics, encoding = "utf8" } = fields;
  if (!/^[0-2]$/.test(String(qos))) throw new Refused(400, "Bad QoS");
  if (!["0", "1", "true", "false"].includes(String(retain))) throw new Refused(400, "Bad Retain");
  if (typeof message !== "string" || (encoding !== "utf8" && encoding !== "base64"))
    throw new Refused(400, "Bad Message");
  if (typeof client !== "string" || client === "") throw new Refused(400, "Bad Client");
  const list = typeof topics === "string" ? topics.split(",") : (topics ?? []);
  const all = topic === undefined ? list : Array.isArray(list) ? [topic, ...list] : list;
  const isList = Array.isArray(all) && all.length > 0 && all.length <= TOPIC_COUNT_MAX;
  if (!isList || all.some((each) => typeof each !== "string")) throw new Refused(400, "Bad Topics");
  const isRetain = String(retain) === "1" || String(retain) === "true";
  return { client, qos: Number(qos), isRetain, topics: all as string[], payload: payloadOf(message, encoding) };
}

function readJson(body: string): Record<string, unknown> {
  let read: unknown;
  try {
    read = JSON.parse(body);
  } catch {
    throw new Refused(400, "Bad Request");
  }
  if (typeof read !== "object" || read === null || Array.isArray(read)) throw new Refused(400, "Bad Request");
  return read as Record<string, unknown>;
}

/** By the access chain, as a client of that id from that address. */
async function authenticate(
  { access }: Engine,
  { headers }: Request,
  { address, port, listener }: HttpPeer,
  clientId: string,
): Promise<ClientInfo> {
  const { username, password } = readBasic(headers.get("authorization"));
  const identity = { headers: keptHeaders(headers) };
  const client: ClientInfo = { clientId, username, address, port, version: VERSION, listener, identity };
  const { reasonCode } = await new Promise<AuthenticateOutcome>((complete) => {
    const asked: AuthenticateRequest = {
      client,
      password,
      method: undefined,
      data: undefined,
      isReauthentication: false,
      state: undefined,
      complete,
    };
    access.authenticate(asked);
  });
  if (reasonCode === 0) return client;
  throw BUSY_CODES.has(reasonCode) ? new Refused(503, "Service Unavailable") : new Refused(401, "Forbidden");
}

function readBasic(header: string | null): { username: string | undefined; password: Buffer | undefined } {
  const [, encoded] = /^Basic +([A-Za-z0-9+/=_-]+) *$/i.exec(header ?? "") ?? [];
  if (encoded === undefined) return { username: undefined, password: undefined };
  const bytes = Buffer.from(encoded, "base64");
  const colon = bytes.indexOf(":");
  if (colon < 0) return { username: bytes.toString(), password: undefined };
  return { username: bytes.toString("utf8", 0, colon), password: bytes.subarray(colon + 1) };
}

function mayPublish({ access, hooks }: Engine, client: ClientInfo, view: MessageView): Promise<boolean> {
  const ask = (): ReturnType<typeof access.authorizePublish> => access.authorizePublish(client, view);
  const later = hooks.messagePublishLater;
  const verdict = access.isOpen ? ALLOW : later.isBelow(view) ? later.judged(view, ask) : ask();
  if (verdict !== PENDING) return Promise.resolve(verdict === ALLOW);
  return new Promise((resolve) => access.whenDecided(client, (decided) => resolve(decided === ALLOW)));
}

function text(code: number, words: string, headers: Record<string, string> = {}): Response {
  return new Response(words, { status: code, headers: { "Content-Type": "text/plain; charset=utf-8", ...headers } });
}
