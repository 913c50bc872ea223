// The administrators' port and socket of a real broker: who may do what, and what comes of it.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { socketControl } from "#admin/socket-control.ts";
import { type BrokerProcess, startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";

setDefaultTimeout(60_000);

const folder = mkdtempSync(join(tmpdir(), "mantou-admin-"));
let broker: BrokerProcess;
let admin: string;
let http: string;
const data = join(folder, "data");
const FIRST = { username: "admin", password: "public" };

beforeAll(async () => {
  const listen = ["tcp://127.0.0.1:0", "http://127.0.0.1:0", "admin://127.0.0.1:0"].flatMap((url) => ["--listen", url]);
  // However busy the machine is: readiness is asked for.
  broker = await startBroker([...listen, "--data", data, "--set", "broker.lagMsMax=600000"]);
  admin = broker.addresses.get("admin")!;
  http = broker.addresses.get("http-2")!.replace(/^ws(.*)\/mqtt$/, "http$1");
});

afterAll(async () => {
  await broker.stop();
  rmSync(folder, { recursive: true });
});

interface Answer {
  readonly status: number;
  readonly body: { readonly [name: string]: any }; // oxlint-disable-line typescript/no-explicit-any
  readonly headers: Headers;
}

type Options = { method?: string; body?: unknown; headers?: Record<string, string> };

async function ask(path: string, { method = "GET", body, headers = {} }: Options = {}): Promise<Answer> {
  const text = typeof body === "string" ? body : body === undefined ? undefined : JSON.stringify(body);
  const type: Record<string, string> = text === undefined ? {} : { "Content-Type": "application/json" };
  const response = await fetch(`${admin}${path}`, { method, headers: { ...type, ...headers }, body: text });
  const isJson = response.headers.get("content-type")?.includes("json") ?? false;
  const answer = await response.text();
  return { status: response.status, body: isJson ? JSON.parse(answer) : { text: answer }, headers: response.headers };
}

/** Asks as somebody: with a session's cookie and token, or with a key. */
type Asker = (path: string, options?: Options) => Promise<Answer>;

async function signIn(account: { username: string; password: string } = FIRST): Promise<Asker> {
  const { status, body, headers } = await ask("/api/v1/sign-in", { method: "POST", body: account });
  if (status !== 200) throw new Error(`not signed in: ${status} ${JSON.stringify(body)}`);
  const cookie = headers.get("set-cookie")!.split(";")[0];
  return (path, options = {}) =>
    ask(path, { ...options, headers: { cookie, "x-csrf-token": body["csrfToken"], ...options.headers } });
}

async function keyOf(role: string, wish: object = {}): Promise<Asker> {
  const { body } = await (await signIn())("/api/v1/keys", { method: "POST", body: { name: role, role, ...wish } });
  const headers = { authorization: `Bearer ${body["key"]}` };
  return (path, options = {}) => ask(path, { ...options, headers: { ...headers, ...options.headers } });
}

interface Documented {
  readonly path: string;
  readonly method: string;
}

async function documented(): Promise<Documented[]> {
  const { body } = await (await signIn())("/api/v1/openapi.json");
  return Object.entries(body["paths"] as Record<string, object>).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => ({ path, method: method.toUpperCase() })),
  );
}

