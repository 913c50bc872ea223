/** What is no resource: health and status, metrics, the live feed, the API's own document, and calls by the admin socket. */
import { MantouError } from "#base/error.ts";
import { operations } from "#broker/control.ts";
import { statusText } from "#broker/http-publish.ts";
import { apiPage } from "./api-page.ts";
import type { Feed } from "./feed.ts";
import { mayAct, type Role } from "./identity.ts";
import { scrape } from "./metrics-text.ts";
import { type AdminParts, API, type App, type Asked, audited, callWith, isNoted, openApiOf, readBody } from "./rest.ts";

/** Below which each operation of the broker can be called by its name, by the admin socket alone. */
export const CALLS = "/call";

export function addPages(app: App, parts: AdminParts, feed: Feed): void {
  const { control, metrics } = parts;
  const demand = (c: Asked, role: Role): void => {
    const { identity } = c.var;
    if (!identity) throw new MantouError("unauthorized", "sign in, or send an API key");
    if (!mayAct(identity.role, role)) throw new MantouError("forbidden", `this needs the role ${role}`);
  };
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
  app.get(`${API}/feed`, (c) => {
    const trace = c.req.query("trace");
    demand(c, trace === undefined ? "viewer" : "operator");
    c.env.peer.keepOpen();
    return c.body(feed.open(trace), 200, { "Content-Type": "text/event-stream" });
  });
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
