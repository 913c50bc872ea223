// Users, client ids and bans as an operator manages them: one process serves, others change what it knows.

import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type BrokerProcess, startBroker } from "#test/support/broker-process.ts";
import type { ConnectOptions, RawClient } from "#test/support/client.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import type { Version } from "#test/support/packets.ts";

setDefaultTimeout(120_000);
const PATIENT_MS = 60_000;
const ENTRY = resolve(import.meta.dir, "../../src/main.ts");
const BAD_CREDENTIALS = 0x86;
const NOT_AUTHORIZED = 0x87;
const SERVER_BUSY = 0x89;
const BANNED = 0x8a;
const ADMINISTRATIVE_ACTION = 0x98;

const folder = mkdtempSync(join(tmpdir(), "mantou-access-e2e-"));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;

interface Site extends AsyncDisposable {
  readonly broker: BrokerProcess;
  readonly data: string;
  /** A first connection with the CONNACK it got. */
  login(
    options: ConnectOptions & { version?: Version },
  ): Promise<{ client: RawClient; reasonCode: number | undefined }>;
  /** Tries until the answer is this one. */
  untilLogin(options: ConnectOptions, reasonCode: number): Promise<RawClient>;
  /** `mantou …` on the broker's data; must succeed. */
  mantou(words: string, stdin?: string): Promise<string>;
}

async function startSite(access?: object): Promise<Site> {
  const data = join(folder, `data-${++count}`);
  const flags = access === undefined ? [] : ["--set", `access=${JSON.stringify(access)}`];
  const broker = await startBroker(["--data", data, ...flags]);
  const harness = harnessOf(tcpTarget(broker.url));
  const login: Site["login"] = async ({ version = 5, ...options }) => {
    for (;;) {
      const client = await harness.open(version);
      client.send({ type: "connect", clientId: `c${++count}`, ...options });
      const { reasonCode } = await client.expect("connack", {}, PATIENT_MS);
      if (reasonCode !== SERVER_BUSY) return { client, reasonCode };
      await Bun.sleep(100); // a machine with much else to do
    }
  };
  return {
    broker,
    data,
    login,
    async untilLogin(options, reasonCode) {
      for (const endMs = performance.now() + PATIENT_MS; ; await Bun.sleep(50)) {
        const found = await login(options);
        if (found.reasonCode === reasonCode) return found.client;
        if (performance.now() > endMs) throw new Error(`CONNACK ${found.reasonCode}, not ${reasonCode}, to the end`);
        found.client.kill();
      }
    },
    async mantou(words, stdin = "") {
      const { code, text, out } = await runMantou([...words.split(" "), "--data", data], stdin);
      if (code !== 0) throw new Error(`mantou ${words}: ${code}\n${text}`);
      return out;
    },
    async [Symbol.asyncDispose]() {
      await harness.stop();
      await broker.kill();
    },
  };
}

