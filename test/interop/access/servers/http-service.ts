/**
 * An HTTP service that knows users, for tests: `alice` with `wonder`, `root` with `toor`, a super user. `start` and `stop`
 * on one port, as services do.
 */
import { createHmac } from "node:crypto";

const USERS: Readonly<Record<string, string>> = { alice: "wonder", root: "toor" };
const SESSIONS: Readonly<Record<string, string>> = { "sid=s-alice": "alice", "sid=s-nobody": "" };
export const SIGNING_SECRET = "a secret between two";

export interface Seen {
  readonly method: string;
  readonly url: URL;
  readonly headers: Headers;
  readonly body: string;
  readonly fields: Readonly<Record<string, string>>;
}

export class FakeHttpService {
  readonly seen: Seen[] = [];
  /** In place of its own answer. */
  answer: ((seen: Seen) => Response | Promise<Response>) | undefined;
  private server: Bun.Server<undefined> | undefined;
  private portUsed = 0;

  constructor(private readonly tls: Bun.TLSOptions | undefined = undefined) {
    this.start();
  }

  get origin(): string {
    return `${this.tls ? "https" : "http"}://127.0.0.1:${this.portUsed}`;
  }

  start(): void {
    const tls = this.tls ? { tls: this.tls } : {};
    const fetch = (request: Request): Promise<Response> => this.handle(request);
    this.server = Bun.serve({ hostname: "127.0.0.1", port: this.portUsed, fetch, ...tls });
    this.portUsed = this.server.port!;
  }

  async stop(): Promise<void> {
    await this.server?.stop(true);
    this.server = undefined;
  }

  private async handle(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const body = await request.text();
    const isJson = request.headers.get("content-type") === "application/json";
    const form = new URLSearchParams(request.method === "GET" ? url.search : body);
    const fields = isJson ? (JSON.parse(body) as Record<string, string>) : Object.fromEntries(form);
    const seen = { method: request.method, url, headers: request.headers, body, fields };
    this.seen.push(seen);
    if (this.answer) return this.answer(seen);
    return new Response(...replyTo(seen));
  }
}

function replyTo({ url, headers, fields }: Seen): [string | null, ResponseInit] {
  const { username = "", password, topic = "" } = fields;
  switch (url.pathname) {
    case "/auth":
      if (!Object.hasOwn(USERS, username)) return ["ignore", {}];
      return ["", { status: USERS[username] === password ? 200 : 401 }];
    case "/super":
      return [null, { status: username === "root" ? 204 : 403 }];
    case "/acl":
      if (topic.startsWith("open/")) return ["ok", {}];
      return topic.startsWith("shut/") ? ["", { status: 403 }] : ["ignore", {}];
    case "/session":
      return sessionReply(headers.get("cookie") ?? "");
    default:
      return ["", { status: 404 }];
  }
}

function sessionReply(cookie: string): [string | null, ResponseInit] {
  if (!Object.hasOwn(SESSIONS, cookie)) return ["", { status: 401 }];
  const username = SESSIONS[cookie];
  const body = username === "" ? {} : { username };
  return [JSON.stringify(body), { headers: { "content-type": "application/json; charset=utf-8" } }];
}

/** As a service would, in a language of its own. */
export function isSignatureRight({ method, url, headers, body }: Seen, header = "x-mantou-signature"): boolean {
  const [, atSec, found] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(headers.get(header) ?? "") ?? [];
  if (atSec === undefined || Math.abs(Date.now() / 1000 - Number(atSec)) > 60) return false;
  const words = `${atSec}.${method} ${url.pathname}${url.search}.${body}`;
  return createHmac("sha256", SIGNING_SECRET).update(words).digest("hex") === found;
}
