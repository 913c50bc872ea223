// `mantou ctl` against a running broker: lines as scripts for emqttd_ctl read them (1.12 of the reference), and JSON.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MantouError } from "#base/error.ts";
import { definePlugin } from "#plugins/plugin.ts";
import { type CtlContext, runCtl } from "#cli/ctl/ctl.ts";
import { ctlCommands } from "#cli/ctl/table.ts";
import type { RawClient } from "#test/support/client.ts";
import { type BrokerInProcess, startInProcess } from "./broker-in-process.ts";
import { eventually } from "./flow-client.ts";

let site: BrokerInProcess;
let dir = "";
let lamp: RawClient;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "mantou-ctl-"));
  site = await startInProcess([`node.data=${dir}`, "node.name=mantou@127.0.0.1", "session.inflightCountMax=100"]);
  lamp = await site.harness.connect({ clientId: "lamp/7", version: 4, username: "ann", cleanStart: false });
  await lamp.subscribe(["a/b", "a/+"], 1);
  const guest = await site.harness.connect({ clientId: "guest", version: 5 });
  await guest.subscribe("x/#", 2);
});

afterAll(async () => {
  await site[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true, force: true });
});

interface Said {
  readonly code: number;
  readonly out: string;
  readonly lines: string[];
  readonly err: string;
}

async function ctl(words: string, options: Partial<CtlContext> = {}): Promise<Said> {
  let out = "";
  let err = "";
  const code = await runCtl(ctlCommands, words === "" ? [] : words.split(" "), {
    control: site.broker.control,
    rest: () => Promise.reject(new Error("no REST here")),
    isJson: false,
    payload: undefined,
    forSec: undefined,
    out: (text) => (out += text),
    err: (text) => (err += text),
    password: async () => "asked",
    interrupted: new Promise(() => {}),
    ...options,
  });
  return { code, out, lines: out.split("\n").slice(0, -1), err };
}

async function json(words: string): Promise<unknown> {
  const { code, out } = await ctl(words, { isJson: true });
  expect(code).toBe(0);
  return JSON.parse(out);
}

