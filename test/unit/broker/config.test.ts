import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MantouError } from "#base/error.ts";
import { adminSchema } from "#broker/admin-schema.ts";
import { modulesSchema } from "#broker/plugin-schema.ts";
import { accessSchema } from "#broker/access-schema.ts";
import { alarmSchema } from "#broker/alarm-schema.ts";
import { loadConfig, type ConfigFlags } from "#broker/config.ts";
import { listenerSchema } from "#broker/listener-schema.ts";
import { limitTable, makeLimits } from "#core/limits.ts";

interface Given extends ConfigFlags {
  readonly file?: string;
  readonly env?: Record<string, string>;
}

function fault(code: string): never {
  throw Object.assign(new Error(`${code}: as the system says it`), { code });
}

function load({ file, env = {}, ...flags }: Given) {
  const readFile = (path: string) => {
    expect(path).toBe(`/site/${flags.config ?? "mantou.yaml"}`);
    return file ?? fault("ENOENT");
  };
  return loadConfig({ flags, env, cwd: "/site", readFile });
}

function problemsOf(given: Given): string[] {
  try {
    load(given);
  } catch (error) {
    expect(error).toBeInstanceOf(MantouError);
    const { code, message, details } = error as MantouError;
    expect(code).toBe("config_invalid");
    expect(message).toBe((details["problems"] as string[]).join("\n"));
    return details["problems"] as string[];
  }
  return [];
}

const SECTIONS =
  "node, workers, listeners, admin, mqtt, session, messages, retained, shared, cache, send, priorities, store, access, modules, plugins, broker, alarms, log";
const LISTEN =
  "tcp://HOST:PORT, tls://HOST:PORT, ws://HOST:PORT, wss://HOST:PORT, unix:///PATH, http://HOST:PORT, https://HOST:PORT, admin://HOST:PORT";

describe("defaults", () => {
  test("with nothing given, the limits are those of the table", () => {
    const { config, file } = load({});
    expect(file).toBeUndefined();
    expect(config).toEqual({
      node: { name: "mantou@127.0.0.1", data: "./data" },
      workers: 1,
      listeners: [
        { name: "tcp", type: "tcp", bind: { host: "0.0.0.0", port: 1883 } },
        { name: "ws", type: "ws", bind: { host: "0.0.0.0", port: 8083 } },
      ],
      admin: adminSchema.parse({}),
      ...makeLimits(),
      priorities: [],
      store: { type: "sqlite", sync: "full" },
      access: accessSchema.parse({}),
      modules: modulesSchema.parse({}),
      plugins: [],
      broker: {
        drainSecMax: 5,
        lagMsMax: 1000,
        memoryBytesMax: 0,
        httpConnectionsMax: 10_000,
        responseInformation: "",
        serverReference: "",
      },
      alarms: alarmSchema.parse({}),
      log: {
        level: "info",
        format: "text",
        to: "stdout",
        dir: "./log",
        fileBytesMax: 32 * 1024 ** 2,
        fileCountMax: 30,
      },
    });
  });

  test("one load does not change the next", () => {
    load({ set: ["listeners.0.bind=127.0.0.1:1", "session.countMax=1"] });
    const { config } = load({});
    expect(config.listeners[0]?.bind.port).toBe(1883);
    expect(config.session.countMax).toBe(limitTable.session.countMax.default);
  });

  test.each(["", "# only a comment\n", "session:\nlog:\n  # level: warn\n", "---\n"])("%j changes nothing", (file) => {
    expect(load({ file }).config).toEqual(load({}).config);
  });

  test("every limit takes its least and its greatest value and nothing beyond", () => {
    for (const [section, limits] of Object.entries(limitTable))
      for (const [key, limit] of Object.entries(limits)) {
        if (!("min" in limit)) continue;
        const set = (value: number) => [`${section}.${key}=${value}`];
        const valueAfter = (value: number) =>
          (load({ set: set(value) }).config as unknown as Record<string, Record<string, number>>)[section]?.[key];
        expect(valueAfter(limit.min)).toBe(limit.min);
        expect(valueAfter(limit.max)).toBe(limit.max);
        for (const value of [limit.min - 1, limit.max + 1, limit.min + 0.5]) {
          const [problem = "", ...more] = problemsOf({ set: set(value) });
          expect(more).toEqual([]);
          expect(problem).toStartWith(
            `--set: ${section}.${key}: found ${value}, allowed: a whole number from ${limit.min} to ${limit.max}`,
          );
        }
      }
  });
});

