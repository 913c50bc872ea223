import { describe, expect, test } from "bun:test";
import { generatorOf, parseMqload, parseOwn, rateFaults } from "#bench/compare/generators.ts";
import type { Figures } from "#bench/load/result.ts";
import { parsePlan } from "#bench/load/options.ts";
import type { Command } from "#bench/load/plan.ts";
import { scenarios } from "#bench/scenarios/catalog.ts";
import type { ClientLoad, Load } from "#bench/scenarios/scenario.ts";

const target = { port: 1883, brokerPid: 77, durationSec: 4, warmupSec: 1 };
const paced = { kind: "flow", mode: "fanout", publishers: 1, subscribers: 5, qos: 0, ratePerSec: 100 } as const;
const connect = { kind: "conn", clients: 10, holdSec: 1 } as const;

const loads = scenarios.flatMap(({ name, parts }) =>
  parts.flatMap(({ load }): [string, Exclude<Load, ClientLoad>][] => (load.kind === "client" ? [] : [[name, load]])),
);

test.each(loads)("our own generator accepts the options of %s", (_, load) => {
  const [, , command, ...args] = generatorOf("own").command(load, target);
  const plan = parsePlan(command as Command, args);
  expect(plan).toMatchObject({ port: 1883, serverPid: 77, isJson: true, version: 4 });
  if (load.kind === "flow")
    expect(plan).toMatchObject({ pubs: load.publishers, subs: load.subscribers, ratePerSec: load.ratePerSec ?? 0 });
  if (load.kind === "conn") expect(plan).toMatchObject({ idles: load.clients, durationSec: load.holdSec });
});

test("a generator is our own or a program that is there", () => {
  expect(() => generatorOf("wrk")).toThrow("own, or mqload:PATH");
  expect(() => generatorOf("mqload:/nowhere/mqload")).toThrow("is not a program");
});

describe("mqload", () => {
  const clean = {
    delivered_ps: 500,
    srv_us_per_msg: 7.5,
    srv_cpu_pct: 98,
    gen_cpu_pct: 40,
    srv_rss_mb: 9,
    lost: 0,
    dup: 0,
    reordered: 0,
    stalls: 0,
    dropped_conns: 0,
    nacks: 0,
    lat_p50_us: 80,
    lat_p99_us: 400,
  };

  test("figures", () => {
    expect(parseMqload(clean, paced)).toEqual({
      metrics: {
        messagesPerSec: 500,
        brokerUsPerMessage: 7.5,
        brokerCpuPct: 98,
        generatorCpuPct: 40,
        p50Us: 80,
        p99Us: 400,
        rssBytes: 9e6,
      },
      faults: [],
    });
  });

  test.each(["lost", "dup", "reordered", "stalls", "dropped_conns", "nacks"] as const)("%s is a fault", (name) => {
    expect(parseMqload({ ...clean, [name]: 3 }, paced).faults).toHaveLength(1);
  });

  test("connects", () => {
    const report = { connect_ps: 9000, srv_cpu_us_per_conn: 30, bytes_per_conn: 700, connack_p99_us: 2000, failed: 2 };
    const { metrics, faults } = parseMqload(report, connect);
    expect(metrics).toEqual({ connectsPerSec: 9000, brokerUsPerConnect: 30, bytesPerClient: 700, p99Us: 2000 });
    expect(faults).toEqual(["2 connections failed"]);
  });
});

describe("our own", () => {
  const latency = { count: 1, mean: 1, p50: 10, p90: 20, p99: 30, p999: 40, max: 50 };
  const server = { cpuSec: 1, busy: 0.97, usPerUnit: 0.2, rssBytes: 5e7, rssGrowthBytes: 1e6, processes: 1 };
  const figures = {
    receivedPerSec: 500,
    connectsPerSec: 8e3,
    connected: 1e3,
    generatorBusy: 0.5,
    stalls: 0,
    lost: 0,
    duplicates: 0,
    reordered: 0,
    foreign: 0,
    wrongQos: 0,
    damaged: 0,
    strayAcks: 0,
    failed: 0,
    dropped: 0,
    nacks: 0,
    unacked: 0,
    latencyUs: latency,
    connackUs: {
      ...latency,
      p50: 11,
    },
    server,
    connecting: {
      ...server,
      usPerUnit: 33,
    },
  } as unknown as Figures;

  test("figures", () => {
    expect(parseOwn(figures, paced)).toEqual({
      metrics: {
        messagesPerSec: 500,
        brokerUsPerMessage: 0.2,
        brokerCpuPct: 97,
        generatorCpuPct: 50,
        rssBytes: 5e7,
        p50Us: 10,
        p90Us: 20,
        p99Us: 30,
        p999Us: 40,
        maxUs: 50,
      },
      faults: [],
    });
  });

  test("connects have the figures of connecting", () => {
    const { metrics } = parseOwn(figures, connect);
    expect(metrics).toMatchObject({ connectsPerSec: 8000, brokerUsPerConnect: 33, bytesPerClient: 1000, p50Us: 11 });
    expect(metrics).not.toHaveProperty("messagesPerSec");
  });

  test.each(["lost", "duplicates", "reordered", "dropped", "stalls"] as const)("%s is a fault", (name) => {
    expect(parseOwn({ ...figures, [name]: 1 }, paced).faults).toEqual([`1 ${name}`]);
  });
});

test("a paced load that was not kept up with is a fault", () => {
  expect(rateFaults({ messagesPerSec: 475 }, paced)).toEqual([]);
  expect(rateFaults({ messagesPerSec: 474 }, paced)).toEqual(["did not keep up: 474 of 500 messages/s"]);
  expect(rateFaults({}, connect)).toEqual([]);
});