describe("the lines of emqttd_ctl", () => {
  test("status", async () => {
    expect((await ctl("status")).lines).toEqual(["Node 'mantou@127.0.0.1' is started", "mantou 0.1.0 is running"]);
  });

  test("broker: keys ten wide, and the time it runs", async () => {
    const { lines } = await ctl("broker");
    expect(lines.map((line) => line.slice(0, 12))).toEqual([
      "sysdescr  : ",
      "version   : ",
      "uptime    : ",
      "datetime  : ",
    ]);
    expect(lines[2]!.slice(12)).toMatch(/^(\d+ (days|hours|minutes), )*\d+ seconds$/);
    expect(lines[3]!.slice(12)).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  });

  test("broker stats: emqttd's names, twenty wide", async () => {
    const { lines } = await ctl("broker stats");
    const stats = new Map(lines.map((line) => [line.slice(0, 20).trimEnd(), line.slice(20)]));
    expect(stats.get("clients/count")).toBe(": 2");
    expect(stats.get("sessions/count")).toBe(": 2");
    expect(stats.get("subscriptions/count")).toBe(": 3");
    // Nodes of the tree of wildcards are counted, so it may be a few more.
    expect(Number(stats.get("topics/count")!.slice(2))).toBeGreaterThanOrEqual(3);
    expect(stats.get("routes/count")).toBe(stats.get("topics/count")!);
    expect(stats.get("retained/max")).toMatch(/^: \d+$/); // $SYS among them
  });

  test("broker metrics: emqttd's names, 24 wide, sorted", async () => {
    const { lines } = await ctl("broker metrics");
    const names = lines.map((line) => /^(\S+) *: \d+$/.exec(line)![1]!);
    expect(lines.every((line) => line.indexOf(":") >= 24)).toBe(true);
    expect(names).toEqual(names.toSorted());
    const emqttd =
      "bytes/received bytes/sent messages/dropped messages/qos0/received messages/qos0/sent messages/qos1/received " +
      "messages/qos1/sent messages/qos2/received messages/qos2/sent messages/received messages/retained messages/sent " +
      "packets/connack packets/connect packets/disconnect packets/pingreq packets/pingresp packets/puback/received " +
      "packets/puback/sent packets/pubcomp/received packets/pubcomp/sent packets/publish/received packets/publish/sent " +
      "packets/pubrec/received packets/pubrec/sent packets/pubrel/received packets/pubrel/sent packets/received " +
      "packets/sent packets/suback packets/subscribe packets/unsuback packets/unsubscribe";
    for (const name of emqttd.split(" ")) expect(names).toContain(name);
  });

  test("clients", async () => {
    const { lines } = await ctl("clients list");
    const shape =
      /^Client\((.+), clean_sess=(true|false), username=(\S+), peername=127\.0\.0\.1:\d+, connected_at=\d+\)$/;
    const found = lines.map((line) => shape.exec(line)!.slice(1, 4));
    expect(found.sort()).toEqual([
      ["guest", "true", "undefined"],
      ["lamp/7", "false", "ann"],
    ]);
    expect((await ctl("clients show lamp/7")).lines).toEqual(lines.filter((line) => line.includes("lamp/7")));
    expect(await ctl("clients show nobody")).toMatchObject({ code: 1, lines: ["Not Found."] });
    expect(await ctl("clients kick nobody")).toMatchObject({ code: 1, lines: ["Not Found."] });
  });

  test("sessions, persistent and transient", async () => {
    const shape =
      /^Session\((.+), clean_sess=(true|false), max_inflight=100, inflight_queue=0, message_queue=0, message_dropped=0, awaiting_rel=0, awaiting_ack=0, awaiting_comp=0, created_at=\d+\)$/;
    const found = async (words: string) =>
      (await ctl(words)).lines.map((line) => shape.exec(line)!.slice(1).join(" ")).sort();
    expect(await found("sessions list")).toEqual(["guest true", "lamp/7 false"]);
    expect(await found("sessions list persistent")).toEqual(["lamp/7 false"]);
    expect(await found("sessions list transient")).toEqual(["guest true"]);
    expect(await found("sessions show guest")).toEqual(["guest true"]);
    expect(await ctl("sessions show nobody")).toMatchObject({ code: 1, lines: ["Not Found."] });
  });

  test("routes and topics", async () => {
    const all = ["a/+ -> mantou@127.0.0.1", "a/b -> mantou@127.0.0.1", "x/# -> mantou@127.0.0.1"];
    for (const what of ["routes", "topics"]) {
      expect((await ctl(`${what} list`)).lines.sort()).toEqual(all);
      expect((await ctl(`${what} show a/b`)).lines).toEqual(["a/b -> mantou@127.0.0.1"]);
      expect(await ctl(`${what} show a`)).toMatchObject({ code: 1, lines: ["Not Found."] });
    }
  });

  test("subscriptions: a line a client; add and del", async () => {
    const { lines } = await ctl("subscriptions list");
    expect(lines.map((line) => line.split(/[ ,]/).sort().join(" ")).sort()).toEqual([
      "-> a/+:1 a/b:1 lamp/7",
      "-> guest x/#:2",
    ]);
    expect((await ctl("subscriptions add guest y 1")).lines).toEqual(["ok"]);
    expect((await ctl("subscriptions show guest")).lines[0]!.split(/[ ,]/).sort()).toEqual([
      "->",
      "guest",
      "x/#:2",
      "y:1",
    ]);
    expect((await ctl("subscriptions del guest y")).lines).toEqual(["ok"]);
    expect((await ctl("subscriptions show guest")).lines).toEqual(["guest -> x/#:2"]);
    expect(await ctl("subscriptions add guest y 3")).toMatchObject({ code: 1, lines: ["QoS should be 0, 1, 2"] });
    expect(await ctl("subscriptions add guest a/#/b 1")).toMatchObject({ code: 1 });
    expect(await ctl("subscriptions del nobody")).toMatchObject({ code: 1, lines: ["Not Found."] });
    await ctl("subscriptions add guest z1 0");
    expect((await ctl("subscriptions del guest")).lines).toEqual(["ok"]);
    expect(await ctl("subscriptions show guest")).toMatchObject({ code: 1, lines: ["Not Found."] });
  });

  test("listeners", async () => {
    const { lines } = await ctl("listeners");
    expect(lines[0]).toBe(`listener on mqtt:127.0.0.1:${site.port}`);
    expect(lines.slice(1).map((line) => line.slice(0, 20))).toEqual([
      "  acceptors       : ",
      "  max_clients     : ",
      "  current_clients : ",
      "  shutdown_count  : ",
    ]);
    expect(lines[3]).toBe("  current_clients : 2");
  });

  test("vm", async () => {
    const { lines } = await ctl("vm");
    const names = lines.map((line) => /^(\w+\/\w+) *: [\d.]+$/.exec(line)![1]!);
    expect(lines.every((line) => line.indexOf(":") === 24)).toBe(true);
    const some =
      "cpu/load1 cpu/load5 cpu/load15 memory/total process/limit process/count io/max_fds io/active_fds ports/count ports/limit";
    for (const name of some.split(" ")) expect(names).toContain(name);
    expect((await ctl("vm io")).lines).toHaveLength(2);
    expect((await ctl("vm all")).lines).toHaveLength(lines.length);
  });

  test("cluster, bridges, plugins", async () => {
    expect((await ctl("cluster status")).lines).toEqual(["Cluster status: [{running_nodes,['mantou@127.0.0.1']}]"]);
    expect((await ctl("cluster join other@host")).code).toBe(1);
    expect(await ctl("bridges list")).toMatchObject({ code: 1, lines: ["there are no bridges yet"] });
    for (const line of (await ctl("plugins list")).lines) {
      expect(line).toMatch(/^Plugin\(\S+, version=\S+, description=.+, active=(true|false)\)$/);
    }
    expect((await ctl("plugins load nobody")).lines[0]).toStartWith("load plugin error: ");
  });

  test("users", async () => {
    expect((await ctl("users add bob secret")).lines).toEqual(["ok"]);
    expect((await ctl("users add bob secret")).code).toBe(1);
    await site.broker.control("users.setSuperuser", { username: "bob", isSuperuser: true });
    expect((await ctl("users passwd bob")).lines).toEqual(["ok"]);
    expect((await ctl("users list")).lines).toEqual(["bob (superuser)"]); // another password makes him no less
    expect(await ctl("users passwd nobody x")).toMatchObject({ code: 1, lines: ["Not Found."] });
    expect((await ctl("users del bob")).lines).toEqual(["ok"]);
    expect(await ctl("users del bob")).toMatchObject({ code: 1, lines: ["Not Found."] });
  });

  test("trace client and topic, to a file", async () => {
    expect(await ctl("trace client lamp/7 log/lamp.log", { payload: "text" })).toMatchObject({
      lines: ["trace client lamp/7 successfully."],
      err: `written to ${join(dir, "trace", "lamp.log")}\n`,
    });
    expect((await ctl("trace topic a/# topic.log")).lines).toEqual(["trace topic a/# successfully."]);
    expect(await ctl("trace topic a/# other.log")).toMatchObject({
      code: 1,
      lines: ["trace topic a/# error: already_existed"],
    });
    expect((await ctl("trace list")).lines).toEqual([
      `trace client lamp/7 -> ${join(dir, "trace", "lamp.log")}`,
      `trace topic a/# -> ${join(dir, "trace", "topic.log")}`,
    ]);
    await lamp.publish("a/c", "hello", { qos: 1 });
    expect((await ctl("trace client lamp/7 off")).lines).toEqual(["stop tracing client lamp/7 successfully."]);
    expect((await ctl("trace topic a/# off")).lines).toEqual(["stop tracing topic a/# successfully."]);
    expect(await ctl("trace topic a/# off")).toMatchObject({
      code: 1,
      lines: ["stop tracing topic a/# error: not_found"],
    });
    expect((await ctl("trace list")).lines).toEqual([]);
    const text = readFileSync(join(dir, "trace", "lamp.log"), "utf8");
    expect(text).toMatch(/ -> lamp\/7 127\.0\.0\.1 PUBLISH \d+B topic=a\/c packetId=\d+ qos=1 payload\(5\)=hello\n/);
    expect(text).toMatch(/ <- lamp\/7 127\.0\.0\.1 PUBACK /);
    expect(readFileSync(join(dir, "trace", "topic.log"), "utf8")).toContain("topic=a/c");
  });
});