test.each(["0", "65", "1.5", "-1", "many"])("workers: %s is told what is allowed", (workers) => {
  expect(problemsOf({ set: [`workers=${workers}`] })).toEqual([
    `--set: workers: found ${workers === "many" ? '"many"' : workers}, allowed: auto, or a whole number from 1 to 64`,
  ]);
});

describe("precedence and origin", () => {
  const key = "session.inflightCountMax";
  const file = "log: { level: warn }\nsession:\n  inflightCountMax: 10\n";
  const env = { MANTOU__SESSION__INFLIGHTCOUNTMAX: "20", PATH: "/bin", MANTOU_OTHER: "x" };

  test("the default, when nobody says otherwise", () => {
    const { config, originOf } = load({});
    expect(config.session.inflightCountMax).toBe(1024);
    expect(originOf(key)).toEqual({ source: "default", where: "default" });
  });

  test("the file over the default, with the line", () => {
    const loaded = load({ file });
    expect(loaded.config.session.inflightCountMax).toBe(10);
    expect(loaded.originOf(key)).toEqual({ source: "file", where: "mantou.yaml:3" });
    expect(loaded.originOf("log.level")).toEqual({ source: "file", where: "mantou.yaml:1" });
    expect(loaded.originOf("log.format").source).toBe("default");
    expect(loaded.file).toBe("mantou.yaml");
  });

  test("--config names another file", () => {
    const loaded = load({ file, config: "conf/site.yaml" });
    expect(loaded.originOf(key).where).toBe("conf/site.yaml:3");
    expect(loaded.file).toBe("conf/site.yaml");
  });

  test("the environment over the file", () => {
    const { config, originOf } = load({ file, env });
    expect(config.session.inflightCountMax).toBe(20);
    expect(originOf(key)).toEqual({ source: "environment", where: "MANTOU__SESSION__INFLIGHTCOUNTMAX" });
  });

  test("--set over the environment, the last one wins", () => {
    const { config, originOf } = load({ file, env, set: [`${key}=30`, `${key}=40`] });
    expect(config.session.inflightCountMax).toBe(40);
    expect(originOf(key)).toEqual({ source: "--set", where: "--set" });
  });

  test("--listen over every listener there is", () => {
    const { config, originOf } = load({
      file: "listeners:\n  - { name: a, type: tcp, bind: 0.0.0.0:1, connectionsMax: 5 }\n",
      set: ["listeners.0.bind=127.0.0.1:2"],
      listen: ["tcp://127.0.0.1:2883", "TCP://[::1]:0"],
    });
    expect(config.listeners).toEqual([
      { name: "tcp", type: "tcp", bind: { host: "127.0.0.1", port: 2883 } },
      { name: "tcp-2", type: "tcp", bind: { host: "::1", port: 0 } },
    ]);
    expect(originOf("listeners.1.bind")).toEqual({ source: "--listen", where: "--listen" });
  });

  test("a list of the file replaces the default one, and elements can be set by index", () => {
    const { config, originOf } = load({
      file: "listeners:\n- name: a\n  type: tcp\n  bind: 0.0.0.0:1\n- name: b\n  type: tcp\n  bind: 0.0.0.0:2\n",
      env: { MANTOU__LISTENERS__1__BIND: "0.0.0.0:20", mantou__Listeners__1__ConnectionsMax: "7" },
      set: ["listeners.2.name=c", "listeners.2.type=tcp", "listeners.2.bind=[::1]:3"],
    });
    expect(config.listeners).toEqual([
      { name: "a", type: "tcp", bind: { host: "0.0.0.0", port: 1 } },
      { name: "b", type: "tcp", bind: { host: "0.0.0.0", port: 20 }, connectionsMax: 7 },
      { name: "c", type: "tcp", bind: { host: "::1", port: 3 } },
    ]);
    expect(originOf("listeners.0.bind").where).toBe("mantou.yaml:4");
    expect(originOf("listeners.1.bind").where).toBe("MANTOU__LISTENERS__1__BIND");
    expect(originOf("listeners.2.bind").where).toBe("--set");
  });

  test("the environment adds elements in the order of their numbers", () => {
    const env: Record<string, string> = {};
    for (let index = 11; index >= 0; index--)
      env[`MANTOU__LISTENERS__${index}`] = `{ name: l${index}, type: tcp, bind: "127.0.0.1:0" }`;
    expect(load({ env }).config.listeners.map(({ name }) => name)).toEqual(
      Array.from({ length: 12 }, (_, index) => `l${index}`),
    );
  });

  test("a whole section can be set as YAML and leaves its other keys alone", () => {
    const { config } = load({ file, set: ["session={queueQos0: true}"], env: { MANTOU__LOG: "{ format: json }" } });
    expect(config.session).toMatchObject({ inflightCountMax: 10, queueQos0: true });
    expect(config.log).toMatchObject({ level: "warn", format: "json" });
  });

  test("a wrong value that something stronger replaces is no problem", () => {
    expect(problemsOf({ file: "session: { inflightCountMax: lots }", set: [`${key}=5`] })).toEqual([]);
  });

  test("values carry units, and nothing means an empty text", () => {
    const { config } = load({
      file: "mqtt: { packetBytesMax: 64KiB, connectTimeoutSec: 5m, retain: false }\nbroker: { drainSecMax: 1.5m }\n",
      env: { MANTOU__SEND__LINKBYTESMAX: "1GiB", MANTOU__BROKER__RESPONSEINFORMATION: "" },
      set: ["broker.serverReference=other:1883", "session.dropPolicy=newest"],
    });
    expect(config.mqtt).toMatchObject({ packetBytesMax: 65_536, connectTimeoutSec: 300, retain: false });
    expect(config.send.linkBytesMax).toBe(1024 ** 3);
    expect(config.broker).toMatchObject({ drainSecMax: 90, responseInformation: "", serverReference: "other:1883" });
    expect(config.session.dropPolicy).toBe("newest");
  });
});

