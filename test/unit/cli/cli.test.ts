import { describe, expect, test } from "bun:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runCli } from "#cli/cli.ts";
import { VERSION } from "#broker/version.ts";
import { FakeHost } from "./fake-host.ts";

async function run(line: string, given: { files?: Record<string, string>; env?: Record<string, string> } = {}) {
  const host = new FakeHost();
  Object.assign(host.files, given.files);
  Object.assign(host.env, given.env);
  const code = await runCli(line.split(" ").filter(Boolean), host);
  return { code, out: host.stdout, err: host.stderr };
}

describe("usage", () => {
  test("--help lists the commands with examples, on stdout", async () => {
    const { code, out, err } = await run("--help");
    expect(code).toBe(0);
    expect(err).toBe("");
    for (const word of ["start", "config", "version", "Examples:", "mantou start --listen tcp://127.0.0.1:2883"])
      expect(out).toContain(word);
  });

  test("every command has help", async () => {
    for (const command of ["start", "config", "config check", "config show", "config schema", "version"]) {
      const { code, out } = await run(`${command} --help`);
      expect(code).toBe(0);
      expect(out).toStartWith(`Usage: mantou ${command}`);
    }
  });

  test.each([
    ["strat", "error: unknown command 'strat'\n(Did you mean start?)\n"],
    ["config chek", "error: unknown command 'chek'\n(Did you mean check?)\n"],
    ["start --lisen x", "error: unknown option '--lisen'\n(Did you mean --listen?)\n"],
    ["start now", "error: too many arguments for 'start'. Expected 0 arguments but got 1: now.\n"],
    ["start --config", "error: option '--config <file>' argument missing\n"],
    ["--listen tcp://127.0.0.1:0", "error: unknown option '--listen'\n"],
  ])("%s is a mistake of usage: 2", async (line, words) => {
    expect(await run(line)).toEqual({ code: 2, out: "", err: `${words}(mantou --help shows what there is)\n` });
  });

  test.each(["", "config"])("%j alone shows help on stderr: 2", async (line) => {
    const { code, out, err } = await run(line);
    expect(code).toBe(2);
    expect(out).toBe("");
    expect(err).toStartWith("Usage: mantou");
  });

  test("version", async () => {
    const { version } = (await Bun.file("package.json").json()) as { version: string };
    expect(VERSION).toBe(version);
    expect((await run("--version")).out).toBe(`mantou ${VERSION}\n`);
    expect((await run("version")).out).toBe(
      `mantou ${VERSION} (bun ${Bun.version}, ${process.platform} ${process.arch})\n`,
    );
  });
});

describe("config check", () => {
  test("says ok and what was read", async () => {
    expect(await run("config check")).toEqual({
      code: 0,
      out: "ok: no file, only defaults, environment and flags\n",
      err: "",
    });
    const files = { "/site/mantou.yaml": "log: { level: warn }", "/site/other.yaml": "" };
    expect((await run("config check", { files })).out).toBe("ok: mantou.yaml\n");
    expect((await run("config check --config other.yaml", { files })).out).toBe("ok: other.yaml\n");
  });

  test("says every problem on a line of its own: 1", async () => {
    const files = { "/site/mantou.yaml": "session:\n  inflightCountMax: lots\nlog: { level: loud }\n" };
    const { code, out, err } = await run("config check --set log.format=xml --listen udp://1:1", { files });
    expect(code).toBe(1);
    expect(out).toBe("");
    expect(err.trimEnd().split("\n")).toEqual([
      '--listen: found "udp://1:1", allowed: tcp://HOST:PORT, tls://HOST:PORT, ws://HOST:PORT, wss://HOST:PORT, unix:///PATH, http://HOST:PORT, https://HOST:PORT, admin://HOST:PORT',
      'mantou.yaml:2: session.inflightCountMax: found "lots", allowed: a whole number from 1 to 65535',
      'mantou.yaml:3: log.level: found "loud", allowed: one of trace, debug, info, warn, error, silent',
      '--set: log.format: found "xml", allowed: one of text, json',
    ]);
  });
});