describe("what emqttd_ctl did not have", () => {
  test("trace watch tells as it happens, until it is interrupted", async () => {
    const { promise: interrupted, resolve: interrupt } = Promise.withResolvers<void>();
    let seen = "";
    const watching = ctl("trace watch topic w/#", { interrupted, isJson: true, out: (text) => void (seen += text) });
    await eventually(() => site.broker.observation.tracer.list().length === 1);
    await lamp.publish("w/1", "x", { qos: 1 });
    await eventually(() => seen.includes("w/1"));
    interrupt();
    expect((await watching).code).toBe(0);
    const types = seen
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { type: string }).type);
    expect(types).toEqual(["PUBLISH", "dropped"]);
    expect(site.broker.observation.tracer.list()).toEqual([]);
  });

  test("keys", async () => {
    const asked: unknown[] = [];
    const answers: Record<string, unknown> = {
      GET: { items: [{ id: "k1", name: "prometheus", role: "viewer" }] },
      POST: { id: "k2", key: "mk_secret" },
    };
    const rest: CtlContext["rest"] = async (method, path, body) => {
      asked.push([method, path, body]);
      return answers[method];
    };
    expect((await ctl("keys list", { rest })).lines).toEqual(["Key(k1, name=prometheus, role=viewer, until=infinity)"]);
    expect((await ctl("keys add grafana", { rest, forSec: 60 })).lines).toEqual(["mk_secret"]);
    expect((await ctl("keys del k1", { rest })).lines).toEqual(["ok"]);
    expect((await ctl("keys add", { rest })).code).toBe(2);
    expect(asked).toEqual([
      ["GET", "/keys", undefined],
      ["POST", "/keys", { name: "grafana", role: "viewer", expiresAtSec: expect.any(Number) }],
      ["DELETE", "/keys/k1", undefined],
    ]);
  });

  test("rules", async () => {
    const file = join(dir, "rules.yaml");
    writeFileSync(file, '- { deny: publish, topics: ["$SYS/#"] }\n- { allow: all }\n');
    expect((await ctl(`rules put ${file}`)).lines).toEqual(["ok"]);
    expect((await ctl("rules list")).lines).toEqual(['{"deny":"publish","topics":["$SYS/#"]}', '{"allow":"all"}']);
    writeFileSync(file, "- { allow: nothing }\n");
    expect(ctl(`rules put ${file}`)).rejects.toThrow("rules.0.allow");
    expect((await ctl(`rules put ${file}.other`)).code).toBe(1);
    writeFileSync(file, "");
    expect((await ctl(`rules put ${file}`)).lines).toEqual(["ok"]);
    expect((await ctl("rules list")).lines).toEqual([]);
  });

  test("bans", async () => {
    expect((await ctl("bans add client rogue too_loud", { forSec: 60 })).lines).toEqual(["ok"]);
    expect((await ctl("bans list")).lines[0]).toMatch(/^Ban\(rogue, kind=clientId, until=\d+, reason=too_loud\)$/);
    expect((await ctl("bans del client rogue")).lines).toEqual(["ok"]);
    expect((await ctl("bans del client rogue")).code).toBe(1);
    expect((await ctl("bans add anything rogue")).code).toBe(2);
  });

  test("log level, alarms, slow, recon, mnesia", async () => {
    expect((await ctl("log level debug")).lines).toEqual(["debug"]);
    expect((await ctl("log level")).lines).toEqual(["debug"]);
    expect(ctl("log level loud")).rejects.toThrow("allowed: one of");
    await ctl("log level info");
    // On a busy machine there may be an alarm of its own.
    site.broker.observation.alarms.set({ id: "planted", severity: "error", title: "it is bad", summary: "very" });
    expect((await ctl("alarms list")).lines.at(-1)).toMatch(
      /^Alarm\(planted, severity=error, title=it is bad, set_at=\d+, pid=\d+, summary=very\)$/,
    );
    site.broker.observation.alarms.clear("planted");
    expect((await ctl("alarms history")).lines[0]).toContain(", cleared_at=");
    expect((await ctl("slow time")).lines).toEqual([]);
    expect((await ctl("recon node_stats")).lines[0]).toMatch(
      /^Process\(\d+, lag_ms=\d+, memory=\d+, heap=\d+, connections=2\)$/,
    );
    expect((await ctl("recon memory")).lines[1]).toMatch(/^ {2}resident {16}: \d+$/);
    const [file] = (await ctl("recon profile 1")).lines;
    expect(file).toStartWith(`${join(dir, "recon")}/`);
    expect((await ctl("mnesia")).lines[0]).toMatch(/^type {16}: memory$/);
  });
});