async function runMantou(words: readonly string[], stdin: string) {
  const child = Bun.spawn([process.execPath, ENTRY, ...words], {
    cwd: folder,
    stdin: Buffer.from(stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, out, text: out + err };
}

async function toldAndClosed(client: RawClient, reasonCode: number): Promise<void> {
  if (client.version === 5) await client.expect("disconnect", { reasonCode }, PATIENT_MS);
  await client.expectClosed(PATIENT_MS);
}

const TABLE = { authenticate: [{ type: "user-table" }, { type: "client-id" }], noMatch: "allow" };

describe("users, while the broker runs", () => {
  test("who is added comes in; who gets another password or is deleted has to go, and nobody else", async () => {
    await using site = await startSite(TABLE);
    const { login, mantou, broker } = site;
    const alice = { username: "alice", password: "wonder-first" };
    expect((await login(alice)).reasonCode).toBe(BAD_CREDENTIALS);
    await mantou("users add alice --password-stdin", "wonder-first\n");
    await mantou("users add bob --password-stdin", "builder\n");
    const bob = (await login({ username: "bob", password: "builder" })).client;
    const first = await login(alice);
    const old = await login({ ...alice, version: 4 });
    expect([first.reasonCode, old.reasonCode]).toEqual([0, 0]);

    await mantou("users password alice --password-stdin", "wonder-second\n");
    await Promise.all([toldAndClosed(first.client, NOT_AUTHORIZED), toldAndClosed(old.client, NOT_AUTHORIZED)]);
    expect((await login(alice)).reasonCode).toBe(BAD_CREDENTIALS);
    const second = await login({ username: "alice", password: "wonder-second" });
    expect(second.reasonCode).toBe(0);

    await mantou("users delete alice");
    await toldAndClosed(second.client, NOT_AUTHORIZED);
    expect((await login({ username: "alice", password: "wonder-second" })).reasonCode).toBe(BAD_CREDENTIALS);
    await bob.ping();
    expect(await mantou("users list")).toBe("bob\n");
    await broker.stop();
    expect(broker.output()).not.toMatch(/wonder|builder/);
  });

  test("who becomes a super user comes back as one", async () => {
    await using site = await startSite({ ...TABLE, noMatch: "deny" });
    await site.mantou("users add alice --password-stdin --algorithm bcrypt", "wonder");
    const options = { username: "alice", password: "wonder" };
    const { client } = await site.login(options);
    expect((await client.subscribe("#")).reasonCodes).toEqual([NOT_AUTHORIZED]);
    await site.mantou("users superuser alice yes");
    await toldAndClosed(client, NOT_AUTHORIZED);
    const again = await site.untilLogin(options, 0);
    expect((await again.subscribe("#")).reasonCodes).toEqual([0]);
  });

  test("a client id comes in while it is in the table", async () => {
    await using site = await startSite(TABLE);
    const options = { clientId: "robot" };
    expect((await site.login(options)).reasonCode).toBe(NOT_AUTHORIZED);
    await site.mantou("client-ids add robot --address 192.0.2.0/24");
    expect((await site.login(options)).reasonCode).toBe(NOT_AUTHORIZED);
    await site.mantou("client-ids delete robot");
    await site.mantou("client-ids add robot --address 192.0.2.0/24 --address 127.0.0.0/8");
    const client = await site.untilLogin(options, 0);
    await site.mantou("client-ids delete robot");
    await toldAndClosed(client, NOT_AUTHORIZED);
    expect((await site.login(options)).reasonCode).toBe(NOT_AUTHORIZED);
  });
});

describe.each([
  ["a broker that is open to everybody", undefined],
  ["a broker that keeps account of its clients", { authenticate: [{ type: "user-table" }, { type: "anonymous" }] }],
])("bans, on %s", (_, access) => {
  test.concurrent("end connections and keep out, until they are taken back or their time is over", async () => {
    await using site = await startSite(access);
    const { login, untilLogin, mantou } = site;
    const [loud, eve] = [{ clientId: "loud" }, { username: "eve", password: "x" }];
    const bystander = (await login({})).client;
    const first = [(await login(loud)).client, (await login(eve)).client];
    await mantou("bans add --client-id loud");
    const beforeMs = Date.now();
    await mantou("bans add --user eve --for 10s");
    await Promise.all(first.map((client) => toldAndClosed(client, ADMINISTRATIVE_ACTION)));
    await bystander.ping();
    const second = await untilLogin(eve, 0);
    expect(Date.now()).toBeGreaterThanOrEqual(beforeMs + 9000); // it counts in whole seconds
    expect((await login(loud)).reasonCode).toBe(BANNED);
    await mantou("bans delete --client-id loud");
    const third = await untilLogin(loud, 0);

    await mantou("bans add --address 127.0.0.0/8");
    await Promise.all([bystander, second, third].map((client) => toldAndClosed(client, ADMINISTRATIVE_ACTION)));
    expect((await login({})).reasonCode).toBe(BANNED);
    await mantou("bans delete --address 127.0.0.0/8");
    await (await untilLogin({}, 0)).ping();
    expect(await mantou("bans list")).toBe("");
  });
});

test("a password that is typed at a terminal is not shown", async () => {
  const data = join(folder, `data-${++count}`);
  let screen = "";
  let seen = (): void => {};
  await using terminal = new Bun.Terminal({
    data: (_, bytes) => {
      screen += Buffer.from(bytes).toString();
      seen();
    },
  });
  const until = (text: string): Promise<unknown> =>
    Promise.race([
      child.exited,
      new Promise<void>((done) => {
        seen = () => void (screen.includes(text) && done());
        seen();
      }),
    ]);
  const child = Bun.spawn([process.execPath, ENTRY, "users", "add", "alice", "--data", data], {
    cwd: folder,
    terminal,
  });
  await until("Password: ");
  terminal.write("wonder\r");
  await until("Once more: ");
  terminal.write("wonder\r");
  await until("added");
  expect(await child.exited).toBe(0);
  expect(screen).toContain("ok: user alice added");
  expect(screen).not.toContain("wonder");
  expect((await runMantou(["users", "list", "--data", data], "")).out).toBe("alice\n");
});