describe("a stranger", () => {
  test("reaches status, health and the page to sign in, and nothing else", async () => {
    const resources = await documented();
    expect(resources.length).toBeGreaterThan(40);
    const other = ["/metrics", "/api/v1/openapi.json", "/api/v1/docs", "/api", "/nothing", "/call/broker.info"];
    for (const { path, method } of [
      ...resources,
      ...other.map((path) => ({ path, method: "GET" })),
      { path: "/call/broker.info", method: "POST" },
    ]) {
      const { status, body } = await ask(path.replaceAll(/\{\w+\}/g, "x"), {
        method,
        ...(method === "GET" ? {} : { body: {} }),
      });
      const isSignIn = path === "/api/v1/sign-in";
      expect(`${method} ${path} ${status}`).toBe(`${method} ${path} ${isSignIn ? 400 : 401}`);
      if (!isSignIn) expect(body["error"].code).toBe("unauthorized");
    }
    expect((await ask("/")).headers.get("content-security-policy")).toMatch(/^default-src 'none'; script-src 'self';/);
    expect((await ask("/status")).body["text"]).toBe("Node mantou@127.0.0.1 is started\nemqttd is running");
    expect(await ask("/health/live")).toMatchObject({ status: 200, body: { isLive: true } });
    expect(await ask("/health/ready")).toMatchObject({ status: 200, body: { isReady: true } });
  });

  test("does not come in by a wrong password, a forged cookie or a made-up key", async () => {
    for (const account of [
      { ...FIRST, password: "wrong" },
      { username: "nobody", password: "public" },
    ])
      expect((await ask("/api/v1/sign-in", { method: "POST", body: account })).status).toBe(401);
    for (const headers of [
      { cookie: "mantou_session=AAAA" },
      { authorization: "Bearer mk_0000000000000000.x" },
      { authorization: "Basic YWRtaW46cHVibGlj" },
    ])
      expect((await ask("/api/v1/clients", { headers: headers as Record<string, string> })).status).toBe(401);
  });

  test("gets the first password accepted only from this machine itself", async () => {
    const headers: Record<string, string>[] = [
      { "X-Forwarded-For": "127.0.0.1" },
      { Forwarded: "for=::1" },
      { "X-Real-IP": "::1" },
      { Host: "evil.example" },
    ];
    for (const each of headers) {
      const { status, body } = await ask("/api/v1/sign-in", { method: "POST", body: FIRST, headers: each });
      expect([each, status, body["error"].code]).toEqual([each, 403, "default_password"]);
    }
    const { headers: answered } = await ask("/api/v1/sign-in", { method: "POST", body: FIRST });
    const cookie = answered.get("set-cookie")!;
    expect(cookie).toMatch(/^mantou_session=[\w-]{43}; Max-Age=43200; Path=\/; HttpOnly; SameSite=Strict$/);
    const stolen = { cookie: cookie.split(";")[0], "X-Forwarded-For": "192.0.2.7" };
    expect((await ask("/api/v1/session", { headers: stolen })).status).toBe(401);
  });
});