describe("commands that plugins add", () => {
  test("stand in help and are run with their words; a fault of theirs is told", async () => {
    const { host } = site.broker.plugins;
    const definition = definePlugin({
      name: "greeter",
      version: "1.0.0",
      description: "greets",
      start(api) {
        const run = (args: readonly string[]) => {
          if (args[0] === "nobody") throw new MantouError("greet_invalid", "there is nobody to greet");
          if (args[0] === "trouble") throw new Error("it went wrong");
          return args.length === 0 ? { count: 0 } : `hello ${args.join(" and ")}`;
        };
        api.command({ name: "greet", usage: "[Name]…", description: "Greet", run });
      },
    });
    await host.load(
      await host.know({ kind: "plugin", from: "test", options: undefined, read: async () => definition }),
    );
    expect((await ctl("plugins list")).lines).toContain(
      "Plugin(greeter, version=1.0.0, description=greets, active=true)",
    );
    expect((await ctl("help")).lines).toContain(`${"greet [Name]…".padEnd(48)}# Greet`);
    expect(await ctl("greet ann bob")).toMatchObject({ code: 0, lines: ["hello ann and bob"] });
    expect(await json("greet")).toEqual({ count: 0 });
    expect(ctl("greet nobody")).rejects.toThrow("there is nobody to greet");
    expect(ctl("greet trouble")).rejects.toThrow("plugin greeter: it went wrong");
    await ctl("greet trouble").catch(() => {});
    expect((await ctl("plugins list")).lines).toContain("  faults: 2, the last one: it went wrong");
    expect((await ctl("plugins unload greeter")).lines).toEqual(["Plugin greeter unloaded successfully."]);
    expect((await ctl("greet ann")).code).toBe(2);
  });
});

