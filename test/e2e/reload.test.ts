// SIGHUP: the file is read again; what can change does, the rest is named, a wrong file changes nothing, nobody is disconnected.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { socketControl } from "#admin/socket-control.ts";
import { freePort } from "#bench/compare/free-port.ts";
import { plainConfig, startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";

test("SIGHUP applies the file, keeps connections, and keeps the old configuration when the file is wrong", async () => {
  const dir = mkdtempSync(join(tmpdir(), "mantou-reload-"));
  const file = join(dir, "mantou.yaml");
  const ports = [freePort(), freePort()];
  const write = (listeners: number[], rest: string): void => {
    const lines = listeners.map((port) => `  - { name: l${port}, type: tcp, bind: "127.0.0.1:${port}" }`);
    writeFileSync(file, `listeners:\n${lines.join("\n")}\nstore: { type: memory }\n${rest}\n`);
  };
  write([ports[0]!], "");
  await using broker = await startBroker(["--config", file]);
  const hup = () => process.kill(broker.pid, "SIGHUP");
  const first = harnessOf(tcpTarget(broker.url));
  const second = harnessOf(tcpTarget(`tcp://127.0.0.1:${ports[1]}`));
  const client = await first.connect({ version: 5 });
  await client.subscribe("a/b/c");

  write([ports[1]!], "mqtt: { topicLevelsMax: 2, qosMax: 1 }\nlog: { level: debug }");
  hup();
  expect(await broker.line(/the configuration has changed/)).toContain(
    'changed=["listeners","mqtt.topicLevelsMax","log.level"]',
  );
  expect(await broker.line(/need a restart/)).toContain('waiting=["mqtt.qosMax"]');
  await client.ping();
  await expect(first.connect()).rejects.toThrow();
  const late = await second.connect({ version: 5 });
  await broker.line(/debug client connected/);
  late.send({ type: "subscribe", packetId: 7, subscriptions: [{ filter: "a/b/c", qos: 0 }] });
  await late.expect("suback", { packetId: 7, reasonCodes: [0x8f] });

  write([ports[0]!], "mqtt: { topicLevelMax: 2 }");
  hup();
  expect(await broker.line(/the old one stays in force/)).toContain("topicLevelMax");
  await late.ping();
  await expect(first.connect()).rejects.toThrow();
  for (const harness of [first, second]) await harness.stop();
  await broker.stop();
  rmSync(dir, { recursive: true });
});

test("SIGHUP changes access in every worker, and in none when it cannot work", async () => {
  const dir = mkdtempSync(join(tmpdir(), "mantou-reload-"));
  const file = join(dir, "mantou.yaml");
  const port = freePort();
  const write = (access: object): void =>
    writeFileSync(
      file,
      plainConfig({ listeners: [{ name: "tcp", type: "tcp", bind: `127.0.0.1:${port}` }], workers: 2, access }),
    );
  const clientIds = Array.from({ length: 8 }, (_, at) => `client-${at}`);
  write({});
  writeFileSync(join(dir, "passwd"), "alice:wonder\n");
  await using broker = await startBroker(["--config", file]);
  const harness = harnessOf(tcpTarget(broker.url));
  const clients = await Promise.all(clientIds.map((clientId) => harness.connect({ version: 5, clientId })));
  const users = { type: "user-file", file: join(dir, "passwd"), password: { algorithm: "plain" } };
  const told = async (words: RegExp, count: number): Promise<void> => {
    while (broker.output().match(words)?.length !== count) await Bun.sleep(10);
  };

  write({ authenticate: [users], noMatch: "deny" });
  process.kill(broker.pid, "SIGHUP");
  await told(/access has changed.*added=\["user-file"\]/g, 2);
  for (const clientId of clientIds) {
    const stranger = await harness.open(5);
    stranger.send({ type: "connect", clientId: `new-${clientId}` });
    await stranger.expectRejected(0x87);
    const alice = await harness.connect({
      version: 5,
      clientId: `alice-${clientId}`,
      username: "alice",
      password: "wonder",
    });
    expect((await alice.subscribe("t")).reasonCodes).toEqual([0x87]);
  }
  for (const client of clients) await client.ping();

  write({ authenticate: [users, { type: "user-file", name: "other", file: join(dir, "nowhere") }] });
  process.kill(broker.pid, "SIGHUP");
  await told(/the old one stays in force.*no such file/g, 1); // the other worker is not even asked
  for (const clientId of clientIds)
    await harness.connect({ version: 5, clientId: `alice-${clientId}`, username: "alice", password: "wonder" });
  for (const client of clients) await client.ping();
  await harness.stop();
  await broker.stop();
  rmSync(dir, { recursive: true });
}, 30_000);

test("a new listener of several workers is refused where somebody else shares the port, and gets one port for 0", async () => {
  const tcp = { name: "tcp", type: "tcp", bind: "127.0.0.1:0" };
  const textOf = (...listeners: object[]): string => plainConfig({ listeners, workers: 2 });
  await using broker = await startBroker(["--config", "m.yaml"], { files: { "m.yaml": textOf(tcp) } });
  const control = socketControl(join(broker.cwd, "data/admin.sock"));
  const reloadWith = (...listeners: object[]) => {
    writeFileSync(join(broker.cwd, "m.yaml"), textOf(...listeners));
    return control("config.reload", {});
  };
  using other = Bun.listen({ hostname: "127.0.0.1", port: 0, reusePort: true, socket: { data() {} } } as never);
  const taken = { ...tcp, name: "taken", bind: `127.0.0.1:${other.port}` };
  await expect(reloadWith(tcp, taken)).rejects.toThrow(`127.0.0.1:${other.port} is in use by another process`);
  expect(await control("listeners.list", {})).toMatchObject([{ name: "tcp", address: broker.url }]);

  using socket = Bun.listen({ unix: join(broker.cwd, "taken.sock"), socket: { data() {} } });
  const unix = { name: "unix", type: "unix", bind: socket.unix };
  const free = `127.0.0.1:${freePort()}`;
  await expect(reloadWith(tcp, { ...tcp, name: "new", bind: free }, unix)).rejects.toThrow("in use by another process");
  expect(await control("listeners.list", {})).toMatchObject([{ name: "tcp", isOpen: true }]);
  await expect(harnessOf(tcpTarget(`tcp://${free}`)).connect()).rejects.toThrow();

  expect(await reloadWith({ ...tcp, connectionsMax: 100 }, { ...tcp, name: "new" })).toMatchObject({
    changed: ["listeners"],
  });
  const rows = await control("listeners.list", {});
  expect(rows.map(({ name }) => name)).toEqual(["tcp", "new"]);
  expect(rows[0]!.address).toBe(broker.url);
  const harness = harnessOf(tcpTarget(rows[1]!.address));
  await Promise.all(Array.from({ length: 40 }, (_, at) => harness.connect({ clientId: `c${at}` })));
  expect(await control("listeners.list", {})).toMatchObject([{ name: "tcp" }, { name: "new", connectionCount: 40 }]);

  await control("listeners.stop", { name: "new" });
  const port = Number(new URL(rows[1]!.address).port);
  using third = Bun.listen({ hostname: "127.0.0.1", port, reusePort: true, socket: { data() {} } } as never);
  await expect(control("listeners.start", { name: "new" })).rejects.toThrow("is in use by another process");
  third.stop(true);
  await control("listeners.start", { name: "new" });
  expect((await control("listeners.list", {})).map(({ isOpen }) => isOpen)).toEqual([true, true]);
  await harness.stop();
  await broker.stop();
}, 60_000);