describe("roles", () => {
  test("each may what it is for, and changes from a page need the session's token", async () => {
    const [viewer, operator, administrator] = [
      await keyOf("viewer"),
      await keyOf("operator"),
      await keyOf("administrator"),
    ];
    const read = "/api/v1/clients";
    const publish = { method: "POST", body: { topic: "roles/x", payload: "1" } };
    const configure = { method: "PATCH", body: { values: { "log.level": "info" } } };
    const codes = async (asker: Asker) => [
      (await asker(read)).status,
      (await asker("/api/v1/publish", publish)).status,
      (await asker("/api/v1/config", configure)).status,
    ];
    expect(await codes(viewer)).toEqual([200, 403, 403]);
    expect(await codes(operator)).toEqual([200, 200, 403]);
    expect(await codes(administrator)).toEqual([200, 200, 200]);
    const session = await signIn();
    expect(await codes(session)).toEqual([200, 200, 200]);
    const forged: Asker = (path, options) => session(path, { ...options, headers: { "x-csrf-token": "other" } });
    expect(await codes(forged)).toEqual([200, 403, 403]);
    const audit = (await session("/api/v1/audit?limit=10")).body["items"] as object[];
    expect(audit).toContainEqual(expect.objectContaining({ who: "admin", action: "PATCH /config", outcome: 403 }));
    const flood = await ask("/api/v1/sign-in", {
      method: "POST",
      body: { username: "admin", password: "x".repeat(20_000) },
    });
    expect([flood.status, flood.body["error"].code]).toEqual([413, "payload_too_large"]);
    const plain = { method: "POST", body: JSON.stringify(publish.body), headers: { "Content-Type": "text/plain" } };
    expect((await session("/api/v1/publish", plain)).status).toBe(400);
  });

  test("a key that is over or taken away opens nothing", async () => {
    const root = await signIn();
    const over = await keyOf("viewer", { expiresAtSec: 1 });
    expect((await over("/api/v1/clients")).status).toBe(401);
    const { body } = await root("/api/v1/keys", { method: "POST", body: { name: "gone" } });
    const gone = { headers: { authorization: `Bearer ${body["key"]}` } };
    expect((await ask("/api/v1/clients", gone)).status).toBe(200);
    expect((await root(`/api/v1/keys/${body["id"]}`, { method: "DELETE" })).status).toBe(200);
    expect((await ask("/api/v1/clients", gone)).status).toBe(401);
    expect((await root(`/api/v1/keys/${body["id"]}`, { method: "DELETE" })).status).toBe(404);
    expect(JSON.stringify((await root("/api/v1/keys")).body)).not.toContain(String(body["key"]).split(".")[1]);
  });

  test("accounts are made, changed and taken away; an administrator is left, and passwords stand nowhere", async () => {
    const root = await signIn();
    const put = (name: string, body: object) =>
      root(`/api/v1/admins/${encodeURIComponent(name)}`, { method: "PUT", body });
    expect((await put("eve", { role: "operator" })).status).toBe(400);
    expect((await put("eve", { password: "short" })).body["error"].code).toBe("password_invalid");
    expect((await put("eve", { password: "correct horse", role: "viewer" })).status).toBe(200);
    const eve = await signIn({ username: "eve", password: "correct horse" });
    expect((await eve("/api/v1/session")).body).toMatchObject({
      username: "eve",
      role: "viewer",
      mustChangePassword: false,
    });
    const change = { method: "PUT", body: { oldPassword: "wrong", password: "battery staple" } };
    expect((await eve("/api/v1/session/password", change)).status).toBe(401);
    expect(
      (await eve("/api/v1/session/password", { ...change, body: { ...change.body, oldPassword: "correct horse" } }))
        .status,
    ).toBe(200);
    expect((await eve("/api/v1/session")).status).toBe(401);
    const again = await signIn({ username: "eve", password: "battery staple" });
    expect((await again("/api/v1/sign-out", { method: "POST" })).status).toBe(200);
    expect((await again("/api/v1/session")).status).toBe(401);
    expect((await put("admin", { role: "viewer" })).body["error"].code).toBe("last_administrator");
    expect((await root("/api/v1/admins/admin", { method: "DELETE" })).status).toBe(409);
    expect((await root("/api/v1/admins/eve", { method: "DELETE" })).status).toBe(200);
    const audit = (await root("/api/v1/audit?limit=1000")).body["items"] as {
      action: string;
      outcome: number;
      who: string;
    }[];
    expect(audit).toContainEqual(
      expect.objectContaining({ who: "eve", action: "PUT /session/password", outcome: 401 }),
    );
    expect(audit).toContainEqual(
      expect.objectContaining({ who: "admin", action: "PUT /admins/{username}", outcome: 200 }),
    );
    expect(JSON.stringify(audit)).not.toMatch(/horse|staple|public/);
  });
});