describe("every command", () => {
  test("has usage lines, 48 wide, in help and where its words make no sense", async () => {
    const { lines } = await ctl("help");
    for (const line of lines) expect(line).toMatch(/^.{48,}# \S/);
    expect(lines.filter((line) => line.indexOf("# ") === 48).length).toBeGreaterThan(lines.length - 3);
    for (const { name } of ctlCommands) {
      const { code, out } = await ctl(`${name} what is this supposed to be`);
      if (name === "bridges") continue;
      expect([name, code]).toEqual([name, 2]);
      expect(out).toStartWith(name);
    }
    expect(await ctl("clinets list")).toMatchObject({
      code: 2,
      err: "there is no command clinets; mantou ctl help shows what there is\n",
    });
    expect((await ctl("")).code).toBe(2);
  });

  test("answers in JSON too", async () => {
    const words =
      "status, broker, broker stats, clients list, sessions list, topics list, subscriptions show lamp/7, listeners, vm load";
    for (const each of words.split(", ")) expect(typeof (await json(each))).toBe("object");
    expect(await json("clients show lamp/7")).toMatchObject({ clientId: "lamp/7", username: "ann" });
    expect(await ctl("clients show nobody", { isJson: true })).toMatchObject({
      code: 1,
      out: '{\n  "error": "not_found"\n}\n',
    });
  });
});

test("over 9999 rows a list says so, and how many there are", async () => {
  const engine = site.engine;
  const items = Array.from({ length: 1000 }, (_, i) => i);
  const session = engine.sessions.find(Buffer.from("lamp/7"));
  for (let i = 0; i < 10; i++) {
    const filters = items.map((n) => ({ filter: Buffer.from(`many/${i}/${n}`), options: 0, id: 0 }));
    engine.subscribe(session, filters, () => {});
  }
  for (const what of ["subscriptions", "topics", "routes"]) {
    const { code, lines } = await ctl(`${what} list`);
    expect(code).toBe(1);
    expect(lines[0]).toMatch(new RegExp(`^Could not list, too many ${what}: 100\\d\\d$`));
  }
});

test("what a client chose cannot command the terminal", async () => {
  const evil = await site.harness.connect({ clientId: "e\u001b[2J\nClient(forged", version: 5 });
  const { lines } = await ctl("clients list");
  expect(lines.some((line) => line.startsWith("Client(forged"))).toBe(false);
  expect(lines.some((line) => line.startsWith("Client(e\\u001b[2J\\u000aClient(forged,"))).toBe(true);
  evil.kill();
});
