import { afterEach, expect, test } from "bun:test";
import { SignJWT } from "jose";
import { readFileSync } from "node:fs";
import type { AuthenticateAnswer, Backend } from "#access/backend.ts";
import { cookie } from "#access/backends/cookie.ts";
import { askAuthenticate, attemptOf, fixture } from "#test/contract/backend-contract.ts";
import { FakeHttpService } from "#test/interop/access/servers/http-service.ts";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

const SECRET = "an example secret of 32 bytes or more";

async function make(options: object): Promise<Backend> {
  const { parts, stop } = fixture("web");
  const backend = cookie.make(cookie.options.parse(options), parts);
  ends.push(async () => {
    await backend.stop!();
    stop();
  });
  await backend.start!();
  return backend;
}

const ask = (backend: Backend, headers: Record<string, string>, username?: string): Promise<AuthenticateAnswer> =>
  askAuthenticate(backend, attemptOf({ identity: { headers }, username }, undefined));

test("the service is sent this one cookie and nothing else of the browser's request", async () => {
  const service = new FakeHttpService();
  ends.push(() => service.stop());
  const http = { url: `${service.origin}/session?of=mqtt`, authorization: "Bearer x" };
  const backend = await make({ cookie: "sid", http });
  const headers = { cookie: "a=1; sid=s-alice; b=2", "user-agent": "browser", host: "broker" };
  expect(await ask(backend, headers)).toMatchObject({ verdict: "allow", grant: { username: "alice" } });
  const [{ method, url, headers: sent, body }] = service.seen;
  expect([method, url.pathname + url.search, body]).toEqual(["GET", "/session?of=mqtt", ""]);
  expect(sent.get("cookie")).toBe("sid=s-alice");
  expect(sent.get("authorization")).toBe("Bearer x");
  expect(sent.get("user-agent")).not.toBe("browser");
});

test("the user is who the cookie says, and leaves when the token ends", async () => {
  const exp = Math.floor(Date.now() / 1000) + 100;
  const token = await new SignJWT({ sub: "alice", exp }).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(SECRET));
  const backend = await make({ cookie: "t", jwt: { algorithms: ["HS256"], secret: SECRET } });
  expect(await ask(backend, { cookie: `t=${token}` }, "root")).toMatchObject({
    verdict: "allow",
    grant: { username: "alice", expiresAtSec: exp },
  });
  expect(backend.mayGrant).toBe(true);
});

test("of two cookies of one name the first counts, and a name's part is no name", async () => {
  const service = new FakeHttpService();
  ends.push(() => service.stop());
  const backend = await make({ cookie: "sid", http: { url: `${service.origin}/session` } });
  const verdict = async (words: string): Promise<string> => (await ask(backend, { cookie: words })).verdict;
  expect(await verdict("sid=s-alice; sid=unknown")).toBe("allow");
  expect(await verdict("sid=unknown; sid=s-alice")).toBe("deny");
  expect(await verdict("xsid=s-alice; SID=s-alice; sid")).toBe("ignore");
  expect(await verdict(`sid=${"x".repeat(20_000)}`)).toBe("deny");
  expect(await verdict('sid=a"b')).toBe("deny");
  expect(await verdict("")).toBe("ignore");
});

test("exactly one way to look the cookie up", () => {
  const { parts, stop } = fixture("web");
  ends.push(stop);
  const jwt = { algorithms: ["HS256"], secret: SECRET };
  const http = { url: "https://app.example/session" };
  for (const ways of [{}, { jwt, http }])
    expect(() => cookie.make(cookie.options.parse({ cookie: "sid", ...ways }), parts)).toThrow(/allowed: one/);
  for (const origins of [["app.example"], ["https://app.example/"], ["*"]])
    expect(() => cookie.options.parse({ cookie: "sid", origins, http })).toThrow(/origins/);
  for (const name of ["a b", "a;b", "a=b"]) expect(() => cookie.options.parse({ cookie: name, http })).toThrow(/name/);
});

test("the page's examples work", async () => {
  const service = new FakeHttpService();
  ends.push(() => service.stop());
  const page = readFileSync("docs/access/cookie.md", "utf8");
  const [token, session] = [...page.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, yaml]) => {
    const example = Bun.YAML.parse(yaml.replace("https://app.example/session", `${service.origin}/session`)) as {
      access: { authenticate: { type?: string }[] };
    };
    const { type: _, ...options } = example.access.authenticate[0];
    return options;
  });
  const origin = "https://app.example";
  const signed = await new SignJWT({ sub: "alice" }).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(SECRET));
  expect((await ask(await make(token), { cookie: `token=${signed}` })).verdict).toBe("allow");
  expect((await ask(await make(session), { cookie: "sid=s-alice", origin })).verdict).toBe("allow");
});
