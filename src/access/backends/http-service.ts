/**
 * Questions to an HTTP service, and what its replies mean.
 *
 *   request    variables in url (percent-encoded), params and headers ─► GET with a query, POST with a form or JSON
 *   reply      200, 204                    yes; a body may say more: `ignore`, or JSON
 *              4xx but 408 and 429         no
 *              everything else             unavailable; a fault that is answered is not held against the service (`RemoteGuard`)
 *
 *   JSON       { "result": "allow" | "deny" | "ignore",       missing: allow
 *                "is_superuser": true, "username": "alice",   who the client is from now on
 *                "expire_at": 1767225600,                     seconds: the client is disconnected then
 *                "acl": …,                                    its own rules, as in a token (`jwt.ts`)
 *                "subscribe": { "home/%u/#": 1 } }            what it is subscribed to as it comes in
 *
 * A reply that cannot be understood is none: a misspelt refusal must not let anybody in. Redirects are not followed, so
 * that no password goes elsewhere. With `signature`, a header proves to the service who asks, and when:
 *
 *   x-mantou-signature: t=1767225600,v1=hex(HMAC-SHA256(secret, "1767225600.POST /auth?x=1." + body))
 *
 * Connections are kept and shared by `fetch`; it makes at most 256 requests at a time in one process, whatever `runningMax`.
 */
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import type { BackendHealth, BackendParts, Grant } from "#access/backend.ts";
import { rulesOfClaim } from "#access/jwt.ts";
import { choice, guardOptions, secret, template, text } from "#access/option.ts";
import { AnsweredFault, type Guarded, RemoteGuard } from "#access/remote-guard.ts";
import { readReply } from "#access/reply-text.ts";
import { parseJsonSubscriptions } from "#access/subscription-list.ts";
import {
  escapeHeader,
  escapeUrl,
  expandText,
  type Template,
  type TemplateValues,
  templateOf,
} from "#access/template.ts";
import { MantouError } from "#base/error.ts";

