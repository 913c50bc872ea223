import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Action, AuthenticateAnswer, AuthorizeAnswer, Backend, BackendParts } from "#access/backend.ts";
import { http } from "#access/backends/http.ts";
import { askAuthenticate, askAuthorize, attemptOf, fixture, knownClient } from "#test/contract/backend-contract.ts";
import { FakeHttpService, isSignatureRight, SIGNING_SECRET } from "#test/interop/access/servers/http-service.ts";
import { subscriptionsFor } from "#access/subscription-list.ts";
import { pem } from "#test/unit/transport/listening.ts";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

interface Made {
  readonly backend: Backend;
  readonly service: FakeHttpService;
  login(client?: object, password?: string): Promise<AuthenticateAnswer>;
  may(action: Action, topic: string): Promise<AuthorizeAnswer>;
}

/** `options` with `origin` where the service is. */
async function make(
  options: (origin: string) => object,
  tls?: Bun.TLSOptions,
  partsOptions: Partial<BackendParts> = {},
): Promise<Made> {
  const service = new FakeHttpService(tls);
  const { parts, stop } = fixture("web", partsOptions);
  const backend = http.make(http.options.parse(options(service.origin)), parts);
  ends.push(async () => {
    await backend.stop!();
    await service.stop();
    stop();
  });
  await backend.start!();
  return {
    backend,
    service,
    login: (client = { username: "alice" }, password = "wonder") =>
      askAuthenticate(backend, attemptOf(client, password)),
    may: (action, topic) => askAuthorize(backend, { client: knownClient, action, topic }),
  };
}

const json = (value: unknown, status = 200): Response =>
  Response.json(value, { status, headers: { "content-type": "application/json" } });

describe("requests", () => {
  test("each has emqttd's parameters, and leaves out what the client has not", async () => {
    const { backend, service, login, may } = await make((origin) => ({
      auth: { url: `${origin}/auth` },
      super: { url: `${origin}/super` },
      acl: { url: `${origin}/acl` },
    }));
    await login();
    await new Promise<void>((resolve) => backend.isSuperuser!(knownClient, () => resolve()));
    await may("subscribe", "a/#");
    await may("publish", "a&topic=open/x");
    expect(service.seen.map(({ method, fields }): Record<string, string> => ({ method, ...fields }))).toEqual([
      { method: "POST", clientid: "c1", username: "alice", password: "wonder" },
      { method: "POST", clientid: "c1" },
      { method: "POST", access: "1", clientid: "c1", ipaddr: "127.0.0.1", topic: "a/#" },
      { method: "POST", access: "2", clientid: "c1", ipaddr: "127.0.0.1", topic: "a&topic=open/x" },
    ]);
  });

  test("a name in a URL is one segment, whatever it is made of", async () => {
    const { service, login } = await make((origin) => ({
      auth: { url: `${origin}/users/%u/login?from=%c`, params: {}, method: "get" },
    }));
    service.answer = () => new Response("ok");
    for (const username of ["a/../b", "a?x=1", "a#b", "a%2fb", "a b", "ü", "a\r\nX: 1"]) {
      service.seen.length = 0;
      expect((await login({ username, clientId: "c&d" })).verdict).toBe("allow");
      const [{ url, headers }] = service.seen;
      expect(url.pathname).toBe(`/users/${encodeURIComponent(username)}/login`);
      expect(url.search).toBe("?from=c%26d");
      expect(headers.get("x")).toBeNull();
    }
    service.seen.length = 0;
    for (const username of [".", "..", "a\u0000", "\ud800"]) expect((await login({ username })).verdict).toBe("deny");
    // `/users//login` is somebody else's.
    for (const username of ["", undefined]) expect((await login({ username })).verdict).toBe("ignore");
    expect(service.seen).toEqual([]);
  });

  test("a name in a header is no second header", async () => {
    const { service, login } = await make((origin) => ({
      auth: { url: `${origin}/auth`, headers: { "X-User": "u %u", "x-realm": "r" } },
      authorization: "Bearer token",
    }));
    expect((await login()).verdict).toBe("allow");
    const { headers } = service.seen[0];
    expect([headers.get("x-user"), headers.get("x-realm"), headers.get("authorization")]).toEqual([
      "u alice",
      "r",
      "Bearer token",
    ]);
    expect((await login({ username: "a\r\nauthorization: b" })).verdict).toBe("deny");
    expect(service.seen).toHaveLength(1);
  });

  test("a password that is no text, or none, is not asked about", async () => {
    const { backend, service } = await make((origin) => ({ auth: { url: `${origin}/auth` } }));
    const ask = async (password: Buffer | undefined, username: string | undefined): Promise<string> =>
      (await askAuthenticate(backend, attemptOf({ username }, undefined, { password }))).verdict;
    expect(await ask(Buffer.from([0xc3, 0x28]), "alice")).toBe("deny");
    expect(await ask(Buffer.alloc(0), "alice")).toBe("deny");
    expect(await ask(undefined, "alice")).toBe("deny");
    expect(await ask(undefined, undefined)).toBe("ignore");
    expect(service.seen).toEqual([]);
  });

  test("the signature is over time, method, path with query, and body", async () => {
    for (const how of [{ method: "get" }, { method: "post" }, { method: "post", body: "json" }]) {
      const { service, login } = await make((origin) => ({
        auth: { url: `${origin}/auth?realm=a%20b`, ...how },
        signature: { secret: SIGNING_SECRET },
      }));
      expect((await login({ username: "alice", clientId: "ü & +" })).verdict).toBe("allow");
      expect(isSignatureRight(service.seen[0])).toBe(true);
      expect(isSignatureRight({ ...service.seen[0], method: "PUT" })).toBe(false);
    }
  });

  test("connections are kept", async () => {
    const ports = new Set<number>();
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch(request, self) {
        ports.add(self.requestIP(request)!.port);
        return new Response("ok");
      },
    });
    ends.push(() => server.stop(true));
    const { login } = await make(() => ({ auth: { url: `${server.url.origin}/auth` } }));
    for (let round = 0; round < 30; round++) expect((await login()).verdict).toBe("allow");
    expect(ports.size).toBeLessThan(5);
  });
});

