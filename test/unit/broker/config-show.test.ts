import { expect, test } from "bun:test";
import { formatConfigYaml, toPlainConfig } from "#broker/config-show.ts";
import { loadConfig } from "#broker/config.ts";

const load = (text: string | undefined, set: readonly string[] = []) =>
  loadConfig({
    flags: { set },
    env: { MANTOU__LOG__FORMAT: "json" },
    cwd: "/site",
    readFile: () => {
      if (text === undefined) throw Object.assign(new Error("none"), { code: "ENOENT" });
      return text;
    },
  });

const FILE = `
listeners:
  - { name: a, type: tcp, bind: "[::1]:0", connectionsMax: 7 }
  - { name: b, type: tcp, bind: 127.0.0.1:1883 }
broker:
  responseInformation: "true"
  serverReference: "a: 'b' # c"
`;

test("the shown YAML is a file that gives the same configuration", () => {
  const loaded = load(FILE, ["mqtt.packetBytesMax=1000", "retained.expirySec=1d", "session.queueQos0=true"]);
  const again = load(formatConfigYaml(loaded));
  expect(again.config).toEqual(loaded.config);
});

test("the plain form is one too", () => {
  const loaded = load(FILE);
  expect(load(JSON.stringify(toPlainConfig(loaded.config))).config).toEqual(loaded.config);
});

test("each value stands with its origin", () => {
  const lines = formatConfigYaml(load(FILE, ["session.outboxBytesMax=1MiB"])).split("\n");
  const words = lines.map((line) => line.trim().replaceAll(/ {2,}/g, "  "));
  expect(words).toContain("name: mantou@127.0.0.1  # default");
  expect(words).toContain('bind: "[::1]:0"  # mantou.yaml:3');
  expect(words).toContain("connectionsMax: 7  # mantou.yaml:3");
  expect(words).toContain('responseInformation: "true"  # mantou.yaml:6');
  expect(words).toContain("format: json  # MANTOU__LOG__FORMAT");
  expect(words).toContain("outboxBytesMax: 1MiB  # --set");
  const columns = lines.filter((line) => / {2}# \S+$/.test(line)).map((line) => line.lastIndexOf("  # "));
  expect(new Set(columns).size).toBe(1);
});
