/** What is no resource: health and status, metrics, the live feed, the API's own document, and calls by the admin socket. */
import { z } from "zod";
import { MantouError } from "#base/error.ts";
import { operations } from "#broker/control.ts";
import { statusText } from "#broker/http-publish.ts";
import { apiPage } from "./api-page.ts";
import type { Feed } from "./feed.ts";
import { mayAct, type Role } from "./identity.ts";
import { scrape } from "./metrics-text.ts";
import {
  type AdminParts,
  API,
  type App,
  type Asked,
  audited,
  callWith,
  isNoted,
  openApiOf,
  readBody,
  secured,
} from "./rest.ts";

const FEED = `${API}/feed`;
/** Below which each operation of the broker can be called by its name, by the admin socket alone. */
export const CALLS = "/call";

export function addPages(app: App, parts: AdminParts, feed: Feed): void {
  const { control, metrics } = parts;
  app.get("/status", async (c) => {
    const { node } = await control("broker.info", {});
    return c.text(statusText(node));
  });
  app.get("/health/live", (c) => c.json({ isLive: true }));
  app.get("/health/ready", async (c) => {
    const { isReady, problems } = await control("health.read", {});
    return c.json({ isReady, ...(c.var.identity && { problems }) }, isReady ? 200 : 503);
  });
  app.get("/metrics", async (c) => {
    if (metrics !== "anybody") demand(c, "viewer");
    const { text, contentType } = await scrape(control);
    return c.body(text, 200, { "Content-Type": contentType });
  });
  addFeed(app, feed);
  let document: Record<string, unknown> | undefined;
  app.get(`${API}/openapi.json`, (c) => {
    demand(c, "viewer");
    return c.json((document ??= openApiOf(app)));
  });
  app.get(`${API}/docs`, (c) => {
    demand(c, "viewer");
    const headers = { "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'" };
    return c.html(apiPage((document ??= openApiOf(app))), 200, headers);
  });
  app.post(`${CALLS}/:name`, async (c) => {
    const { name } = c.req.param();
    if (!c.env.peer.isSocket || !Object.hasOwn(operations, name)) return c.notFound();
    c.env.peer.keepOpen(); // some take their time
    const given = await readBody(c);
    const call = () => callWith(control, c, name, given);
    const answer = isNoted(name) ? await audited(c, parts, { action: `call ${name}`, given }, call) : await call();
    return c.json(answer ?? null);
  });
}

function demand(c: Asked, role: Role): void {
  const { identity } = c.var;
  if (!identity) throw new MantouError("unauthorized", "sign in, or send an API key");
  if (!mayAct(identity.role, role)) throw new MantouError("forbidden", `this needs the role ${role}`);
}

function addFeed(app: App, feed: Feed): void {
  app.get(FEED, (c) => {
    const { trace, since } = c.req.query();
    demand(c, trace === undefined ? "viewer" : "operator");
    if (since !== undefined && !/^\d{1,15}$/.test(since))
      throw new MantouError("params_invalid", "since: allowed: milliseconds since 1970");
    c.env.peer.keepOpen();
    const stream = feed.open({ trace, sinceMs: since === undefined ? undefined : Number(since) });
    return c.body(stream, 200, { "Content-Type": "text/event-stream" });
  });
  app.openAPIRegistry.registerPath({
    method: "get",
    path: FEED,
    summary: "server-sent events: figures each second, alarms, and what a trace follows",
    tags: ["feed"],
    operationId: "getFeed",
    ...secured("viewer"),
    request: {
      query: z.object({
        trace: z.string().optional().meta({ description: "name of a trace, whose events come too; role operator" }),
        since: z.coerce.number().int().min(0).optional().meta({
          description: "milliseconds since 1970: first comes what is kept from then on, five minutes at most",
        }),
      }),
    },
    responses: {
      200: {
        description: "events `overview`, `history`, `alarm`, `trace`",
        content: { "text/event-stream": { schema: z.string() } },
      },
    },
  });
}