describe("replies", () => {
  const cases: [string, () => Response, AuthenticateAnswer["verdict"], AuthorizeAnswer][] = [
    ["200", () => new Response("ok"), "allow", "allow"],
    ["204", () => new Response(null, { status: 204 }), "allow", "allow"],
    ["200 ignore", () => new Response("ignore\n"), "ignore", "ignore"],
    ["201", () => new Response("", { status: 201 }), "unavailable", "unavailable"],
    ["302", () => new Response("", { status: 302, headers: { location: "/auth2" } }), "unavailable", "unavailable"],
    ["400", () => new Response("", { status: 400 }), "deny", "deny"],
    ["401", () => new Response("", { status: 401 }), "deny", "deny"],
    ["404", () => new Response("", { status: 404 }), "deny", "deny"],
    ["429", () => new Response("", { status: 429 }), "unavailable", "unavailable"],
    ["500", () => new Response("", { status: 500 }), "unavailable", "unavailable"],
    ["JSON allow", () => json({ result: "allow" }), "allow", "allow"],
    ["JSON without a result", () => json({}), "allow", "allow"],
    ["JSON deny", () => json({ result: "deny", is_superuser: true }), "deny", "deny"],
    ["JSON ignore", () => json({ result: "ignore" }), "ignore", "ignore"],
    ["JSON deny at 401", () => json({ result: "allow" }, 401), "deny", "deny"],
    ["JSON with a misspelt result", () => json({ result: "denied" }), "unavailable", "unavailable"],
    ["JSON with rules that are none", () => json({ acl: { pub: "a" } }), "unavailable", "unavailable"],
    ["JSON that is a list", () => json([]), "unavailable", "unavailable"],
    [
      "JSON that is none",
      () => new Response("{", { headers: { "content-type": "application/json" } }),
      "unavailable",
      "unavailable",
    ],
    ["a long reply", () => new Response("x".repeat(70_000)), "unavailable", "unavailable"],
  ];
  test.each(cases)("%s", async (_, reply, expectedLogin, expectedTopic) => {
    const { service, login, may } = await make((origin) => ({
      auth: { url: `${origin}/auth` },
      acl: { url: `${origin}/acl` },
    }));
    service.answer = reply;
    expect((await login()).verdict).toBe(expectedLogin);
    expect(await may("publish", "a")).toBe(expectedTopic);
    expect(service.seen).toHaveLength(2);
  });

  test("JSON names the client, its rules, its end, and says who is a super user", async () => {
    let nowSec = 1000;
    const { service, backend, login } = await make(
      (origin) => ({
        auth: { url: `${origin}/auth` },
        super: { url: `${origin}/super` },
        guard: { cacheSec: 100 },
      }),
      undefined,
      { nowSec: () => nowSec },
    );
    service.answer = () => json({ username: "bob", is_superuser: false, expire_at: 1500.5, acl: { pub: ["a"] } });
    const answer = await login();
    expect(answer).toMatchObject({
      verdict: "allow",
      grant: { username: "bob", isSuperuser: false, expiresAtSec: 1500 },
    });
    expect(answer.verdict === "allow" && answer.grant!.rules).toHaveLength(2);
    expect(await new Promise((resolve) => backend.isSuperuser!(knownClient, resolve))).toBe(false);
    // The answer is kept, and does not outlive its end.
    expect((await login()).verdict).toBe("allow");
    nowSec = 1500;
    expect((await login()).verdict).toBe("deny");
    expect(service.seen).toHaveLength(2);
    // It was this password's, nobody else's.
    await login({ username: "alice" }, "other");
    expect(service.seen).toHaveLength(3);
  });
});

test("https: the service's certificate must be signed by whom it should be", async () => {
  const tls = { cert: readFileSync(pem("server.pem")), key: readFileSync(pem("server.key")) };
  const verdictOf = async (options: object): Promise<string> =>
    (await (await make((origin) => ({ auth: { url: `${origin}/auth` }, ...options }), tls)).login()).verdict;
  expect(await verdictOf({ caFile: pem("ca.pem") })).toBe("allow");
  expect(await verdictOf({})).toBe("unavailable");
});

