// A broker in the background, and what tells of it: `mantou start --detach`, `stop`, the pid file, log files, `doctor`.

import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";

setDefaultTimeout(60_000);

const ENTRY = resolve(import.meta.dir, "../../src/main.ts");
let dir = "";

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "mantou-daemon-"));
});
afterEach(async () => {
  await mantou("stop");
  rmSync(dir, { recursive: true, force: true });
});

async function mantou(...words: string[]): Promise<{ code: number; out: string; err: string }> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("MANTOU_")));
  const child = Bun.spawn([process.execPath, ENTRY, ...words], { cwd: dir, env, stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { code: await child.exited, out, err };
}

const pidFile = (): string => readFileSync(join(dir, "data", "mantou.pid"), "utf8");

test("start --detach answers when the broker is ready, which then serves until stop", async () => {
  const { code, out, err } = await mantou("start", "--detach", "--listen", "tcp://127.0.0.1:0");
  expect({ code, err }).toEqual({ code: 0, err: "" });
  const [, port, pid] = /^mantou ready tcp=tcp:\/\/127\.0\.0\.1:(\d+).*\n.*process (\d+); mantou stop ends it\n$/s.exec(
    out,
  )!;
  expect(pidFile()).toBe(`${pid}\n`);
  const harness = harnessOf(tcpTarget(`tcp://127.0.0.1:${port}`));
  const client = await harness.connect({ clientId: "c", version: 5 });
  expect(readFileSync(join(dir, "log", "mantou.log"), "utf8")).toContain("mantou ready");

  const again = await mantou("start", "--detach", "--listen", "tcp://127.0.0.1:0");
  expect(again).toEqual({ code: 1, out: "", err: `mantou is running already, process ${pid}\n` });

  expect(await mantou("stop")).toEqual({ code: 0, out: "ok\n", err: "" });
  expect((await client.take("disconnect")).reasonCode).toBe(0x8b);
  await harness.stop();
  expect(existsSync(join(dir, "data", "mantou.pid"))).toBe(false);
  expect(existsSync(`/proc/${pid}`)).toBe(false);
  expect((await mantou("stop")).err).toBe(`mantou is not running on ${join(dir, "data")}\n`);
});

test("a broker that cannot start says why, and nothing stays behind", async () => {
  const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { code, out, err } = await mantou("start", "--detach", "--listen", `tcp://127.0.0.1:${taken.port}`);
  taken.stop(true);
  expect(code).toBe(1);
  expect(out).not.toContain("process");
  expect(err).toContain(`127.0.0.1:${taken.port}`);
  expect(existsSync(join(dir, "data", "mantou.pid"))).toBe(false);
});

test("a number that was left behind, and is another process's now, is not stopped", async () => {
  mkdirSync(join(dir, "data"));
  const bystander = Bun.spawn(["sleep", "60"]);
  writeFileSync(join(dir, "data", "mantou.pid"), `${bystander.pid}\n`);
  utimesSync(join(dir, "data", "mantou.pid"), new Date(2020, 0), new Date(2020, 0));
  expect((await mantou("stop")).code).toBe(1);
  expect(bystander.exitCode).toBeNull();
  bystander.kill();
});

test("doctor: a machine that is fit, a port that is taken, a certificate that is none, a configuration that is wrong", async () => {
  const listening = (port: number) => ["--listen", `tcp://127.0.0.1:${port}`];
  const well = await mantou("doctor", "--connections", "100", ...listening(0));
  expect(well.out).toMatch(/^ok {4}bun: /m);
  expect(well.out).toMatch(/^(ok {3}|warn) {1,2}disk sync: \d+\.\d ms/m);
  expect(well.out).toMatch(/^ok {4}listener tcp: 127\.0\.0\.1:0 is free$/m);
  expect(well.code).toBe(0);

  const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const bad = await mantou("doctor", "--connections", "100", "--json", ...listening(taken.port));
  taken.stop(true);
  expect(bad.code).toBe(1);
  const checks = JSON.parse(bad.out) as { state: string; name: string; says: string }[];
  expect(checks.filter(({ state }) => state === "bad")).toEqual([
    { state: "bad", name: "listener tcp", says: `127.0.0.1:${taken.port} cannot be listened on: EADDRINUSE` },
  ]);

  writeFileSync(join(dir, "key.pem"), "");
  writeFileSync(
    join(dir, "mantou.yaml"),
    "listeners: [{ name: tls, type: tls, bind: '127.0.0.1:0', cert: none.pem, key: key.pem }]\n",
  );
  const tls = await mantou("doctor", "--connections", "100");
  expect(tls.code).toBe(1);
  expect(tls.out).toMatch(/^bad {3}listener tls: none\.pem cannot be used: ENOENT/m);

  const wrong = await mantou("doctor", "--set", "mqtt.qosMax=3");
  expect(wrong).toMatchObject({ code: 1, err: "" });
  expect(wrong.out).toContain("bad   configuration: --set: mqtt.qosMax: found 3, allowed: ");
});

test("ctl asks the broker by its socket: what emqttd_ctl said, accounts, long questions; one line when there is none", async () => {
  const none = await mantou("ctl", "status");
  expect(none).toEqual({ code: 1, out: "", err: `no broker listens on ${join(dir, "data", "admin.sock")}\n` });
  await mantou("start", "--detach", "--listen", "tcp://127.0.0.1:0");
  const said = async (line: string) => (await mantou("ctl", ...line.split(" "))).out;
  expect(await said("status")).toBe("Node 'mantou@127.0.0.1' is started\nmantou 0.1.0 is running\n");
  expect(await mantou("status")).toMatchObject({ code: 0, out: await said("status") });
  expect(JSON.parse(await said("clients list --json"))).toEqual([]);
  expect(await said("clients show nobody")).toBe("Not Found.\n");
  expect(await said("admins add root private-word viewer")).toBe("ok\n");
  expect(await said("admins list")).toContain("root viewer\n");
  expect(await said("admins passwd root another-word")).toBe("ok\n");
  expect(await said("admins del root")).toBe("ok\n");
  expect(await said("users add bob secret")).toBe("ok\n");
  expect(await said("users list")).toBe("bob\n");
  expect(await said("recon profile 12")).toMatch(/\.cpuprofile \(\d+ bytes\)\n$/); // longer than a server waits for an idle peer
  const wrong = await mantou("ctl", "log", "level", "loud");
  expect(wrong).toMatchObject({ code: 1, out: "" });
  expect(wrong.err).toStartWith("log.level: found");
});