describe("resources", () => {
  test("a client of any name is found, subscribed and kicked by its address", async () => {
    const operator = await keyOf("operator");
    const clientId = "a/b?%2F é";
    const harness = harnessOf(tcpTarget(broker.addresses.get("tcp")!));
    const client = await harness.connect({ clientId });
    const path = `/api/v1/clients/${encodeURIComponent(clientId)}`;
    expect((await operator(path)).body).toMatchObject({ clientId, version: 5 });
    const subscribed = await operator(`${path}/subscribe`, {
      method: "POST",
      body: { subscriptions: [{ filter: "rest/#", qos: 1 }] },
    });
    expect(subscribed.body["results"]).toEqual([{ filter: "rest/#", reasonCode: 1 }]);
    await operator("/api/v1/publish", {
      method: "POST",
      body: { topic: "rest/x", payload: "hello", qos: 1, isRetain: true },
    });
    await client.expect("publish", { topic: "rest/x", payload: "hello" });
    expect((await operator("/api/v1/clients?clientIdContains=%2F&limit=5")).body["items"]).toHaveLength(1);
    expect((await operator("/api/v1/retained/message?topic=rest/x")).body).toMatchObject({ payload: "hello" });
    expect((await operator("/api/v1/retained/message?topic=rest/none")).status).toBe(404);
    const noBase64 = { topic: "rest/x", payload: "!!", payloadEncoding: "base64" };
    expect((await operator("/api/v1/publish", { method: "POST", body: noBase64 })).status).toBe(400);
    expect((await operator("/api/v1/retained/message?topic=rest/x", { method: "DELETE" })).body).toEqual({ count: 1 });
    expect((await operator(path, { method: "DELETE" })).status).toBe(200);
    await client.expect("disconnect", { reasonCode: 0x98 });
    expect((await operator(path)).status).toBe(404);
    await harness.stop();
  });

  test("users, client ids and bans of the built-in table", async () => {
    const root = await keyOf("administrator");
    const put = (path: string, body: object) => root(path, { method: "PUT", body });
    expect((await put("/api/v1/users/ann%2F1", { password: "x" })).status).toBe(200);
    expect((await root("/api/v1/users/ann%2F1", { method: "PATCH", body: { isSuperuser: true } })).status).toBe(200);
    expect((await root("/api/v1/users")).body).toEqual({ items: [{ username: "ann/1", isSuperuser: true }] });
    expect((await root("/api/v1/users/ann%2F1", { method: "DELETE" })).status).toBe(200);
    expect((await root("/api/v1/users/ann%2F1", { method: "DELETE" })).status).toBe(404);
    expect((await put("/api/v1/client-ids/c1", { ranges: ["10.0.0.0/8"] })).status).toBe(200);
    expect((await put("/api/v1/client-ids/c1", { ranges: ["ten"] })).status).toBe(400);
    expect((await root("/api/v1/client-ids")).body["items"]).toEqual([{ clientId: "c1", ranges: ["10.0.0.0/8"] }]);
    expect((await root("/api/v1/client-ids/c1", { method: "DELETE" })).status).toBe(200);
    const ban = { kind: "address", value: "192.0.2.0/24", reason: "noise" };
    expect((await put("/api/v1/bans", ban)).status).toBe(200);
    expect((await root("/api/v1/bans")).body["items"]).toEqual([ban]);
    expect((await root("/api/v1/bans?kind=address&value=192.0.2.0/24", { method: "DELETE" })).status).toBe(200);
    expect((await put("/api/v1/bans", { ...ban, value: "nowhere" })).status).toBe(400);
    expect((await put("/api/v1/bans", { ...ban, untilSec: 5 })).body["error"].message).toContain("a time to come");
    const rule = await put("/api/v1/rules", { rules: [{ permit: "all" }] });
    expect(rule.body["error"].message).toBe(
      "rules.0: found permit, allowed: allow, deny, user, client, address, topics",
    );
  });

  test("the store is copied beside the running broker, once under a name", async () => {
    const root = await keyOf("administrator");
    const copy = (name: string) => root("/api/v1/store/backup", { method: "POST", body: { name } });
    const { status, body } = await copy("monday.db");
    expect(status).toBe(200);
    const [{ path, bytes }] = body["files"];
    expect([path, bytes]).toEqual([join(data, "backup/monday.db"), statSync(path).size]);
    expect((await copy("monday.db")).status).toBe(409);
    for (const name of ["../x", "", "a/b", ".x"]) expect((await copy(name)).status).toBe(400);
  });

  test("metrics are what Prometheus reads", async () => {
    const { body, headers } = await (await keyOf("viewer"))("/metrics");
    expect(headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
    const text = body["text"] as string;
    const line = /^(#.*|[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (-?[0-9.e+-]+|NaN))?$/;
    expect(text.split("\n").filter((each) => !line.test(each))).toEqual([]);
    for (const name of [
      "mantou_connections",
      'mantou_messages_dropped_total{reason="queue_full"}',
      'mantou_listener_connections{listener="tcp"}',
      'mantou_loop_lag_seconds_bucket{le="+Inf"}',
    ])
      expect(text).toContain(`\n${name} `);
    const families = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
    expect(new Set(families).size).toBe(families.length);
    const page = readFileSync(join(import.meta.dir, "../../docs/metrics.md"), "utf8");
    const endings = [...page.matchAll(/`(?:mantou_PLUGIN|mantou|…)(_\w+)`/g)].map(([, ending]) => ending!);
    expect(families.filter((family) => !endings.some((ending) => family!.endsWith(ending)))).toEqual([]);
  });

  test("the feed tells how the broker fares", async () => {
    const { body } = await (await signIn())("/api/v1/keys", { method: "POST", body: { name: "feed" } });
    const stop = new AbortController();
    const response = await fetch(`${admin}/api/v1/feed`, {
      headers: { authorization: `Bearer ${body["key"]}` },
      signal: stop.signal,
    });
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    let text = "";
    for await (const chunk of response.body!) {
      text += Buffer.from(chunk).toString();
      if ((text.match(/event: overview/g) ?? []).length >= 2) break;
    }
    stop.abort();
    const [, first] = /event: overview\ndata: (.*)\n\n/.exec(text) ?? [];
    expect(JSON.parse(first!)).toMatchObject({ info: { node: "mantou@127.0.0.1" }, stats: { connections: {} } });
  });

  test("whatever a body or a query says, the answer is a useful one", async () => {
    const root = await keyOf("administrator");
    // What would stop the test's own way in.
    const left = /listeners|admins|keys|sign-|session\/password|kick|backup|recon|plugins|client-ids|users|bans/;
    const resources = (await documented()).filter(
      ({ path, method }) => !(left.test(path) && method !== "GET") && path !== "/api/v1/feed", // it does not end
    );
    const name = fc.constantFrom(
      "clientId",
      "topic",
      "filter",
      "limit",
      "cursor",
      "qos",
      "payload",
      "messages",
      "values",
      "subscriptions",
      "filters",
      "kind",
      "text",
    );
    const body = fc.oneof(
      fc.dictionary(name, fc.jsonValue({ maxDepth: 2 })).map((value) => JSON.stringify(value)),
      fc.jsonValue().map((value) => JSON.stringify(value)),
      fc.string(),
    );
    const query = fc
      .dictionary(name, fc.string({ maxLength: 20 }))
      .map((value) => new URLSearchParams(value).toString());
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...resources),
        body,
        query,
        fc.string({ minLength: 1, maxLength: 10 }),
        async ({ path, method }, text, search, part) => {
          const target = path.replaceAll(/\{\w+\}/g, encodeURIComponent(part.isWellFormed() ? part : "x"));
          const { status, body: answer } = await root(`${target}?${search}`, {
            method,
            ...(method === "GET" ? {} : { body: text }),
          });
          expect(status).toBeLessThan(500);
          if (status >= 400) expect(answer["error"]?.message.length).toBeGreaterThan(3);
        },
      ),
      { numRuns: 400 },
    );
    expect((await root("/api/v1/broker")).status).toBe(200);
  });

  test("the document says of each resource what it takes, and the page shows it", async () => {
    const root = await signIn();
    const { body } = await root("/api/v1/openapi.json");
    expect(body["openapi"]).toBe("3.1.0");
    const kick = body["paths"]["/api/v1/clients/{clientId}"].delete;
    expect(kick.parameters).toEqual([expect.objectContaining({ name: "clientId", in: "path", required: true })]);
    expect(kick.operationId).toBe("deleteClientsByClientId");
    const operations = Object.values(body["paths"] as object).flatMap((methods: object) => Object.values(methods));
    expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
    expect(body["paths"]["/api/v1/listeners/reload"].post.requestBody.required).toBe(false);
    expect(body["paths"]["/api/v1/publish"].post.requestBody.required).toBe(true);
    const page = (await root("/api/v1/docs")).body["text"] as string;
    for (const { path } of await documented()) expect(page).toContain(path);
    expect(page).not.toMatch(/<script/i);
  });
});

