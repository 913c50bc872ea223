/**
 * REST under `/api/v1`: who asks, may they, do it, note it, answer in JSON.
 *
 *   request ─► identity (cookie, API key, admin socket) ─► role ─► CSRF ─► parameters ─► Control ─► JSON
 *                                                                                      └─ audit, of what changes something
 *
 * The routes stand in routes.ts and account-routes.ts. The OpenAPI document is made from the schemas of the operations, and those
 * same schemas check what comes in. Errors are `{ error: { code, message } }`.
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { getCookie } from "hono/cookie";
import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { z } from "zod";
import { isEqualSecret } from "#access/password.ts";
import { MantouError } from "#base/error.ts";
import { type Control, operations } from "#broker/control.ts";
import type { Logger } from "#broker/log.ts";
import type { PluginRoutes } from "#broker/plugin-routes.ts";
import { VERSION } from "#broker/version.ts";
import type { Accounts } from "./accounts.ts";
import { type AdminDb, type AuditEntry, SIGN_IN } from "./admin-db.ts";
import { type Identity, isLocal, mayAct, type Peer, type Role } from "./identity.ts";
import { type Method, routes } from "./routes.ts";

export const API = "/api/v1";
export const COOKIE = "mantou_session";
/** Numbers of the workers that are being started again and have no part in an answer. */
export const MISSING = "Mantou-Missing-Workers";
/** What a sign-in takes. */
const STRANGER_BODY_BYTES_MAX = 16 * 1024;
const BODY_BYTES_MAX = 8 * 1024 * 1024;
const TARGET_LENGTH_MAX = 500;

export interface AdminParts {
  readonly control: Control;
  readonly accounts: Accounts;
  readonly db: () => AdminDb;
  readonly log: Logger;
  readonly sessionSec: number;
  readonly metrics: "viewer" | "anybody";
  /** What plugins answer to administrators. */
  readonly pluginRoutes: PluginRoutes;
}

interface AdminEnv {
  Bindings: { peer: Peer };
  Variables: { identity: Identity | undefined };
}

export type App = OpenAPIHono<AdminEnv>;
export type Asked = Context<AdminEnv>;

/** One resource with its documentation. `run` gets parameters that `params` has checked, and answers plain JSON. */
export interface Resource<P extends z.ZodType = z.ZodType> {
  readonly method: Method;
  readonly path: string;
  readonly about: string;
  readonly tag: string;
  /** Undefined: also for strangers. */
  readonly role: Role | undefined;
  readonly params: P;
  readonly result: z.ZodType;
  /** False for what is no GET and changes nothing. */
  readonly isNoted?: boolean;
  run(params: z.output<P>, c: Asked): unknown;
}

/** Codes of MantouError that are no 400. */
const STATUS: Readonly<Record<string, ContentfulStatusCode>> = {
  not_found: 404,
  plugin_unknown: 404,
  unauthorized: 401,
  credentials_wrong: 401,
  default_password: 403,
  forbidden: 403,
  csrf: 403,
  last_administrator: 409,
  file_exists: 409,
  rules_changed: 409,
  payload_too_large: 413,
  answer_too_large: 502,
  answer_too_late: 504,
  worker_away: 503,
  server_busy: 503,
  store_full: 503,
  not_committed: 503,
  listen_failed: 503,
};

const failure = z.object({
  error: z.object({ code: z.string(), message: z.string(), problems: z.array(z.string()).optional() }),
});

export function makeApp(parts: AdminParts): App {
  const app: App = new OpenAPIHono<AdminEnv>();
  app.use("*", async (c, next) => {
    const startMs = performance.now();
    await next();
    c.res.headers.set("Server-Timing", `app;dur=${(performance.now() - startMs).toFixed(1)}`);
    c.res.headers.set("X-Content-Type-Options", "nosniff");
    c.res.headers.set("X-Frame-Options", "DENY");
    if (!c.res.headers.has("Cache-Control")) c.res.headers.set("Cache-Control", "no-store");
  });
  app.use("*", async (c, next) => {
    c.set("identity", findIdentity(c, parts));
    await next();
  });
  const limit = (maxSize: number) =>
    bodyLimit({ maxSize, onError: (c) => c.json(fault("payload_too_large", "body: too large"), 413) });
  const [forKnown, forStrangers] = [limit(BODY_BYTES_MAX), limit(STRANGER_BODY_BYTES_MAX)];
  app.use("*", (c, next) => (c.var.identity ? forKnown : forStrangers)(c, next));
  app.notFound(async (c) => {
    const { identity } = c.var;
    if (!identity) return c.json(STRANGER, 401);
    const mayAsk = mayAct(identity.role, "administrator");
    if (mayAsk && c.req.method !== "GET" && c.req.method !== "HEAD") checkCsrf(c, identity);
    const peer = { address: c.env.peer.address, port: 0, listener: "admin" };
    const answer = mayAsk ? await parts.pluginRoutes(c.req.raw, peer) : undefined;
    return answer ?? c.json(fault("not_found", `there is no ${c.req.method} ${c.req.path}`), 404);
  });
  app.onError((error, c) => answerError(error, c, parts.log));
  app.openAPIRegistry.registerComponent("securitySchemes", "session", { type: "apiKey", in: "cookie", name: COOKIE });
  app.openAPIRegistry.registerComponent("securitySchemes", "key", { type: "http", scheme: "bearer" });
  for (const { method, path, operation, role } of routes) {
    const { about, params, result } = operations[operation];
    const tag = path.split("/")[1];
    addResource(app, parts, {
      method,
      path,
      about,
      tag,
      role,
      params,
      result,
      isNoted: isNoted(operation),
      run: (checked, c) => callWith(parts.control, c, operation, checked),
    });
  }
  return app;
}

