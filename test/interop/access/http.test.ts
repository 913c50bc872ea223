/** An HTTP service in a process of its own, killed and hung under load; and a broker that browsers' cookies let into. */
import { afterAll, expect, test } from "bun:test";
import type { Backend } from "#access/backend.ts";
import { http } from "#access/backends/http.ts";
import { fixture } from "#test/contract/backend-contract.ts";
import { Peer } from "#test/interop/mqtt-js-client.ts";
import { startBroker } from "#test/support/broker-process.ts";
import { rounds } from "#test/support/level.ts";
import { DatabaseServer, ping, type ServerProgram } from "./servers/database-server.ts";
import { FakeHttpService } from "./servers/http-service.ts";
import { soak } from "./soak.ts";
import { expectUndisturbed } from "./undisturbed.ts";

/** Lets everybody in who has the password `plain`. */
const program: ServerProgram = {
  name: "an HTTP service",
  program: process.execPath,
  refusesRoot: false,
  prepare: async () => {},
  command: (_, port) => [
    process.execPath,
    "-e",
    `Bun.serve({
      hostname: "127.0.0.1",
      port: ${port},
      async fetch(request) {
        const form = new URLSearchParams(await request.text());
        if (request.url.endsWith("/acl")) return new Response();
        return new Response("", { status: form.get("password") === "plain" ? 200 : 401 });
      },
    });`,
  ],
  ping,
};

const ends: (() => Promise<void> | void)[] = [];
afterAll(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function makeBackend(port: number, guard: object): Promise<Backend> {
  const { parts, stop } = fixture("http");
  ends.push(stop);
  const backend = http.make(http.options.parse({ auth: { url: `http://127.0.0.1:${port}/auth` }, guard }), parts);
  await backend.start!();
  ends.push(() => backend.stop!());
  return backend;
}

test("killed, hung, slow and brought back under load, logins recover by themselves", async () => {
  const server = (await DatabaseServer.open(program))!;
  ends.push(() => server[Symbol.asyncDispose]());
  const guard = { deadlineMs: 1000, openMs: 200, runningMax: 8, waitingMax: 100 };
  const backend = await makeBackend(server.port, guard);
  const result = await soak(
    backend,
    [
      { name: "killed", begin: () => server.kill(), end: () => server.start(), durationMs: 300 },
      { name: "hung", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 1500 },
      { name: "slow", begin: () => server.freeze(), end: () => server.thaw(), durationMs: 200 },
    ],
    { clientCount: 64, roundCount: rounds(1, 2, 6), password: "plain" },
  );
  console.log(`soak of http: ${JSON.stringify(result)}`);
  expect(result.counts.wrong).toBe(0);
  expect(result.counts.unavailable).toBeGreaterThan(0);
  expect(result.openFileGrowth).toBeLessThan(32);
  expect(result.rssGrowthMiB).toBeLessThan(100);
  expect(backend.health!().state).toBe("up");
}, 900_000);

test("while the service hangs, clients that are in are not disturbed, and those who come wait for it", async () => {
  const server = (await DatabaseServer.open(program))!;
  ends.push(() => server[Symbol.asyncDispose]());
  const url = `http://127.0.0.1:${server.port}`;
  const guard = { deadlineMs: 100_000, runningMax: 8 };
  const backend = { type: "http", name: "it", auth: { url: `${url}/auth` }, acl: { url: `${url}/acl` }, guard };
  await expectUndisturbed(backend, server);
}, 120_000);

test("a browser's cookie lets its WebSocket in, under the name of its session", async () => {
  const service = new FakeHttpService();
  ends.push(() => service.stop());
  const lookup = { type: "cookie", cookie: "sid", http: { url: `${service.origin}/session` } };
  const rules = `- { allow: all, user: alice, topics: ["home/%u/#"] }`;
  const folder = fixture("cookie");
  ends.push(folder.stop);
  folder.write("acl.yaml", rules);
  const file = JSON.stringify({ type: "acl-file", file: `${folder.parts.baseDir}/acl.yaml` });
  const sets = [`access.authenticate=[${JSON.stringify(lookup)}]`, `access.authorize=[${file}]`, "access.noMatch=deny"];
  const broker = await startBroker(["--listen", "ws://127.0.0.1:0", ...sets.flatMap((set) => ["--set", set])]);
  ends.push(() => broker.stop());
  const { host } = new URL(broker.url);
  const connect = (headers: Record<string, string>): Promise<Peer> =>
    Peer.connect(`ws://${host}/mqtt`, "5.0", { wsOptions: { headers } });
  await using peer = await connect({ cookie: "sid=s-alice", origin: `http://${host}` });
  await peer.subscribe("home/alice/#", 1);
  await peer.publish("home/alice/a", "x", { qos: 1 });
  expect(await peer.next()).toMatchObject({ topic: "home/alice/a" });
  await expect(peer.subscribe("home/bob/#", 1)).rejects.toThrow();
  await expect(connect({ cookie: "sid=s-alice", origin: "http://evil.example" })).rejects.toThrow();
  await expect(connect({ cookie: "sid=unknown" })).rejects.toThrow();
  await expect(connect({})).rejects.toThrow();
  expect(broker.output()).not.toContain("s-alice");
});