test("neither the password nor the secrets stand in health or log", async () => {
  const lines: unknown[] = [];
  const log = {
    info: (...words: unknown[]) => void lines.push(words),
    warn: (...words: unknown[]) => void lines.push(words),
  };
  const { backend, service, login } = await make(
    (origin) => ({
      auth: { url: `${origin}/auth`, method: "get" },
      authorization: "Bearer hidden-1",
      signature: { secret: "hidden-2" },
    }),
    undefined,
    { log },
  );
  service.answer = () => new Response("", { status: 503 });
  await login({ username: "alice" }, "hidden-3");
  await service.stop();
  for (let round = 0; round < 10; round++) await login({ username: "alice" }, "hidden-3");
  const { state, detail } = backend.health!();
  expect(state).toBe("down");
  expect(detail).not.toBe("");
  expect(JSON.stringify([lines, backend.health!()])).not.toContain("hidden");
});

test("options that make no sense stop the start, and say why", async () => {
  const { parts, stop } = fixture("web");
  ends.push(stop);
  const fault = (options: object): unknown => {
    try {
      http.make(http.options.parse(options), parts);
      return "none";
    } catch (error) {
      return (error as Error).message;
    }
  };
  expect(fault({})).toContain("found no request");
  for (const url of [
    "https://%u.example/",
    "https://a.example%u/",
    "ftp://a.example/",
    "https://u:p@a.example/",
    "%u",
    "https://a.example/#%u",
  ])
    expect(fault({ auth: { url } })).toContain("url: found something else");
  expect(fault({ acl: { url: "https://a.example", params: { p: "%P" } } })).toContain("found %P");
  expect(fault({ auth: { url: "https://a.example/%u" }, certFile: "x" })).toContain("both");
  expect(fault({ auth: { url: "https://a.example", headers: { host: "b" } } })).toContain("names of headers");
  expect(fault({ auth: { url: "https://a.example", params: { a: "${nobody}" } } })).toContain("variables");
  expect(fault({ auth: { url: "http://a.example" } })).toBe("none");
});

test("the page's example works", async () => {
  const [, yaml] = /```yaml\n([\s\S]*?)```/.exec(readFileSync("docs/access/http.md", "utf8"))!;
  process.env["MANTOU_HTTP_SECRET"] = SIGNING_SECRET;
  ends.push(() => void delete process.env["MANTOU_HTTP_SECRET"]);
  const { service, login, may } = await make((origin) => {
    const page = Bun.YAML.parse(yaml.replaceAll("https://app.example/mqtt", origin)) as {
      access: { authenticate: { type?: string; name?: string }[] };
    };
    const { type: _, name: __, ...options } = page.access.authenticate[0];
    return options;
  });
  expect((await login()).verdict).toBe("allow");
  expect((await login({ username: "alice" }, "wrong")).verdict).toBe("deny");
  expect(await may("publish", "open/a")).toBe("allow");
  expect(await may("publish", "shut/a")).toBe("deny");
  expect(service.seen.every((seen) => isSignatureRight(seen))).toBe(true);
});

test("one client that provokes faults shuts nobody else out", async () => {
  const { backend, service, login } = await make((origin) => ({ auth: { url: `${origin}/auth` } }));
  service.answer = ({ fields }) => new Response("ok", { status: fields["username"] === "odd" ? 500 : 200 });
  for (let round = 0; round < 20; round++) {
    expect((await login({ username: "odd", clientId: `c${round}` })).verdict).toBe("unavailable");
    expect((await login({ username: "alice", address: "127.0.0.1" })).verdict).toBe("allow");
  }
  for (let round = 0; round < 50; round++) await login({ username: "odd", clientId: `d${round}` });
  expect(backend.health!()).toMatchObject({ state: "degraded", counts: { failed: 70, opened: 0 } });
  expect((await login()).verdict).toBe("allow");
});

test("a reply may list what the client is subscribed to, and one that is not understood lets nobody in", async () => {
  const { service, login } = await make((origin) => ({ auth: { url: `${origin}/auth` } }));
  service.answer = () => json({ username: "bob", subscribe: { "home/%u/#": 1, news: 0 } });
  const answer = await login({ username: "alice" });
  const list = answer.verdict === "allow" ? (answer.grant?.subscriptions ?? []) : [];
  const named = { ...knownClient, username: "bob" };
  expect(subscriptionsFor(list, named).map(({ filter, qos }) => `${filter.toString()} ${qos}`)).toEqual([
    "home/bob/# 1",
    "news 0",
  ]);
  for (const subscribe of ["home", { "a/#/b": 0 }, { a: 7 }, [{ qos: 1 }]]) {
    service.answer = () => json({ subscribe });
    expect((await login({ username: `u${JSON.stringify(subscribe)}` })).verdict).toBe("unavailable");
  }
});