test("docs/rest.md names each resource with its role", async () => {
  const page = readFileSync(join(import.meta.dir, "../../docs/rest.md"), "utf8");
  const rows = [...page.matchAll(/^\| `([A-Z]+ \/\S+)` +\| (\w*) +\|/gm)].map(
    ([, resource, role]) => `${resource} ${role}`,
  );
  const { body } = await (await signIn())("/api/v1/openapi.json");
  const paths = Object.entries(body["paths"] as Record<string, Record<string, { description?: string }>>);
  const resources = paths.flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { description = "" }]) => {
      const role = /Role: (\w+)/.exec(description)?.[1] ?? "";
      return `${method.toUpperCase()} ${path.replace("/api/v1", "")} ${role}`;
    }),
  );
  expect(rows.toSorted()).toEqual(resources.toSorted());
});

test("two workers are one broker to whoever asks", async () => {
  const dir = join(folder, "workers");
  await using own = await startBroker(["--workers", "2", "--listen", "tcp://127.0.0.1:0", "--data", dir]);
  const control = socketControl(join(dir, "admin.sock"));
  const harness = harnessOf(tcpTarget(own.url));
  const ids = Array.from({ length: 12 }, (_, i) => `w-${i}`);
  const clients = await Promise.all(ids.map((clientId) => harness.connect({ clientId })));
  for (const [i, client] of clients.entries()) await client.subscribe(`w/${i % 6}`, { qos: 1 });
  const listed: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await control("clients.list", { limit: 5, cursor });
    listed.push(...page.items.map(({ clientId }) => clientId));
    cursor = page.cursor;
  } while (cursor !== undefined);
  expect(listed.toSorted()).toEqual(ids.toSorted());
  expect((await control("sessions.list", {})).items).toHaveLength(12);
  expect((await control("subscriptions.list", {})).items).toHaveLength(12);
  const { sessions, subscriptions, topics } = await control("stats.read", {});
  expect([sessions.value, subscriptions.value, topics.value]).toEqual([12, 12, 6]);
  await control("publish", { topic: "w/3", payload: "x", qos: 1, isRetain: true });
  for (const client of [clients[3], clients[9]]) await client.expect("publish", { topic: "w/3", payload: "x" });
  expect((await control("retained.list", { filter: "w/#" })).items).toHaveLength(1);
  expect((await control("broker.info", {})).processes).toHaveLength(2);
  for (const clientId of ids) expect(await control("clients.kick", { clientId })).toEqual({ count: 1 });
  expect((await control("clients.list", {})).items).toEqual([]);
  await harness.stop();
});