const REPLY_BYTES_MAX = 64 * 1024;
/** Those that say how the message is sent are not the operator's to write. */
const HEADER_NAME =
  /^(?!(?:host|connection|content-length|transfer-encoding|expect|upgrade)$)[a-z0-9!#$%&'*+.^_`|~-]+$/i;

export function requestOptions(params: Readonly<Record<string, string>>) {
  const nameError = "names of headers, such as x-realm, but none that says how a message is sent";
  return z.strictObject({
    url: template("where to ask: http or https, and a host without variables"),
    method: choice(["get", "post"], "get: params become the query; post: the body").default("post"),
    body: choice(["form", "json"], "post only: how params are written").default("form"),
    params: z
      .record(z.string(), template("a value"), { error: "a mapping of names to texts with variables" })
      .default({ ...params })
      .meta({ description: "what is asked; one whose variables the client has not is left out" }),
    headers: z
      .record(z.string().regex(HEADER_NAME, { error: nameError }), template("a value"), { error: nameError })
      .default({})
      .meta({ description: "headers besides; one whose variables the client has not is left out" }),
  });
}

const requestOptionsSchema = requestOptions({});
export type RequestOptions = z.output<typeof requestOptionsSchema>;

/** What all requests to a service have in common. */
export const serviceOptions = {
  authorization: secret("the header `authorization`, such as Bearer …").optional(),
  signature: z
    .strictObject({
      secret: secret("known to the broker and the service"),
      header: text("name of the header").regex(HEADER_NAME, { error: "a header's name" }).default("x-mantou-signature"),
    })
    .optional(),
  caFile: text("https; PEM: who may have signed the service's certificate; unset: whom the system trusts").optional(),
  certFile: text("https; PEM: the broker's own certificate").optional(),
  keyFile: text("https; PEM: its key").optional(),
  guard: guardOptions(),
};

const serviceOptionsSchema = z.strictObject(serviceOptions);
export type ServiceOptions = z.output<typeof serviceOptionsSchema>;

export type Reply =
  | { readonly result: "allow"; readonly grant: Grant; readonly isSuperuser: boolean | undefined }
  | { readonly result: "deny" | "ignore" };

export interface HttpQuestion {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}

/** `unknown`: the client has not what the URL asks about. `refused`: it has words that go into no request. */
type Composed = HttpQuestion | "unknown" | "refused";

export class HttpService {
  private readonly guard: RemoteGuard;
  private authorization: string | undefined;
  private signingKey: string | undefined;
  private tls: { ca?: string; cert?: string; key?: string } = {};

  constructor(
    private readonly options: ServiceOptions,
    private readonly parts: BackendParts,
  ) {
    this.guard = new RemoteGuard(options.guard);
    if ((options.certFile === undefined) !== (options.keyFile === undefined))
      throw new MantouError("access_invalid", `access: ${parts.name}: found one of certFile, keyFile, allowed: both`);
  }

  /** Throws MantouError where a secret or a file is missing. */
  start(): void {
    const { authorization, signature, caFile, certFile, keyFile } = this.options;
    this.authorization = authorization?.reveal();
    this.signingKey = signature?.secret.reveal();
    this.tls = { ...this.pem("ca", caFile), ...this.pem("cert", certFile), ...this.pem("key", keyFile) };
  }

  stop(): void {
    this.guard.stop();
  }

  health(): BackendHealth {
    return this.guard.health();
  }

  /** Calls `done` once. Equal questions are one, and kept as `guard` says; `address` is the client's. */
  ask(question: HttpQuestion, address: string | undefined, done: (reply: Guarded<Reply>) => void): void {
    const { method, url, headers, body = "" } = question;
    const key = this.guard.secretKey(method, url, JSON.stringify(headers), body);
    this.guard.ask(key, (signal) => this.send(question, signal), done, address);
  }

  private async send({ method, url, headers, body }: HttpQuestion, signal: AbortSignal): Promise<Reply> {
    const sent = new Headers(headers);
    if (this.authorization !== undefined) sent.set("authorization", this.authorization);
    if (this.signingKey !== undefined) sent.set(this.options.signature!.header, this.sign(method, url, body ?? ""));
    sent.set("accept", "application/json, text/plain");
    const response = await fetch(url, {
      method,
      headers: sent,
      ...(body === undefined ? {} : { body }),
      signal,
      redirect: "manual",
      tls: this.tls,
    });
    try {
      return replyOf(response, await readReply(response, REPLY_BYTES_MAX));
    } catch (error) {
      throw new AnsweredFault((error as Error).message);
    }
  }

  private sign(method: string, url: string, body: string): string {
    const { pathname, search } = new URL(url);
    const atSec = this.parts.nowSec();
    const hmac = createHmac("sha256", this.signingKey!).update(`${atSec}.${method} ${pathname}${search}.${body}`);
    return `t=${atSec},v1=${hmac.digest("hex")}`;
  }

  private pem(name: "ca" | "cert" | "key", file: string | undefined): Record<string, string> {
    if (file === undefined) return {};
    const path = isAbsolute(file) ? file : join(this.parts.baseDir, file);
    try {
      return { [name]: readFileSync(path, "utf8") };
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "not readable";
      throw new MantouError("access_invalid", `access: ${this.parts.name}: ${name}File: ${path}: ${code}`);
    }
  }
}

export type Compose = (values: TemplateValues) => Composed;

/** Throws MantouError `access_invalid` where the URL's host is not a plain one. */
export function composer(options: RequestOptions, name: string): Compose {
  const { method, body, params, headers } = options;
  const url = templateOf(options.url);
  checkUrl(url, options.url, name);
  const paramTemplates = Object.entries(params).map(([key, value]) => [key, templateOf(value)] as const);
  const headerTemplates = Object.entries(headers).map(
    ([key, value]) => [key.toLowerCase(), templateOf(value)] as const,
  );
  return (values) => {
    const place = composeUrl(url, values);
    if (typeof place === "object") return place.fault;
    const fields: Record<string, string> = Object.create(null);
    for (const [key, value] of paramTemplates) {
      const words = expandText(value, values);
      if (words !== undefined && (words.includes("\0") || !words.isWellFormed())) return "refused";
      if (words !== undefined) fields[key] = words;
    }
    const sent: Record<string, string> = {};
    for (const [key, value] of headerTemplates) {
      const words = expandText(value, values);
      if (words === undefined) continue;
      const escaped = escapeHeader(words);
      if (escaped === undefined) return "refused";
      sent[key] = escaped;
    }
    const form = new URLSearchParams(fields).toString();
    if (method === "get") {
      const mark = place.includes("?") ? "&" : "?";
      return { method: "GET", url: form === "" ? place : `${place}${mark}${form}`, headers: sent, body: undefined };
    }
    sent["content-type"] = body === "json" ? "application/json" : "application/x-www-form-urlencoded";
    return { method: "POST", url: place, headers: sent, body: body === "json" ? JSON.stringify(fields) : form };
  };
}

/** An empty value would make another resource of `/users/%u`: the list of all, perhaps. */
function composeUrl(url: Template, values: TemplateValues): string | { readonly fault: "unknown" | "refused" } {
  let place = "";
  for (const part of url) {
    const value = typeof part === "string" ? part : values[part.variable];
    if (value === undefined || value === "") return { fault: "unknown" };
    const escaped = typeof part === "string" ? part : value.includes("\0") ? undefined : escapeUrl(value);
    if (escaped === undefined) return { fault: "refused" };
    place += escaped;
  }
  return place;
}

function checkUrl(url: Template, words: string, name: string): void {
  const start = typeof url[0] === "string" ? url[0] : "";
  // With variables behind it, the host must have ended.
  const host = url.length > 1 ? /^https?:\/\/[^/?#@\s]+[/?]/i : /^https?:\/\/[^/?#@\s]+([/?]|$)/i;
  if (host.test(start) && URL.canParse(start) && !words.includes("#")) return;
  const allowed = "http:// or https://, a host without variables, no user name and password";
  throw new MantouError("access_invalid", `access: ${name}: url: found something else, allowed: ${allowed}`);
}

function replyOf({ status, headers }: Response, words: string): Reply {
  if (status >= 400 && status < 500 && status !== 408 && status !== 429) return { result: "deny" };
  if (status !== 200 && status !== 204) throw new Error(`HTTP ${status}`);
  if (/^application\/([\w.-]+\+)?json\b/i.test(headers.get("content-type") ?? "") && words !== "")
    return replyOfJson(parseJson(words));
  if (words.trim() === "ignore") return { result: "ignore" };
  return { result: "allow", grant: {}, isSuperuser: undefined };
}

function parseJson(words: string): unknown {
  try {
    return JSON.parse(words);
  } catch {
    throw new Error("a reply that is no JSON");
  }
}

const replySchema = z.looseObject({
  result: z.enum(["allow", "deny", "ignore"]).default("allow"),
  is_superuser: z.boolean().optional(),
  username: z.string().min(1).optional(),
  expire_at: z.number().optional(),
  acl: z.unknown().optional(),
  subscribe: z.unknown().optional(),
});

function replyOfJson(json: unknown): Reply {
  const parsed = replySchema.safeParse(json);
  const wrong = parsed.success ? undefined : String(parsed.error.issues[0].path[0] ?? "no object");
  if (!parsed.success) throw new Error(`a reply that is not understood: ${wrong}`);
  const { result, is_superuser: isSuperuser, username, expire_at: expiresAt, acl, subscribe } = parsed.data;
  if (result !== "allow") return { result };
  const rules = acl === undefined || acl === null ? undefined : rulesOfClaim(acl);
  if (rules === "invalid") throw new Error("a reply that is not understood: acl");
  const isListed = subscribe !== undefined && subscribe !== null;
  const subscriptions = isListed ? parseJsonSubscriptions(subscribe) : undefined;
  if (subscriptions && "fault" in subscriptions) throw new Error("a reply that is not understood: subscribe");
  const expiresAtSec = expiresAt === undefined ? undefined : Math.floor(expiresAt);
  return { result, grant: { isSuperuser, username, rules, subscriptions, expiresAtSec }, isSuperuser };
}
