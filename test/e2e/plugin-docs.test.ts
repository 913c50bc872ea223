/** A plugin written from nothing but docs/plugins.md, the template of `mantou plugin new`, the example: they work as they stand. */
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { freePort } from "#bench/compare/free-port.ts";
import { Broker } from "#broker/embedded-broker.ts";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";

const ENTRY = resolve("src/main.ts");
const page = readFileSync("docs/plugins.md", "utf8");
const folders: string[] = [];
/** Several processes are started, one after the other. */
const PROCESSES_MS = 60_000;

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** The code blocks of the page in a language. */
function blocks(language: string): string[] {
  return [...page.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map((match) => match[1]!);
}

async function run(command: readonly string[], cwd: string): Promise<{ code: number; out: string }> {
  const child = Bun.spawn([process.execPath, ...command], { cwd, stdout: "pipe", stderr: "pipe", stdin: "ignore" });
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, out: out + err };
}

test(
  "the first plugin of the page: loaded from its file, asked on the command line, read anew",
  async () => {
    const files = { "plugins/shout.ts": blocks("ts")[0]!, "mantou.yaml": blocks("yaml")[0]! };
    await using broker = await startBroker(["--workers", "1"], { files });
    await broker.line(/shout: somebody came|plugin loaded.*plugin=shout/);
    const harness = harnessOf(tcpTarget(broker.url));
    const client = await harness.connect({ clientId: "c1" });
    await client.subscribe("loud/#");
    await client.publish("loud/x", "hello");
    await client.expect("publish", { topic: "loud/x", payload: "HELLO" });
    await broker.line(/shout: somebody came clientId=c1/);
    const ctl = (...words: string[]) => run([ENTRY, "ctl", ...words], broker.cwd);
    expect(await ctl("shout", "hi")).toEqual({ code: 0, out: "said\n" });
    await client.expect("publish", { topic: "loud/all", payload: "HI" });
    expect((await ctl("plugins", "list")).out).toContain("Plugin(shout, version=1.0.0");
    await Bun.write(
      join(broker.cwd, "plugins/shout.ts"),
      blocks("ts")[0]!.replace("toUpperCase()", "toUpperCase() + '!'"),
    );
    expect((await ctl("plugins", "reload", "shout")).code).toBe(0);
    await client.publish("loud/x", "hello");
    await client.expect("publish", { payload: "HELLO!" });
    await harness.stop();
    await broker.stop();
  },
  PROCESSES_MS,
);

test(
  "the folder that `mantou plugin new` makes: its test passes, and a folder is not overwritten",
  async () => {
    const cwd = mkdtempSync(join(tmpdir(), "mantou-template-"));
    folders.push(cwd);
    const made = await run([ENTRY, "plugin", "new", "my-thing"], cwd);
    expect(made).toMatchObject({ code: 0 });
    expect(made.out).toContain("next: cd my-thing && bun install && bun test");
    expect(await run([ENTRY, "plugin", "new", "my-thing"], cwd)).toMatchObject({ code: 1 });
    expect(await run([ENTRY, "plugin", "new", "My Thing"], cwd)).toMatchObject({ code: 1 });
    // As `bun install` would, without a network.
    mkdirSync(join(cwd, "my-thing/node_modules"));
    symlinkSync(resolve("."), join(cwd, "my-thing/node_modules/mantou"));
    const tested = await run(["test"], join(cwd, "my-thing"));
    expect(tested.out).toContain("2 pass");
    expect(tested.code).toBe(0);
  },
  PROCESSES_MS,
);

test("the example tells which devices have fallen silent, and that they are back", async () => {
  const broker = await Broker.start({
    listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:0" }],
    plugins: [{ from: "./examples/watchdog-plugin.ts", options: { silentSec: 1 } }],
  });
  const harness = harnessOf(tcpTarget(broker.addresses[0]!));
  try {
    const watcher = await harness.connect({ clientId: "watcher" });
    await watcher.subscribe("watchdog/+", 1);
    const device = await harness.connect({ clientId: "device" });
    await device.publish("t", "here");
    const silent = await watcher.expect("publish", { topic: "watchdog/device", payload: "silent" }, 5000);
    await watcher.ack(silent);
    const { answer } = await broker.control("commands.run", { name: "watchdog", args: [] });
    expect(answer).toEqual(["device"]);
    await device.publish("t", "again");
    await watcher.expect("publish", { topic: "watchdog/device", payload: "back" });
  } finally {
    await harness.stop();
    await broker.close();
  }
});

test("the gateway's clients speak lines, and are judged, found and heard as any other", async () => {
  const port = freePort();
  const broker = await Broker.start({
    listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:0" }],
    plugins: [{ from: "./examples/line-gateway-plugin.ts", options: { port } }],
    authenticate: ({ username }, password) => username === "mqtt" || password?.toString() === "secret",
    authorize: ({ username }, _action, topic) => username === "mqtt" || topic.startsWith("meters/7/"),
  });
  const harness = harnessOf(tcpTarget(broker.addresses[0]!));
  let heard = "";
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: { data: (_socket, bytes) => void (heard += bytes.toString()) },
  });
  const hears = async (line: string): Promise<void> => {
    for (const endMs = performance.now() + 5000; !heard.startsWith(`${line}\n`); await Bun.sleep(1))
      if (performance.now() > endMs) throw new Error(`${JSON.stringify(heard)} instead of ${line}`);
    heard = heard.slice(line.length + 1);
  };
  try {
    const mqtt = await harness.connect({ username: "mqtt", password: "x" });
    await mqtt.subscribe("meters/#");
    socket.write("PUB meters/7/value 21.5\nHELLO meter-7 wrong\n");
    await hears("ERR what?");
    await hears("ERR client meter-7: reason code 0x86");
    socket.write("HELLO meter-7 secret\r\nSUB meters/7/set\nSUB meters/+/set\nPUB meters/7/value 21.5\n");
    for (const line of ["OK", "OK", "ERR 0x87", "OK"]) await hears(line);
    await mqtt.expect("publish", { topic: "meters/7/value", payload: "21.5" });
    await mqtt.publish("meters/7/set", "20", { qos: 1 });
    await hears("MSG meters/7/set 20");
    socket.end();
    const isThere = async (): Promise<boolean> =>
      (await broker.control("clients.list", { limit: 10 })).items.some(({ clientId }) => clientId === "meter-7");
    while (await isThere()) await Bun.sleep(1);
  } finally {
    socket.terminate();
    await harness.stop();
    await broker.close();
  }
});
