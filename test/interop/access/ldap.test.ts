/** OpenLDAP as it is: contract, hostile words, TLS, groups, the page's examples, and servers that come and go under load. */
import { afterAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { AuthenticateAnswer, Backend, BackendParts } from "#access/backend.ts";
import { decideByRules } from "#access/acl-rule.ts";
import { ldap } from "#access/backends/ldap.ts";
import {
  askAuthenticate,
  attemptOf,
  backendContract,
  fixture,
  hostileWords,
  type KnownClient,
  knownClient,
} from "#test/contract/backend-contract.ts";
import { rounds } from "#test/support/level.ts";
import { DatabaseServer } from "./servers/database-server.ts";
import { BROKER_DN, LDAP_PASSWORD, ldifOf, slapd } from "./servers/ldap-servers.ts";
import { soak } from "./soak.ts";
import { expectUndisturbed } from "./undisturbed.ts";

const SOAK_CLIENTS = 64;
const USER_DN = "uid=%u,ou=people,dc=example,dc=org";
const SEARCH = { base: "ou=people,dc=example,dc=org", filter: "(&(objectClass=person)(uid=%u))" };
const BROKER = { bindDn: BROKER_DN, bindPassword: LDAP_PASSWORD };
const GROUPS = {
  base: "ou=groups,dc=example,dc=org",
  superusers: ["admins"],
  rules: [
    { group: "homes", allow: "all", topics: ["home/%u/#", "open/%u/#"] },
    { deny: "all", topics: ["home/#"] },
  ],
};

/** What a directory that is asked by name and one that is searched have in common; `known` differs. */
const clientsOf = (unknown: "deny" | "ignore"): readonly KnownClient[] => [
  { client: { username: "alice" }, password: "wonder", expected: "allow" },
  { client: { username: "alice" }, password: "Wonder", expected: "deny" },
  { client: { username: "alice" }, password: undefined, expected: "deny" },
  { client: { username: "root" }, password: "toor", expected: "allow" },
  { client: { username: "a+b,c=d" }, password: "odd", expected: "allow" },
  { client: { username: "*)(uid=*" }, password: "star", expected: "allow" },
  { client: { username: "*" }, password: "wonder", expected: unknown },
  { client: { username: "alice)(cn=*" }, password: "wonder", expected: unknown },
  { client: { username: "alice,ou=people" }, password: "wonder", expected: unknown },
  { client: { username: "ALICE" }, password: "wonder", expected: unknown },
  { client: { username: "alice " }, password: "wonder", expected: unknown },
  { client: { username: " alice" }, password: "wonder", expected: unknown },
  { client: { username: "nobody" }, password: "wonder", expected: unknown },
  { client: { username: "EXTERNAL" }, password: "wonder", expected: unknown },
  { client: { username: "bare" }, password: "x", expected: "deny" },
  { client: { username: "alice\u0000" }, password: "wonder", expected: "deny" },
  { client: { username: "alice" }, password: "wonder\u0000", expected: "deny" },
  { client: { username: "" }, password: "wonder", expected: "ignore" },
  { client: { username: undefined }, password: "wonder", expected: "ignore" },
];

const ends: (() => Promise<void> | void)[] = [];
afterAll(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function opened(scheme: "ldap" | "ldaps"): Promise<DatabaseServer | undefined> {
  const server = await DatabaseServer.open(slapd(scheme, ldifOf(SOAK_CLIENTS)));
  if (server) ends.push(() => server[Symbol.asyncDispose]());
  return server;
}

function make(options: object, partsOptions: Partial<BackendParts> = {}): Backend {
  const { parts, stop } = fixture("ldap", partsOptions);
  const backend = ldap.make(ldap.options.parse(options), parts);
  ends.push(async () => {
    await backend.stop?.();
    stop();
  });
  return backend;
}

async function started(options: object, partsOptions: Partial<BackendParts> = {}): Promise<Backend> {
  const backend = make(options, partsOptions);
  await backend.start!();
  return backend;
}

const answerTo = (backend: Backend, username: string, password: string): Promise<AuthenticateAnswer> =>
  askAuthenticate(backend, attemptOf({ username }, password));
const verdict = async (backend: Backend, username: string, password: string): Promise<string> =>
  (await answerTo(backend, username, password)).verdict;

const server = await opened("ldap");
const tlsServer = server && (await opened("ldaps"));

if (server && tlsServer) {
  const servers = [`ldap://127.0.0.1:${server.port}`];
  const patient = { deadlineMs: 20_000, openMs: 50 };

  backendContract("ldap, by name", () => ({
    backend: make({ servers, userDn: USER_DN, guard: patient }),
    clients: clientsOf("deny"),
    cut: () => server.kill(),
    mend: () => server.start(),
  }));

  backendContract("ldap, searched", () => ({
    backend: make({ servers, ...BROKER, search: SEARCH, groups: GROUPS, guard: patient }),
    clients: clientsOf("ignore"),
    cut: () => server.kill(),
    mend: () => server.start(),
  }));

  describe("ldap", () => {
    test("all hostile words are answered, and the directory is none the worse", async () => {
      for (const how of [{ userDn: USER_DN }, { ...BROKER, search: SEARCH }, { userDn: "%u", match: {} }]) {
        const backend = await started({ servers, ...how });
        for (const word of [...hostileWords, "PLAIN", "SCRAM-SHA-1", "\u0000", "\ud800", "\\", "\\2a", "=", ",", "%d"])
          expect(["deny", "ignore"]).toContain(await verdict(backend, word, "x"));
        expect(backend.health!().state).toBe("up");
      }
    });

    test("a group makes a super user, or gives rules, in their order", async () => {
      for (const how of [
        { userDn: USER_DN, ...BROKER },
        { search: SEARCH, ...BROKER },
      ]) {
        const backend = await started({ servers, ...how, groups: GROUPS });
        expect(await answerTo(backend, "root", "toor")).toMatchObject({ grant: { isSuperuser: true } });
        const answer = await answerTo(backend, "alice", "wonder");
        if (answer.verdict !== "allow") throw new Error("alice is not let in");
        expect(answer.grant!.isSuperuser).toBe(false);
        const client = { ...knownClient, username: "alice" };
        const ask = (topic: string): string =>
          decideByRules(answer.grant!.rules!, { client, action: "publish", topic });
        expect([ask("home/alice/a"), ask("home/bob/a"), ask("x")]).toEqual(["allow", "deny", "ignore"]);
      }
    });

    test("groups may hold user names in place of entries", async () => {
      const groups = { base: GROUPS.base, filter: "(memberUid=%u)", superusers: ["posix"] };
      const backend = await started({ servers, ...BROKER, search: SEARCH, groups });
      expect(await answerTo(backend, "alice", "wonder")).toMatchObject({ grant: { isSuperuser: true } });
      expect(await answerTo(backend, "root", "toor")).toMatchObject({ grant: { isSuperuser: false } });
    });

    test("two entries for one client let neither in", async () => {
      const search = { ...SEARCH, base: "dc=example,dc=org" };
      const backend = await started({ servers, ...BROKER, search });
      expect(await verdict(backend, "twin", "one")).toBe("unavailable");
      expect(await verdict(backend, "alice", "wonder")).toBe("allow");
    });

    test("a connection on which nothing is answered is given up", async () => {
      const backend = await started({ servers, userDn: USER_DN, guard: { deadlineMs: 500, openMs: 50 } });
      await until(
        () => backend.health!().counts["answered"] > 1,
        () => verdict(backend, "alice", "wonder"),
      );
      const { closed } = backend.health!().counts;
      server.freeze();
      try {
        expect(await verdict(backend, "alice", "wonder")).toBe("unavailable");
        await until(
          () => backend.health!().counts["closed"] > closed,
          async () => {},
        );
      } finally {
        server.thaw();
      }
      await until(
        () => backend.health!().state === "up",
        () => verdict(backend, "alice", "wonder"),
      );
    }, 60_000);

    test("a wrong password of the broker is told in the log, and lets nobody in", async () => {
      const { promise, resolve } = Promise.withResolvers<unknown>();
      const log = { info: () => {}, warn: (_: string, fields?: Record<string, unknown>) => resolve(fields) };
      const backend = await started(
        { servers, bindDn: BROKER_DN, bindPassword: "another secret", search: SEARCH },
        { log },
      );
      const told = JSON.stringify(await promise);
      expect(told).toContain("cn=broker");
      expect(told).not.toContain("another secret");
      expect(await verdict(backend, "alice", "wonder")).toBe("unavailable");
    });

    test("when one server is away the next one is asked", async () => {
      const backend = await started({ servers: ["ldap://127.0.0.1:1", ...servers], userDn: USER_DN });
      const deadlineMs = performance.now() + 20_000;
      while ((await verdict(backend, "alice", "wonder")) !== "allow")
        if (performance.now() > deadlineMs) throw new Error("the second one is never asked");
      for (let round = 0; round < 20; round++) expect(await verdict(backend, "alice", "wonder")).toBe("allow");
    });

    for (const scheme of ["ldaps", "StartTLS"] as const)
      test(`${scheme} needs a certificate that is signed by whom it should be, for the host that it should be`, async () => {
        const { port, folder } = scheme === "ldaps" ? tlsServer : server;
        const startTls = scheme === "StartTLS";
        const caFile = join(folder, "cert.pem");
        const over = async (options: object, host = "127.0.0.1"): Promise<string> => {
          const url = `${startTls ? "ldap" : "ldaps"}://${host}:${port}`;
          const guard = { deadlineMs: 2000 };
          const backend = await started({ servers: [url], userDn: USER_DN, startTls, guard, ...options });
          return verdict(backend, "alice", "wonder");
        };
        expect(await over({ caFile })).toBe("allow");
        expect(await over({})).toBe("unavailable");
        expect(await over({ caFile }, "localhost")).toBe("unavailable");
      });

    test("after StartTLS nothing is sent without it, also when the server was away", async () => {
      const options = { servers, userDn: USER_DN, startTls: true, caFile: join(server.folder, "cert.pem") };
      const backend = await started({ ...options, guard: { deadlineMs: 1000, openMs: 50 } });
      expect(await verdict(backend, "alice", "wonder")).toBe("allow");
      await server.kill();
      // In its place one that writes down what it is sent.
      let heard = "";
      const port = server.port;
      const spy = Bun.listen({
        hostname: "127.0.0.1",
        port,
        socket: { data: (_, bytes) => void (heard += bytes.toString("latin1")) },
      });
      expect(await verdict(backend, "alice", "wonder")).toBe("unavailable");
      await until(
        () => heard !== "" || backend.health!().counts["connected"] > 2,
        () => verdict(backend, "alice", "wonder"),
      );
      spy.stop(true);
      expect(heard).toContain("1.3.6.1.4.1.1466.20037");
      expect(heard).not.toContain("wonder");
      await server.start();
      await until(
        () => backend.health!().state === "up",
        () => verdict(backend, "alice", "wonder"),
      );
      expect(await verdict(backend, "alice", "wonder")).toBe("allow");
    }, 60_000);

    test("the page's examples work", async () => {
      const pages = [...readFileSync("docs/access/ldap.md", "utf8").matchAll(/```yaml\n([\s\S]*?)```/g)].map(
        ([, text]) => text,
      );
      expect(pages).toHaveLength(2);
      for (const text of pages) {
        const page = Bun.YAML.parse(text) as {
          access: { authenticate: ({ type: string } & Record<string, unknown>)[] };
        };
        const { type, servers: _, startTls: __, caFile: ___, ...options } = page.access.authenticate[0];
        expect(type).toBe("ldap");
        if ("bindPassword" in options) options["bindPassword"] = LDAP_PASSWORD;
        const backend = await started({ servers, ...options });
        expect(await verdict(backend, "alice", "wonder")).toBe("allow");
        expect(await verdict(backend, "alice", "wrong")).toBe("deny");
      }
    });

    test("while the directory hangs, clients that are in are not disturbed, and those who come wait for it", async () => {
      const guard = { deadlineMs: 100_000, runningMax: 8 };
      const options = {
        servers,
        ...BROKER,
        search: SEARCH,
        groups: { ...GROUPS, rules: [{ allow: "all", topics: ["open/%u/#"] }] },
        guard,
      };
      await expectUndisturbed({ type: "ldap", name: "it", ...options }, server, false);
    }, 120_000);

    test("killed, hung, slow and brought back under load, logins recover by themselves", async () => {
      const guard = { deadlineMs: 1000, openMs: 200, runningMax: 8, waitingMax: 100 };
      const backend = await started({ servers, ...BROKER, search: SEARCH, groups: GROUPS, guard });
      const result = await soak(
        backend,
        [
          { name: "killed", begin: () => server.kill(), end: () => server.start(), durationMs: 300 },
          { name: "hung", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 1500 },
          { name: "slow", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 200 },
        ],
        { clientCount: SOAK_CLIENTS, roundCount: rounds(1, 2, 6), password: "plain" },
      );
      console.log(`soak of ldap: ${JSON.stringify(result)}`);
      expect(result.counts.wrong).toBe(0);
      expect(result.counts.unavailable).toBeGreaterThan(0);
      expect(result.openFileGrowth).toBeLessThan(16);
      expect(result.rssGrowthMiB).toBeLessThan(100);
      expect(backend.health!().state).toBe("up");
    }, 900_000);
  });
}

async function until(isTrue: () => boolean, act: () => Promise<unknown>): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!isTrue()) {
    if (performance.now() > deadlineMs) throw new Error("it does not come about");
    await act();
    await Bun.sleep(10);
  }
}