describe("the admin socket", () => {
  test("is its owner's alone, who needs no sign-in", async () => {
    const path = join(data, "admin.sock");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(data, "admin.db")).mode & 0o777).toBe(0o600);
    const control = socketControl(path);
    expect((await control("broker.info", {})).node).toBe("mantou@127.0.0.1");
    expect(control("clients.show", { clientId: "nobody" })).rejects.toMatchObject({ code: "not_found" });
    await control("bans.put", { kind: "clientId", value: "x" });
    await control("bans.delete", { kind: "clientId", value: "x" });
    const audit = (await (await keyOf("administrator"))("/api/v1/audit?limit=5")).body["items"] as { action: string }[];
    expect(audit.map(({ action }) => action)).toContain("call bans.put");
    expect(socketControl(`${path}.other`)("broker.info", {})).rejects.toMatchObject({ code: "broker_not_running" });
  });

  test("is gone with its broker, and what a killed one left behind is in nobody's way", async () => {
    const dir = join(folder, "killed");
    const killed = await startBroker(["--data", dir]);
    await killed.kill();
    expect(statSync(join(dir, "admin.sock")).isSocket()).toBe(true);
    const next = await startBroker(["--data", dir]);
    expect((await socketControl(join(dir, "admin.sock"))("health.read", {})).isReady).toBe(true);
    await next.stop();
    expect(() => statSync(join(dir, "admin.sock"))).toThrow();
  });

  test("HTTPS: its cookie goes over HTTPS alone", async () => {
    const pem = (name: string) => join(import.meta.dir, "../unit/transport/pem", name);
    const address = `admin://127.0.0.1:0?cert=${pem("server.pem")}&key=${pem("server.key")}`;
    await using own = await startBroker([
      "--listen",
      "tcp://127.0.0.1:0",
      "--listen",
      address,
      "--data",
      join(folder, "tls"),
    ]);
    const url = own.addresses.get("admin")!;
    expect(url).toStartWith("https://");
    const body = JSON.stringify(FIRST);
    const headers = { "Content-Type": "application/json" };
    const response = await fetch(`${url}/api/v1/sign-in`, {
      method: "POST",
      body,
      headers,
      tls: { rejectUnauthorized: false },
    });
    expect([response.status, response.headers.get("set-cookie")]).toEqual([200, expect.stringContaining("; Secure")]);
  });

  test("a password of the environment is the first account's", async () => {
    const listen = ["--listen", "tcp://127.0.0.1:0", "--listen", "admin://127.0.0.1:0"];
    const env = { MANTOU_ADMIN_PASSWORD: "from the environment" };
    await using own = await startBroker([...listen, "--data", join(folder, "env")], { env });
    const before = admin;
    admin = own.addresses.get("admin")!;
    try {
      expect((await ask("/api/v1/sign-in", { method: "POST", body: FIRST })).status).toBe(401);
      const root = await signIn({ username: "admin", password: "from the environment" });
      expect((await root("/api/v1/session")).body["mustChangePassword"]).toBe(false);
    } finally {
      admin = before;
    }
    expect(own.output()).not.toContain("from the environment");
  });
});

