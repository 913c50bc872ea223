import { describe, expect, test } from "bun:test";
import { loadConfig } from "#broker/config.ts";
import { formatConfigYaml } from "#broker/config-show.ts";
import { configJsonSchema } from "#broker/config-schema.ts";
import { listenerDefaults } from "#broker/listener-schema.ts";

function load(given: { file?: string; listen?: string[] }) {
  const readFile = (): string => {
    if (given.file === undefined) throw Object.assign(new Error("none"), { code: "ENOENT" });
    return given.file;
  };
  return loadConfig({ flags: { listen: given.listen ?? [] }, env: {}, cwd: "/", readFile });
}

const listenersOf = (given: Parameters<typeof load>[0]) => load(given).config.listeners;

function problemsOf(given: Parameters<typeof load>[0]): string[] {
  try {
    load(given);
  } catch (error) {
    return (error as Error).message.split("\n");
  }
  return [];
}

const one = (keys: string) => ({ file: `listeners:\n- { name: a, ${keys} }\n` });

describe("listeners of a file", () => {
  test("of every type, with what belongs to it", () => {
    const file = `
listeners:
- { name: tcp, type: tcp, bind: "[::]:1883", access: [allow 10.0.0.0/8, deny all], readRateBytes: 1MiB, acceptRate: 500 }
- name: tls
  type: tls
  bind: 0.0.0.0:8883
  cert: a.pem
  key: a.key
  moreCertificates: [{ cert: b.pem, key: b.key }]
  ca: ca.pem
  verify: required
  tlsVersionMin: "1.3"
  identityAs: clientId
  handshakeSecMax: 5s
- { name: ws, type: ws, bind: 0.0.0.0:8083, path: /, origins: [https://app.example] }
- { name: wss, type: wss, bind: 0.0.0.0:8084, cert: a.pem, key: a.key, proxyFrom: [10.0.0.1, all] }
- { name: unix, type: unix, bind: /run/mantou.sock }
`;
    const [tcp, tls, ws, wss, unix] = listenersOf({ file });
    expect(tcp).toMatchObject({
      bind: { host: "::" },
      access: ["allow 10.0.0.0/8", "deny all"],
      readRateBytes: 1_048_576,
    });
    expect(tls).toMatchObject({ verify: "required", tlsVersionMin: "1.3", identityAs: "clientId", handshakeSecMax: 5 });
    expect(tls!.moreCertificates).toEqual([{ cert: "b.pem", key: "b.key" }]);
    expect(ws).toMatchObject({ path: "/", origins: ["https://app.example"] });
    expect(wss).toMatchObject({ proxyFrom: ["10.0.0.1", "all"] });
    expect(unix!.bind.path).toBe("/run/mantou.sock");
    const shown = formatConfigYaml(load({ file }));
    expect(listenersOf({ file: shown })).toEqual(listenersOf({ file }));
  });

  const wrong: [keys: string, ...problems: (string | RegExp)[]][] = [
    ["type: tls, bind: h:1", /cert: found nothing, allowed: the path of a PEM file/, /key: found nothing/],
    [
      "type: tls, bind: h:1, cert: a, key: b, verify: optional",
      /ca: found nothing, allowed: the path of a PEM file, since/,
    ],
    ["type: tcp, bind: h:1, cert: a", /cert: found "a", allowed: only for tls and wss/],
    ["type: tls, bind: h:1, cert: a, key: b, path: /x", /path: found "\/x", allowed: only for ws and wss/],
    ["type: tcp, bind: /run/x", /bind: found "\/run\/x", allowed: HOST:PORT/],
    ["type: unix, bind: h:1", /bind: found "h:1", allowed: an absolute path/],
    [`type: unix, bind: /${"x".repeat(107)}`, /bind: .*, allowed: an absolute path of at most 107 bytes/],
    ["type: tcp, bind: h:1, access: [deny everybody]", /access\.0: found "deny everybody", allowed: allow or deny and/],
    ["type: tcp, bind: h:1, access: deny all", /access: found "deny all", allowed: a list/],
    ["type: tcp, bind: h:1, proxyFrom: [10.0.0.0/99]", /proxyFrom\.0: found "10.0.0.0\/99", allowed: all, an address/],
    ["type: ws, bind: h:1, path: mqtt", /path: found "mqtt", allowed: a path such as \/mqtt/],
    ["type: ws, bind: h:1, origins: [app.example]", /origins\.0: found "app.example", allowed: an origin such as/],
    ["type: tcp, bind: h:1, handshakeSecMax: 0", /handshakeSecMax: found 0, allowed: a whole number from 1 to 3600/],
    ["type: tcp, bind: h:1, certs: []", /certs: found an unknown key, allowed: name, type, bind/],
  ];
  test.each(wrong)("{ %s } is refused", (keys, ...problems) => {
    const found = problemsOf(one(keys));
    expect(found).toHaveLength(problems.length);
    problems.forEach((problem, i) => expect(found[i]).toMatch(problem));
  });

  test("what is not set stays away, and the JSON Schema knows its default", () => {
    expect(listenersOf(one("type: tcp, bind: h:1"))).toEqual([
      { name: "a", type: "tcp", bind: { host: "h", port: 1 } },
    ]);
    const schema = configJsonSchema() as {
      properties: { listeners: { items: { properties: Record<string, { default: unknown }> } } };
    };
    const { properties } = schema.properties.listeners.items;
    for (const [key, value] of Object.entries(listenerDefaults)) expect(properties[key]!.default).toBe(value);
  });
});

describe("--listen", () => {
  test("takes every type, and more keys after a question mark", () => {
    const listen = [
      "tcp://127.0.0.1:0",
      "unix:///run/mantou.sock",
      "ws://[::1]:8083?path=/x&origins=[https://a.example]",
      "tls://0.0.0.0:8883?cert=/etc/a.pem&key=/etc/a.key&verify=required&ca=/etc/ca.pem&handshakesMax=5",
    ];
    const listeners = listenersOf({ listen });
    expect(listeners.map(({ name, type }) => `${name} ${type}`)).toEqual([
      "tcp tcp",
      "unix-2 unix",
      "ws-3 ws",
      "tls-4 tls",
    ]);
    expect(listeners[1]!.bind.path).toBe("/run/mantou.sock");
    expect(listeners[2]).toMatchObject({ path: "/x", origins: ["https://a.example"] });
    expect(listeners[3]).toMatchObject({ cert: "/etc/a.pem", verify: "required", handshakesMax: 5 });
  });

  test.each([
    ["unix://run/x", '--listen: found "unix://run/x", allowed: unix:// and an absolute path'],
    ["tls://h:1", "--listen: listeners.0.cert: found nothing, allowed: the path of a PEM file"],
    ["tcp://h:1?color=red", "--listen: listeners.0.color: found an unknown key"],
    ["ws://h", '--listen: found "ws://h", allowed: ws:// and HOST:PORT'],
  ])("%s is refused", (address, words) => {
    expect(problemsOf({ listen: [address] })[0]).toContain(words);
  });
});