describe("config check of access", () => {
  test.each([
    ["authenticate: [{ type: jwt, algorithms: [HS256] }]", "access: jwt: found 0 of secret, publicKeyFile and jwksUrl"],
    ["authenticate: [{ type: user-table }, { type: redis, authCommand: GET %u%c }]", "access: redis: authCommand"],
    ["authorize: [{ type: same, as: nope }]", 'access.authorize: as: found "nope"'],
  ])("finds what stops the start: %s", async (access, problem) => {
    const { code, out, err } = await run("config check", { files: { "/site/mantou.yaml": `access: { ${access} }` } });
    expect([code, out]).toEqual([1, ""]);
    expect(err).toStartWith(problem);
  });

  test("opens no table and no server, and does not ask for the broker's environment", async () => {
    const access =
      "authenticate: [{ type: scram }, { type: mongodb, server: { uri: 'mongodb://192.0.2.1' }, auth: { collection: a } }, { type: jwt, algorithms: [HS256], secret: 'env:NOT_HERE' }]";
    const files = { "/site/mantou.yaml": `access: { ${access} }` };
    expect(await run("config check", { files })).toMatchObject({ out: "ok: mantou.yaml\n", err: "" });
  });
});

test("config check finds each file that would stop the start, and says what the start would", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mantou-"));
  const junk = join(folder, "junk");
  writeFileSync(junk, "junk\n");
  const no = join(folder, "no");
  const listener = { name: "tls", type: "tls", bind: "127.0.0.1:0", cert: no, key: no };
  const config = {
    listeners: [listener, { ...listener, name: "wss", type: "wss", cert: junk, key: junk }],
    admin: { cert: junk, key: no },
    access: {
      authenticate: [
        { type: "user-file", file: junk },
        { type: "jwt", name: "tokens", algorithms: ["RS256"], publicKeyFile: junk },
        { type: "ldap", servers: ["ldaps://192.0.2.1"], caFile: no, userDn: "uid=%u" },
      ],
      authorize: [{ type: "acl-file", file: no }],
    },
    modules: { webhook: { hooks: [{ name: "h", url: "https://192.0.2.1/", caFile: no }] } },
    plugins: [{ from: no }, { from: "./none.ts" }],
  };
  const { code, out, err } = await run("config check", { files: { "/site/mantou.yaml": JSON.stringify(config) } });
  expect([code, out]).toEqual([1, ""]);
  expect(err.trimEnd().split("\n")).toEqual([
    `listener tls: cert: ${no}: cannot be read: ENOENT`,
    `listener wss: ${junk}: found no certificate, allowed: a certificate in PEM`,
    `access: user-file: ${junk}:1: found no user name, allowed: NAME:STORED PASSWORD`,
    "access: tokens: publicKeyFile: found no public key, allowed: PEM that begins with -----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----",
    `access: ldap: caFile: ${no}: ENOENT`,
    `access: acl-file: ${no}: no such file`,
    `webhook h: caFile: ${no}: ENOENT`,
    `plugins: ${no}: found nothing there, allowed: a file, a folder or a package`,
    "plugins: ./none.ts: found nothing there, allowed: a file, a folder or a package",
    `admin: key: ${no}: cannot be read: ENOENT`,
  ]);
});

describe("config show", () => {
  test("YAML with origins", async () => {
    const env = { MANTOU__LOG__LEVEL: "warn" };
    const { code, out } = await run("config show --set session.countMax=5 --set mqtt.qosMax=1 --listen tcp://[::1]:0", {
      env,
    });
    expect(code).toBe(0);
    expect(out).toMatch(/^ {2}countMax: 5 +# --set$/m);
    expect(out).toMatch(/^ {2}qosMax: 1 +# --set$/m);
    expect(out).toMatch(/^ {2}level: warn +# MANTOU__LOG__LEVEL$/m);
    expect(out).toMatch(/^ {4}bind: "\[::1\]:0" +# --listen$/m);
    expect(out).toMatch(/^ {2}retain: true +# default$/m);
  });

  test("JSON for machines", async () => {
    const { out } = await run("config show --json --set mqtt.packetBytesMax=2MiB");
    const config = JSON.parse(out) as { mqtt: { packetBytesMax: number }; listeners: unknown };
    expect(config.mqtt.packetBytesMax).toBe(2_097_152);
    expect(config.listeners).toEqual([
      { name: "tcp", type: "tcp", bind: "0.0.0.0:1883" },
      { name: "ws", type: "ws", bind: "0.0.0.0:8083" },
    ]);
  });
});

test("config schema prints JSON Schema", async () => {
  const { code, out } = await run("config schema");
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ $schema: "https://json-schema.org/draft/2020-12/schema", type: "object" });
});