/** Asks for an operation by its name; a header of the answer says which workers' part it lacks. */
export async function callWith(control: Control, c: Asked, name: string, params: unknown): Promise<unknown> {
  const missing: number[] = [];
  const call = control as (name: string, params: unknown, onMissing: (node: number) => void) => Promise<unknown>;
  const answer = await call(name, params, (node) => missing.push(node));
  if (missing.length > 0) c.header(MISSING, missing.join(", "));
  return answer;
}

const STRANGER = fault("unauthorized", "sign in, or send an API key");

/** Mounts a resource: identity, role, CSRF, parameters, audit, answer. */
export function addResource(app: App, parts: AdminParts, resource: Resource): void {
  const { method, path, role, params } = resource;
  document(app, resource);
  const template = `${API}${path}`.split("/");
  app.on(method.toUpperCase(), `${API}${path}`.replaceAll(/\{(\w+)\}/g, ":$1"), async (c) => {
    const { identity } = c.var;
    if (role !== undefined && !identity) return c.json(STRANGER, 401);
    const given = await readParams(c, method, template);
    const run = async () => {
      if (role !== undefined && !mayAct(identity!.role, role))
        throw new MantouError("forbidden", `this needs the role ${role}`);
      if (role !== undefined && method !== "get") checkCsrf(c, identity!);
      return resource.run(check(params, given), c);
    };
    const mustNote = method !== "get" && resource.isNoted !== false;
    const action = `${method.toUpperCase()} ${path}`;
    const answer = mustNote ? await audited(c, parts, { action, given }, run) : await run();
    return c.json(answer ?? null);
  });
}

/** Does what changes something, and notes it with its outcome. */
export async function audited<T>(
  c: Asked,
  parts: AdminParts,
  what: { action: string; given: object },
  run: () => Promise<T>,
): Promise<T> {
  try {
    const answer = await run();
    noteAudit(c, parts, { ...what, outcome: 200 });
    return answer;
  } catch (error) {
    noteAudit(c, parts, { ...what, outcome: error instanceof MantouError ? statusOf(error) : 500 });
    throw error;
  }
}

/** Reading is not noted, and neither is publishing, which programs do all the time. */
export function isNoted(operation: string): boolean {
  return !/\.(list|top|read|show|info|of|check|metrics|memory)$|^publish/.test(operation);
}

function document({ openAPIRegistry }: App, { method, path, about, tag, role, params, result }: Resource): void {
  const inPath = new Set([...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name));
  const shape = params instanceof z.ZodObject ? params.shape : {};
  const pick = (isMeant: (name: string) => boolean) =>
    z.object(Object.fromEntries(Object.entries(shape).filter(([name]) => isMeant(name))) as z.ZodRawShape);
  const rest = pick((name) => !inPath.has(name));
  const hasBody = method !== "get" && method !== "delete";
  const json = (schema: z.ZodType) => ({ "application/json": { schema } });
  const fails = { description: "what is wrong", content: json(failure) };
  openAPIRegistry.registerPath({
    method,
    path: `${API}${path}`,
    summary: about,
    tags: [tag],
    operationId: idOf(method, path),
    ...(role === undefined ? { security: [] } : secured(role)),
    request: {
      ...(inPath.size > 0 && { params: pick((name) => inPath.has(name)) }),
      ...(hasBody ? { body: { required: !rest.safeParse({}).success, content: json(rest) } } : { query: rest }),
    },
    responses: { 200: { description: "done", content: json(result) }, "4XX": fails, "5XX": fails },
  });
}

/** Who may ask, as the document has it. */
export function secured(role: Role): { security: Record<string, string[]>[]; description: string } {
  return { security: [{ session: [] }, { key: [] }], description: `Role: ${role}.` };
}

/** What generators of clients name a function by: `get /clients/{clientId}` is getClientsByClientId. */
function idOf(method: string, path: string): string {
  const parts = path.replaceAll("{", "by-").split(/[^A-Za-z]+/);
  return method + parts.map((part) => part.slice(0, 1).toUpperCase() + part.slice(1)).join("");
}

