import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { limitsConf, sysctlConf } from "#tuning/conf.ts";
import { type Knob, knobs, nofileKnob, roomiest, SHIPPED_CONNECTIONS, sysctlPath } from "#tuning/knobs.ts";
import { planLine, plan } from "#tuning/plan.ts";
import { readMachine } from "#tuning/machine.ts";
import { AMPLE, type Files, limits, PlantedMachine } from "./planted-machine.ts";

const folder = resolve(import.meta.dir, "../../../tuning");
const text = (file: string) => readFileSync(join(folder, file), "utf8");
const COUNTS = [1, 1000, 20_000, 100_000, 1_000_000, 1_044_480, 1_044_481, 10_000_000];

function knob(name: string): Knob {
  return knobs.find((at) => at.name === name)!;
}

describe("the files in the repository", () => {
  test("sysctl.conf and limits.conf are what conf.ts makes of the knobs", () => {
    expect(text("sysctl.conf")).toBe(sysctlConf(SHIPPED_CONNECTIONS));
    expect(text("limits.conf")).toBe(limitsConf(SHIPPED_CONNECTIONS));
  });

  test("sysctl.conf has every kernel knob once, and says all of it", () => {
    const conf = text("sysctl.conf").replaceAll(/\n# {2,}(?=\S)/g, " ");
    for (const at of knobs.filter(({ where }) => where === "sysctl")) {
      const value = at.recommended(SHIPPED_CONNECTIONS).join(" ");
      const prefix = at.side === "clients" ? "# " : at.isOptional ? "-" : "";
      expect(conf.split("\n").filter((line) => line === `${prefix}${at.name} = ${value}`)).toHaveLength(1);
      for (const said of [at.unit, at.kernelDefault, at.undo]) expect(conf).toContain(said);
    }
  });

  test("mantou.service has the same descriptor limit", () => {
    const value = nofileKnob().recommended(SHIPPED_CONNECTIONS)[0];
    expect(text("mantou.service").match(/^LimitNOFILE=.*$/gm)).toEqual([`LimitNOFILE=${value}`]);
  });

  test("the guide's table has every knob with its value", () => {
    const guide = text("README.md");
    for (const at of knobs) {
      const row = guide.split("\n").find((line) => line.startsWith(`| \`${at.name}\``));
      expect(row?.split("|")[3]?.trim()).toBe(`\`${at.recommended(SHIPPED_CONNECTIONS).join(" ")}\``);
    }
  });

  test("bun.env sets nothing that its table does not defend", () => {
    const settings = text("bun.env")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(settings).toEqual([]);
  });
});

describe("the values", () => {
  test("no descriptor limit is ever above nr_open: logins would fail", () => {
    for (const count of COUNTS)
      expect(knob("fs.nr_open").recommended(count)[0]).toBeGreaterThanOrEqual(nofileKnob().recommended(count)[0]!);
  });

  test("they hold what they are for", () => {
    for (const count of COUNTS) {
      expect(nofileKnob().recommended(count)[0]).toBeGreaterThanOrEqual(count + 256);
      expect(knob("fs.file-max").recommended(count)[0]).toBeGreaterThan(2 * count);
      expect(knob("fs.epoll.max_user_watches").recommended(count)[0]).toBeGreaterThan(2 * count);
      const [low, pressure, high] = knob("net.ipv4.tcp_mem").recommended(count);
      expect(low! <= pressure! && pressure! <= high!).toBe(true);
    }
  });

  test("they never shrink with more connections", () => {
    for (const at of knobs) {
      const values = COUNTS.map((count) => at.recommended(count)[0]!);
      expect(values).toEqual(values.toSorted((a, b) => a - b));
    }
  });

  test("queues stay within what is of use", () => {
    expect(COUNTS.map((count) => knob("net.core.somaxconn").recommended(count)[0])).toEqual([
      1024, 1024, 1024, 4096, 32_768, 32_768, 32_768, 32_768,
    ]);
    expect(knob("net.core.netdev_max_backlog").recommended(20_000)).toEqual([1000]);
  });

  test("roomiest never narrows a field", () => {
    expect(roomiest(knob("net.ipv4.tcp_mem"), [1, 9, 5], [2, 3, 6])).toEqual([2, 9, 6]);
    expect(roomiest(knob("net.ipv4.ip_local_port_range"), [500, 60_999], [1024, 65_535])).toEqual([500, 65_535]);
    expect(roomiest(knob("fs.file-max"), [], [7])).toEqual([7]);
  });

  test("a name's place", () => {
    expect(sysctlPath("fs.epoll.max_user_watches")).toBe("proc/sys/fs/epoll/max_user_watches");
  });
});

describe("the plan", () => {
  function planOf(files: Files, connections: number, withClients = false): string[] {
    using planted = new PlantedMachine(files);
    return plan(readMachine(planted), connections, withClients).map(planLine);
  }

  test("sets what is too low, keeps what is enough, skips what is not here", () => {
    expect(planOf({}, 1_000_000)).toEqual([
      "keep|sysctl|fs.nr_open|1048576|1048576|",
      "set|sysctl|fs.file-max|1600000|2065536|",
      "keep|sysctl|fs.epoll.max_user_watches|3600000|3600000|",
      "set|nofile|nofile|20000|1048576|",
      "set|sysctl|net.core.somaxconn|4096|32768|",
      "set|sysctl|net.ipv4.tcp_max_syn_backlog|2048|32768|",
      "set|sysctl|net.core.netdev_max_backlog|1000|16384|",
      "set|sysctl|net.ipv4.tcp_mem|190000 250000 380000|500000 750000 1000000|",
      "skip|sysctl|net.netfilter.nf_conntrack_max||1250000|not here",
    ]);
  });

  test("an ample machine needs nothing, and local ports only with test clients", () => {
    expect(planOf(AMPLE, 1_000_000).filter((line) => line.startsWith("set"))).toEqual([]);
    expect(planOf(AMPLE, 1_000_000, true).filter((line) => line.startsWith("set"))).toEqual([
      "set|sysctl|net.ipv4.ip_local_port_range|32768 60999|1024 65535|",
    ]);
  });

  test("unlimited descriptors are enough", () => {
    const unlimited = planOf({ "proc/self/limits": limits("1024", "unlimited") }, 1_000_000);
    expect(unlimited[3]).toStartWith("keep|nofile");
  });

  test("TCP never gets more than half of the memory", () => {
    const little = { "proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 3000000 kB\n" };
    expect(planOf(little, 1_000_000)[7]).toEndWith("|more than half of the memory");
    expect(planOf(little, 450_000)[7]).toStartWith("set|");
  });
});
