/** SCRAM as an application has it with a client library: the program of docs/access/scram.md, run as it stands there. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { startBroker } from "#test/support/broker-process.ts";

setDefaultTimeout(60_000);
const ROOT = resolve(import.meta.dir, "../../..");
const page = readFileSync(join(ROOT, "docs/access/scram.md"), "utf8");
const program = /```js\n(.*?)```/s.exec(page)![1]!;

/** Replaces a piece that must be there. */
function put(text: string, piece: string, other: string): string {
  if (!text.includes(piece)) throw new Error(`the page's program has no ${piece}`);
  return text.replaceAll(piece, other);
}

test.each(["SCRAM-SHA-256", "SCRAM-SHA-512"])(
  "%s with MQTT.js, over reconnects, and a wrong password",
  async (method) => {
    const access = { authenticate: [{ type: "scram" }], noMatch: "deny" };
    await using broker = await startBroker(["--set", `access=${JSON.stringify(access)}`]);
    const entry = join(ROOT, "src/main.ts");
    const added = Bun.spawn([process.execPath, entry, "users", "add", "a=l,ice", "--password-stdin", "--superuser"], {
      cwd: broker.cwd,
      stdin: Buffer.from("wönder"),
      stderr: "ignore",
    });
    expect(await added.exited).toBe(0);

    // In the repository, where MQTT.js is found.
    const path = join(import.meta.dir, `${method}.client.js`);
    const run = async (password: string, more: string): Promise<string> => {
      let text = put(program, "mqtt://127.0.0.1:1883", broker.url.replace("tcp:", "mqtt:"));
      text = put(put(text, '"alice"', '"a=l,ice"'), '"wonder"', `"${password}"`);
      if (method === "SCRAM-SHA-512")
        text = put(put(put(text, "SCRAM-SHA-256", method), '"sha256"', '"sha512"'), "32, ", "64, ");
      writeFileSync(path, `${text}\n${more}`);
      const child = Bun.spawn([process.execPath, path], { stdout: "pipe", stderr: "pipe" });
      const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
      return out + err;
    };
    try {
      const twice = `
      client.options.reconnectPeriod = 1;
      let count = 0;
      client.on("connect", async () => {
        if (++count === 1) return client.stream.destroy();
        await client.subscribeAsync("t");
        client.on("message", (_, payload) => { console.log(String(payload)); client.end(); });
        client.publish("t", "hello");
      });`;
      expect((await run("wönder", twice)).split("\n")).toEqual(["connected", "connected", "hello", ""]);
      const refused = `
      client.on("error", ({ code }) => { console.log("refused", code); client.end(); });`;
      expect(await run("wonder", refused)).toBe("refused 134\n");
    } finally {
      rmSync(path, { force: true });
    }
  },
);