/** Of the path, the query, the body; the path wins. Throws MantouError `params_invalid`. */
async function readParams(c: Asked, method: Method, template: readonly string[]): Promise<Record<string, unknown>> {
  const url = new URL(c.req.url);
  const query = Object.fromEntries(url.searchParams);
  const body = method === "get" || method === "delete" ? {} : await readBody(c);
  return { ...query, ...body, ...readPath(url.pathname, template) };
}

/** By itself, since a name may hold any character, `%2F` for one. */
function readPath(path: string, template: readonly string[]): Record<string, string> {
  const names: Record<string, string> = {};
  for (const [i, part] of path.split("/").entries()) {
    if (!template[i]?.startsWith("{")) continue;
    try {
      names[template[i].slice(1, -1)] = decodeURIComponent(part);
    } catch {
      throw new MantouError(
        "params_invalid",
        `${template[i].slice(1, -1)}: found ${part}, allowed: percent-encoded UTF-8`,
      );
    }
  }
  return names;
}

/** Throws MantouError `params_invalid`. */
export async function readBody(c: Asked): Promise<Record<string, unknown>> {
  const text = await c.req.text();
  if (text === "") return {};
  // A page of another origin may send any other type without asking.
  if (!c.env.peer.isSocket && !/^application\/json\b/i.test(c.req.header("content-type") ?? ""))
    throw new MantouError("params_invalid", "body: allowed: JSON, with Content-Type application/json");
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new MantouError("params_invalid", "body: found no JSON");
  }
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw new MantouError("params_invalid", "body: allowed: a JSON object");
  return body as Record<string, unknown>;
}

function check(params: z.ZodType, given: Record<string, unknown>): unknown {
  const known = params instanceof z.ZodObject ? Object.keys(params.shape) : [];
  const problems = Object.keys(given)
    .filter((name) => !known.includes(name))
    .map((name) => `${name.slice(0, 100)}: unknown, allowed: ${known.join(", ") || "nothing"}`);
  const checked = params.safeParse(given);
  for (const { path, message } of checked.error?.issues ?? []) problems.push(`${path.join(".")}: ${message}`);
  if (problems.length > 0) throw new MantouError("params_invalid", problems.join("\n"), { problems });
  return checked.data;
}

function findIdentity(c: Asked, { accounts }: AdminParts): Identity | undefined {
  const { peer } = c.env;
  if (peer.isSocket) return { name: "admin socket", role: "administrator", way: "socket" };
  const bearer = /^Bearer (\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  if (bearer !== undefined) return accounts.findKey(bearer);
  const token = getCookie(c, COOKIE);
  return token === undefined ? undefined : accounts.findSession(token, isLocal(peer, c.req.raw.headers));
}

function checkCsrf(c: Asked, { way, csrfToken }: Identity): void {
  const given = Buffer.from(c.req.header("x-csrf-token") ?? "");
  if (way === "session" && !isEqualSecret(given, Buffer.from(csrfToken!)))
    throw new MantouError("csrf", "X-CSRF-Token: allowed: the token of this session");
}

const SECRETS = new Set(["password", "oldPassword", "payload", "messages", "text"]);

function noteAudit(
  c: Asked,
  { db, log }: AdminParts,
  { action, given, outcome }: { action: string; given: object; outcome: number },
): void {
  const { identity } = c.var;
  const shown = Object.entries(given).map(([name, value]) => [name, SECRETS.has(name) ? "…" : value]);
  const entry: AuditEntry = {
    atMs: Date.now(),
    who: identity?.name ?? "",
    way: identity?.way ?? SIGN_IN,
    address: c.env.peer.address,
    action,
    target: JSON.stringify(Object.fromEntries(shown)).slice(0, TARGET_LENGTH_MAX),
    outcome,
  };
  try {
    db().addAudit(entry);
  } catch (error) {
    log.error({ err: error, ...entry }, "the audit log cannot be written");
  }
}

function statusOf({ code }: MantouError): ContentfulStatusCode {
  return STATUS[code] ?? 400;
}

function fault(code: string, message: string, problems?: unknown): z.output<typeof failure> {
  return { error: { code, message, ...(Array.isArray(problems) && { problems: problems as string[] }) } };
}

function answerError(error: Error, c: Asked, log: Logger): Response {
  if (error instanceof MantouError) {
    const { code, message, details } = error;
    return c.json(fault(code, message, details["problems"]), statusOf(error));
  }
  if (error instanceof HTTPException) return c.json(fault("params_invalid", error.message), error.status);
  log.error({ err: error, path: c.req.path }, "a bug: a request of the admin interface failed");
  return c.json(fault("bug", "a bug of the broker; its log says more"), 500);
}

/** OpenAPI 3.1, of everything that was mounted. */
export function openApiOf(app: App): Record<string, unknown> {
  const info = { title: "mantou", version: VERSION, description: "The MQTT broker's REST interface." };
  return app.getOpenAPI31Document({ openapi: "3.1.0", info }) as unknown as Record<string, unknown>;
}