describe("problems, word by word", () => {
  test("all at once, from every source", () => {
    const file = [
      "sesion: { a: 1 }",
      "session:",
      "  inflightCountMax: lots",
      "  dropPolicy: oldst",
      "mqtt: { retain: 1, packetBytesMax: 1MB }",
      "log:",
      "  level: [info]",
      "  format:",
    ].join("\n");
    expect(
      problemsOf({
        file,
        env: { MANTOU__MQTT__QOSMAX: "3", MANTOU__MQTT__QOS: "1" },
        set: ["cache.matchCountMax=1", "node.name=mantou", "shared={strategy: x}"],
        listen: ["foo://127.0.0.1:1"],
      }),
    ).toEqual([
      `mantou.yaml:1: sesion: found an unknown key, allowed: ${SECTIONS}; did you mean "session"?`,
      "MANTOU__MQTT__QOS: mqtt.QOS: found an unknown key, allowed: " + Object.keys(limitTable.mqtt).join(", "),
      `--listen: found "foo://127.0.0.1:1", allowed: ${LISTEN}`,
      '--set: node.name: found "mantou", allowed: NAME@HOST of letters, digits, . _ - (in HOST also :), at most 255 characters',
      'mantou.yaml:5: mqtt.packetBytesMax: found "1MB", allowed: a whole number from 128 to 268435460, or with a unit (B, KiB, MiB, GiB, TiB)',
      "MANTOU__MQTT__QOSMAX: mqtt.qosMax: found 3, allowed: a whole number from 0 to 2",
      "mantou.yaml:5: mqtt.retain: found 1, allowed: true or false",
      'mantou.yaml:3: session.inflightCountMax: found "lots", allowed: a whole number from 1 to 65535',
      'mantou.yaml:4: session.dropPolicy: found "oldst", allowed: one of oldest, newest, disconnect',
      '--set: shared.strategy: found "x", allowed: one of random, round-robin, sticky, hash-client, hash-topic, local',
      "--set: cache.matchCountMax: found 1, allowed: a whole number from 256 to 4194304",
      "mantou.yaml:7: log.level: found a list, allowed: one of trace, debug, info, warn, error, silent",
      "mantou.yaml:8: log.format: found nothing, allowed: one of text, json",
    ]);
  });

  const KEYS = {
    session: Object.keys(limitTable.session).join(", "),
    listener: Object.keys(listenerSchema.shape).join(", "),
  };
  const BIND = "HOST:PORT with a port from 0 to 65535, such as 0.0.0.0:1883 or [::1]:1883";
  const cases: [given: Given, ...problems: string[]][] = [
    [{ set: ["session=5"] }, `--set: session: found 5, allowed: a mapping with the keys ${KEYS.session}`],
    [
      { file: "session: [1]" },
      `mantou.yaml:1: session: found a list, allowed: a mapping with the keys ${KEYS.session}`,
    ],
    [{ set: ["log.level.x=1"] }, "--set: log.level.x: found an unknown key, allowed: none below this one"],
    [{ set: ["nonsense"] }, '--set: found "nonsense", allowed: KEY=VALUE, such as session.inflightCountMax=50'],
    [{ set: ["=5"] }, '--set: found "=5", allowed: KEY=VALUE, such as session.inflightCountMax=50'],
    [
      { set: ["session.inflightcountmax=5"] },
      `--set: session.inflightcountmax: found an unknown key, allowed: ${KEYS.session}; did you mean "inflightCountMax"?`,
    ],
    [{ set: ["session..x=5"] }, `--set: session.: found an unknown key, allowed: ${KEYS.session}`],
    [
      { env: { MANTOU__LOG__LEVEL: "" } },
      'MANTOU__LOG__LEVEL: log.level: found "", allowed: one of trace, debug, info, warn, error, silent',
    ],
    [{ env: { MANTOU__: "1" } }, `MANTOU__: found an unknown key, allowed: ${SECTIONS}`],
    [
      { file: "store: { type: postgres }" },
      'mantou.yaml:1: store.type: found "postgres", allowed: one of sqlite, memory',
    ],
    [{ file: "dashboards: 1" }, `mantou.yaml:1: dashboards: found an unknown key, allowed: ${SECTIONS}`],
    [
      { set: ["session.expirySecMax=.inf"] },
      "--set: session.expirySecMax: found Infinity, allowed: a whole number from 0 to 4294967295, or with a unit (s, m, h, d)",
    ],
    [
      { set: ['broker.responseInformation="a\\nb"'] },
      '--set: broker.responseInformation: found "a\\nb", allowed: text of at most 65535 bytes without control characters; empty: none',
    ],
    [{ file: "listeners: []" }, "mantou.yaml:1: listeners: found a list, allowed: at least one listener"],
    [{ file: "listeners:" }, "mantou.yaml:1: listeners: found nothing, allowed: a list"],
    [{ file: "listeners: { name: a }" }, "mantou.yaml:1: listeners: found a mapping, allowed: a list"],
    [
      { file: "listeners:\n  - 5\n  - { name: a, type: tcp, bind: h:1 }\n" },
      `mantou.yaml:2: listeners.0: found 5, allowed: a mapping with the keys ${KEYS.listener}`,
    ],
    [
      { file: "listeners:\n  - tcp\n" },
      `mantou.yaml:2: listeners.0: found "tcp", allowed: a mapping with the keys ${KEYS.listener}`,
    ],
    [
      { file: "listeners:\n  -\n" },
      `mantou.yaml:2: listeners.0: found nothing, allowed: a mapping with the keys ${KEYS.listener}`,
    ],
    [
      { file: "listeners:\n  - { name: a, type: tcp }\n" },
      `mantou.yaml:2: listeners.0.bind: found nothing, allowed: ${BIND}`,
    ],
    [
      { file: "listeners:\n  - name: a\n    type: udp\n    bind: 1883\n" },
      'mantou.yaml:3: listeners.0.type: found "udp", allowed: one of tcp, tls, ws, wss, unix',
      `mantou.yaml:4: listeners.0.bind: found 1883, allowed: ${BIND}`,
    ],
    [{ set: ["listeners.3.name=x"] }, "--set: listeners.3: found an unknown element, allowed: a number from 0 to 2"],
    [{ set: ["listeners.x.name=x"] }, "--set: listeners.x: found an unknown element, allowed: a number from 0 to 2"],
    [
      { set: ["listeners.0.name=a b"] },
      '--set: listeners.0.name: found "a b", allowed: a name of letters, digits, . _ -, at most 64, starting with a letter or digit',
    ],
    [{ listen: ["127.0.0.1:1883"] }, `--listen: found "127.0.0.1:1883", allowed: ${LISTEN}`],
    [{ listen: ["tcp://1883"] }, `--listen: found "tcp://1883", allowed: tcp:// and ${BIND}`],
    [{ listen: ["tcp://h:1/path"] }, `--listen: found "tcp://h:1/path", allowed: tcp:// and ${BIND}`],
    [
      { listen: ["tcp://h:1", "tcp://H:1"] },
      '--listen: listeners.1.bind: found "H:1", allowed: what no other listener has (listeners.0.bind has it)',
    ],
    [
      { file: "session:\n  countMax: 1\n\nsession:\n  countMax: 2\n" },
      "mantou.yaml:4: session: found again, allowed: once (first on line 1)",
    ],
  ];
  test.each(cases.map(([given, ...problems]) => [JSON.stringify(given), given, problems] as const))(
    "%s",
    (_, given, problems) => {
      expect(problemsOf(given)).toEqual(problems);
    },
  );

  test("two listeners of one name or address; port 0 may repeat", () => {
    const file =
      "listeners:\n  - { name: a, type: tcp, bind: localhost:1 }\n  - { name: a, type: tcp, bind: localhost:1 }\n";
    expect(problemsOf({ file })).toEqual([
      'mantou.yaml:3: listeners.1.name: found "a", allowed: what no other listener has (listeners.0.name has it)',
      'mantou.yaml:3: listeners.1.bind: found "localhost:1", allowed: what no other listener has (listeners.0.bind has it)',
    ]);
    expect(problemsOf({ listen: ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"] })).toEqual([]);
  });

  test.each(["__proto__", "constructor", "prototype", "toString"])("%s is an unknown key everywhere", (key) => {
    const problems = problemsOf({
      file: `${key}: { x: 1 }\nsession: { ${key}: { y: 1 } }\n`,
      env: { MANTOU__LOG: `{ ${key}: 1 }` },
      set: [`${key}.x=1`, `session.${key}=1`, `log={${key}: 1}`, `listeners.0.${key}=1`],
    });
    expect(problems).toHaveLength(7);
    for (const problem of problems) expect(problem).toContain(`${key}: found an unknown key, allowed: `);
    expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
  });

  test("what was found is shown on one line and not at length", () => {
    const [problem = ""] = problemsOf({ file: `log: { level: "a\\n\\e[31m\\u202e${"x".repeat(1000)}" }` });
    expect(problem).toStartWith('mantou.yaml:1: log.level: found "a\\n\\u001b[31m\\u202e' + "xxx");
    expect(problem).toContain('…", allowed');
    expect(problem.length).toBeLessThan(220);
  });
});

describe("a file that cannot be used", () => {
  const problem = (code: string, config?: string): string[] => {
    try {
      loadConfig({ flags: { config }, env: {}, cwd: "/site", readFile: () => fault(code) });
      return [];
    } catch (error) {
      return (error as Error).message.split("\n");
    }
  };

  test("is said to be missing, a directory, or not readable", () => {
    expect(problem("ENOENT", "x.yaml")).toEqual(["x.yaml: found no such file, allowed: a readable YAML file"]);
    expect(problem("EISDIR", "x")).toEqual(["x: found a directory, allowed: a readable YAML file"]);
    expect(problem("EACCES", "x")).toEqual([
      "x: found a file that this user may not read, allowed: a readable YAML file",
    ]);
    expect(problem("EIO", "x")).toEqual(["x: found EIO: as the system says it, allowed: a readable YAML file"]);
    expect(problem("EISDIR", "")).toEqual(["--config: found nothing, allowed: a readable YAML file"]);
  });

  test("is a problem without --config too, unless it is just not there", () => {
    expect(problem("ENOENT")).toEqual([]);
    expect(problem("EACCES")).toEqual([
      "mantou.yaml: found a file that this user may not read, allowed: a readable YAML file",
    ]);
  });

  test("of real file systems", () => {
    const cwd = mkdtempSync(join(tmpdir(), "mantou-config-"));
    try {
      const attempt = (config?: string) => loadConfig({ flags: { config }, env: {}, cwd });
      expect(() => attempt("none.yaml")).toThrow("none.yaml: found no such file, allowed: a readable YAML file");
      expect(() => attempt(".")).toThrow(".: found a directory, allowed: a readable YAML file");
      expect(attempt().file).toBeUndefined();
      writeFileSync(join(cwd, "mantou.yaml"), "\ufefflog:\r\n  level: warn\r\n");
      const { config, originOf } = attempt();
      expect(config.log.level).toBe("warn");
      expect(originOf("log.level").where).toBe("mantou.yaml:2");
    } finally {
      rmSync(cwd, { recursive: true });
    }
  });

  test("because it is not YAML: line and column, and the other sources' problems with it", () => {
    expect(problemsOf({ file: "log:\n  level: @info\n", set: ["x=1"] })).toEqual([
      "mantou.yaml:2:10: found a YAML syntax error (unexpected token)",
      `--set: x: found an unknown key, allowed: ${SECTIONS}`,
    ]);
  });

  test.each([
    ["just text", '"just text"'],
    ["- a\n- b\n", "a list"],
    ["42", "42"],
    ["a: 1\n---\nb: 2\n", "a list"],
  ])("because %j is not a mapping", (file, found) => {
    expect(problemsOf({ file })).toEqual([`mantou.yaml: found ${found}, allowed: one mapping of sections`]);
  });

  test("because it contains itself", () => {
    expect(problemsOf({ file: "session: &s { countMax: *s, x: *s }" })).toEqual([
      `mantou.yaml:1: session.x: found an unknown key, allowed: ${KEYS_OF_SESSION}`,
      "mantou.yaml:1: session.countMax: found a mapping, allowed: a whole number from 1 to 100000000",
    ]);
  });
});

const KEYS_OF_SESSION = Object.keys(limitTable.session).join(", ");