describe("HTTP publish", () => {
  const post = (body: string, headers: Record<string, string> = {}) =>
    fetch(`${http}/mqtt/publish`, {
      method: "POST",
      body,
      headers: { "Content-Type": "application/x-www-form-urlencoded", ...headers },
    });
  const words = async (response: Response) => `${response.status} ${await response.text()}`;

  test("a form or JSON goes to one topic or several, as emqttd did it", async () => {
    const harness = harnessOf(tcpTarget(broker.addresses.get("tcp")!));
    const client = await harness.connect();
    await client.subscribe("h/#", { qos: 2 });
    expect(await words(await post("topic=h/1&message=a%20b&qos=1&client=c9"))).toBe("200 ok");
    await client.expect("publish", { topic: "h/1", payload: "a b", qos: 1 });
    expect(await words(await post("topics=h/2,h/3&topic=h/4&message=x"))).toBe("200 ok");
    for (const topic of ["h/4", "h/2", "h/3"]) await client.expect("publish", { topic, payload: "x", qos: 0 });
    const json = JSON.stringify({ topics: ["h/5"], message: "/w==", encoding: "base64", retain: true });
    expect(await words(await post(json, { "Content-Type": "application/json" }))).toBe("200 ok");
    const { payload } = await client.expect("publish", { topic: "h/5" });
    expect(Buffer.from(payload).toString("hex")).toBe("ff");
    await harness.stop();
  });

  test.each([
    ["topic=a&message=x&qos=3", "400 Bad QoS"],
    ["topic=a&message=x&qos=one", "400 Bad QoS"],
    ["topic=a/%2B&message=x", "400 Bad Topics"],
    ["topics=ok,,no&message=x", "400 Bad Topics"],
    ["message=x", "400 Bad Topics"],
    ["topic=a", "400 Bad Message"],
    ["topic=a&message=a.b&encoding=base64", "400 Bad Message"],
    ["topic=a&message=AAAAA&encoding=base64", "400 Bad Message"],
    ["topic=a&message=x&retain=2", "400 Bad Retain"],
  ])("%s is %s", async (body, answer) => {
    expect(await words(await post(body))).toBe(answer);
  });

  test("whatever a body says, the answer is a short one, and others are served", async () => {
    const name = fc.constantFrom("topic", "topics", "message", "qos", "retain", "client", "encoding");
    const form = fc.dictionary(name, fc.string()).map((fields) => new URLSearchParams(fields).toString());
    const json = fc
      .oneof(fc.dictionary(name, fc.jsonValue({ maxDepth: 1 })), fc.jsonValue())
      .map((value) => JSON.stringify(value));
    const types = { form: "application/x-www-form-urlencoded", json: "application/json" };
    const any = fc.oneof(
      form.map((body) => ({ body, type: types.form })),
      fc.oneof(json, fc.string()).map((body) => ({ body, type: types.json })),
      fc.string().map((body) => ({ body, type: types.form })),
    );
    await fc.assert(
      fc.asyncProperty(any, async ({ body, type }) => {
        const response = await post(body, { "Content-Type": type });
        expect([200, 400]).toContain(response.status);
        expect(await response.text()).toMatch(/^(ok|Bad \w+)$/);
      }),
      { numRuns: 300 },
    );
    const large = await post(`topic=a&message=${"x".repeat(5_000_000)}`);
    expect(await words(large)).toBe("413 Content Too Large");
    const many = `topics=${Array.from({ length: 500 }, (_, i) => `t${i}`).join()}&message=${"x".repeat(900_000)}`;
    expect(await words(await post(many))).toBe("413 Content Too Large");
    const sent = new Map<string, number>();
    for (const path of ["http_published", "http_refused"])
      sent.set(
        path,
        Number(
          new RegExp(`^mantou_${path}_total (\\d+)$`, "m").exec(
            (await (await keyOf("viewer"))("/metrics")).body["text"] as string,
          )![1],
        ),
      );
    expect(sent.get("http_refused")).toBeGreaterThan(1);
    expect(sent.get("http_published")).toBeGreaterThan(4);
  });

  test("status, and what is not there", async () => {
    expect(await (await fetch(`${http}/status`)).text()).toBe("Node mantou@127.0.0.1 is started\nemqttd is running");
    expect((await fetch(`${http}/mqtt/publish`)).status).toBe(405);
    expect((await fetch(`${http}/other`)).status).toBe(404);
    expect((await fetch(`${http}/mqtt`)).status).toBe(426);
    const front = await fetch(http);
    expect([front.status, front.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    expect(front.headers.get("content-security-policy")).toStartWith("default-src 'none'");
    expect(await front.text()).toContain("POST /mqtt/publish");
    expect((await fetch(http, { method: "POST" })).status).toBe(405);
    expect((await fetch(`${http}/api/v1/clients`)).status).toBe(404);
  });

  test("goes through the access chain: who, and to which topics", async () => {
    const acl = join(folder, "acl.yaml");
    writeFileSync(acl, "- { allow: publish, user: ann, topics: [ok/#] }\n- { deny: all }\n");
    const access = {
      authenticate: [{ type: "user-table" }],
      authorize: [{ type: "acl-file", file: acl }],
      noMatch: "deny",
    };
    const listen = ["--listen", "tcp://127.0.0.1:0", "--listen", "http://127.0.0.1:0"];
    const dir = join(folder, "chain");
    await using own = await startBroker([...listen, "--data", dir, "--set", `access=${JSON.stringify(access)}`]);
    await socketControl(join(dir, "admin.sock"))("users.put", { username: "ann", password: "secret" });
    const url = own.addresses.get("http-2")!.replace(/^ws(.*)$/, "http$1/publish");
    const send = async (body: string, login?: string) => {
      const headers: Record<string, string> = login === undefined ? {} : { Authorization: `Basic ${btoa(login)}` };
      return words(await fetch(url, { method: "POST", body: new URLSearchParams(body), headers }));
    };
    expect(await send("topic=ok/1&message=x", "ann:secret")).toBe("200 ok");
    expect(await send("topic=ok/1&message=x", "ann:wrong")).toBe("401 Forbidden");
    expect(await send("topic=ok/1&message=x")).toBe("401 Forbidden");
    expect(await send("topic=no/1&message=x", "ann:secret")).toBe("403 Forbidden");
    await socketControl(join(dir, "admin.sock"))("publish", { topic: "ok/2", payload: "old", isRetain: true });
    expect(await send("topics=ok/2,no/2&message=new&retain=1", "ann:secret")).toBe("403 Forbidden");
    expect(await socketControl(join(dir, "admin.sock"))("retained.read", { topic: "ok/2" })).toMatchObject({
      payload: "old",
    });
  });
});
