/**
 * What access control costs those who publish, and what the logins of some cost all others. The same loads run without it,
 * or before the logins, so that it is the only difference.
 */
import type { AccessKind, Goal, MetricName, Part, Scenario } from "./scenario.ts";
import { flow } from "./table.ts";

const WAITING_MAX = 1024;
const LAG_US_MAX = 20_000;
/** Their own limits are ten seconds and more. A queue that is never full of those who still wait is no fault here. */
const IMPATIENT = ["--patience", "10", "--waiting", "0"];
/** The defaults of `guard`. */
const GUARD = { deadlineMs: 5000, openMs: 2000 };
const files: AccessKind = { kind: "files" };
const qos1 = flow("pair", { qos: 1, windowCount: 20 });

function costs(part: string, base: string): Goal {
  const reference = { kind: "part", part: base } as const;
  const text = `${part}: CPU per message at most 1.1 × without`;
  return { text, part, metric: "brokerUsPerMessage", bound: "at most", factor: 1.1, reference };
}

function keepsPace(part: string): Goal {
  const reference = { kind: "number" } as const;
  const text = `${part}: p99 of the loop's lag below 20 ms`;
  return { text, part, metric: "lagP99Us", bound: "at most", factor: LAG_US_MAX, reference };
}

function storm(name: string, algorithm: "argon2id" | "bcrypt", rest: Partial<Part> = {}): Part {
  return {
    name,
    hasAllCores: true,
    access: { kind: "slow password", algorithm, waitingMax: WAITING_MAX },
    load: { kind: "client", client: "login-storm", args: [] },
    aroundSec: 28,
    ...rest,
  };
}

function remote(name: string, args: string, aroundSec = 3): Part {
  return {
    name,
    access: { kind: "service", guard: GUARD },
    load: { kind: "client", client: "remote-logins", args: args.split(" ") },
    aroundSec,
  };
}

const BESIDE: readonly MetricName[] = ["lagP99Us", "lagMaxUs", "calmLagP99Us", "p50Us", "p99Us", "calmP99Us"];
const LOGINS: readonly MetricName[] = ["loginsPerSec", "busyPerSec", "loginP50Us"];

export const access: readonly Scenario[] = [
  {
    name: "access-publish",
    title: "Pairs 50 → 50 with and without access control",
    purpose:
      "CPU for each message when every PUBLISH is judged by a file of twenty rules and every client has come in with a password, against nobody being asked.",
    parts: [
      { name: "QoS 0, open", load: flow("pair") },
      { name: "QoS 0", load: flow("pair"), access: files },
      { name: "QoS 1, open", load: qos1 },
      { name: "QoS 1", load: qos1, access: files },
    ],
    goals: [costs("QoS 0", "QoS 0, open"), costs("QoS 1", "QoS 1, open")],
    shows: ["messagesPerSec", "brokerUsPerMessage"],
    isOwnOnly: true,
  },
  {
    name: "access-storm",
    title: "3,000 clients log in within a second, with slow passwords",
    purpose:
      "What others who publish notice of a login storm, how many logins a second there are, and whether clients that give up after 10 s ever come in.",
    parts: [
      storm("argon2id", "argon2id"),
      storm("bcrypt", "bcrypt"),
      storm("argon2id, one core", "argon2id", { hasAllCores: false }),
      storm("argon2id, impatient", "argon2id", { load: { kind: "client", client: "login-storm", args: IMPATIENT } }),
    ],
    goals: [keepsPace("argon2id"), keepsPace("bcrypt")],
    shows: [...LOGINS, "gaveUpPerSec", "unansweredCount", ...BESIDE, "generatorLagP99Us", "growthBytes"],
    isOwnOnly: true,
    roundsMax: 3,
  },
  {
    name: "access-remote",
    title: "Logins through an HTTP service",
    purpose:
      "200 clients log in again and again through a service that answers in 1 ms and in 200 ms; 3,000 while it hangs or is gone for 8 s, and when it is back. Others publish meanwhile.",
    parts: [
      remote("1 ms", "--delay 1"),
      remote("200 ms", "--delay 200"),
      remote("hangs", "--delay 1 --clients 3000 --hang 8", 25),
      remote("gone", "--delay 1 --clients 3000 --stop 8", 20),
    ],
    goals: [keepsPace("1 ms"), keepsPace("200 ms"), keepsPace("hangs"), keepsPace("gone")],
    shows: [...LOGINS, "loginP99Us", "unavailablePerSec", ...BESIDE, "growthBytes", "firstLoginUs", "recoveredUs"],
    isOwnOnly: true,
    roundsMax: 3,
  },
];
