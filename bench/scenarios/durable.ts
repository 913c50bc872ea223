/**
 * What it costs that an acknowledgement means it is on disk, and what a backlog does to the broker. The same loads run
 * with everything in memory, in the same rounds, so that the disk is the only difference.
 */
import type { Goal, Part, Scenario } from "./scenario.ts";
import { flow } from "./table.ts";

const HALF = 0.5;
/** A million messages in and out, and some seconds for the files; at most 30 s for them. */
const MILLION_SEC = 20;

const online = flow("pair", { qos: 1, windowCount: 20, isPersistent: true });

function absent(name: string, rest: Partial<Part> = {}, args: readonly string[] = []): Part {
  return { name, load: { kind: "client", client: "absent", args }, aroundSec: 5, ...rest };
}

/** A paced run must not be held back by its windows. */
function absentPaced(name: string, rest: Partial<Part> = {}): Part {
  return absent(name, { pace: { part: "absent, full, most", share: HALF }, ...rest }, ["--window", "1000"]);
}

function backlog(name: string, args: string, rest: Partial<Part> = {}): Part {
  return { name, load: { kind: "client", client: "backlog", args: args.split(" ") }, aroundSec: MILLION_SEC, ...rest };
}

function bounded(text: string, part: string, metric: Goal["metric"], factor: number): Goal {
  return { text, part, metric, bound: "at most", factor, reference: { kind: "number" } };
}

export const durable: readonly Scenario[] = [
  {
    name: "durable-online",
    title: "Pairs 50 → 50, QoS 1, persistent sessions",
    purpose:
      "Receivers that are there: what their messages cost when each would have to be on disk if its receiver did not acknowledge in time. Mosquitto's disk part has its persistence on, which writes nothing before it acknowledges.",
    parts: [
      { name: "disk", store: "full", load: online },
      { name: "memory", load: online },
    ],
    goals: [
      {
        text: "70 % of memory or more",
        part: "disk",
        metric: "speed",
        bound: "at least",
        factor: 0.7,
        reference: { kind: "part", part: "memory" },
      },
    ],
    shows: ["messagesPerSec", "brokerUsPerMessage", "writtenPct", "writtenBytesPerMessage"],
  },
  {
    name: "durable-offline",
    title: "QoS 1 to absent persistent sessions",
    purpose:
      "50 publishers, 50 sessions whose clients are away, 256 bytes: how many messages a second are on disk and acknowledged. Mosquitto's disk part has its persistence on, which writes nothing before it acknowledges.",
    parts: [
      absent("disk", { store: "full" }),
      absent("disk, without sync", { store: "normal" }),
      absent("memory"),
      absent("disk, syncs counted", { store: "full", countsSyncs: true }),
    ],
    goals: [
      {
        text: "50,000 a second or more on disk",
        part: "disk",
        metric: "acknowledgedPerSec",
        bound: "at least",
        factor: 50_000,
        reference: { kind: "number" },
      },
    ],
    shows: [
      "acknowledgedPerSec",
      "brokerUsPerAck",
      "fileBytesPerMessage",
      "writtenBytesPerMessage",
      "batchesPerSec",
      "syncsPerSec",
      "rssBytes",
    ],
  },
  {
    name: "durable-recovery",
    title: "A million messages in 1,000 sessions, and kill -9",
    purpose:
      "The broker is killed with a million messages of 256 bytes waiting: how long until clients get theirs, how much memory does it take, and do the files shrink afterwards?",
    parts: [backlog("disk", "--sessions 1000 --messages 1000000 --crash 1", { store: "full" })],
    goals: [
      bounded("listens within 1 s", "disk", "listenUs", 1e6),
      bounded("the first client has all its messages within 5 s", "disk", "lastMessageUs", 5e6),
      bounded("30 s after all were fetched the files have 50 MB or less", "disk", "drainedFileBytes", 50e6),
    ],
    shows: [
      "listenUs",
      "firstMessageUs",
      "lastMessageUs",
      "messagesPerSec",
      "brokerUsPerMessage",
      "restingRssBytes",
      "rssBytes",
      "fileBytes",
      "drainedFileBytes",
      "shrinkUs",
    ],
    isOwnOnly: true,
  },
  {
    name: "durable-drain",
    title: "One client with a million messages waiting",
    purpose: "How fast a client that was away for long gets its million messages of 256 bytes, and in how much memory.",
    parts: [backlog("disk", "--messages 1000000", { store: "full" }), backlog("memory", "--messages 1000000")],
    goals: [
      {
        text: "at most half of the memory that the same takes in memory",
        part: "disk",
        metric: "rssBytes",
        bound: "at most",
        factor: 0.5,
        reference: { kind: "part", part: "memory" },
      },
    ],
    shows: ["messagesPerSec", "brokerUsPerMessage", "restingRssBytes", "rssBytes", "fileBytes", "drainedFileBytes"],
    isOwnOnly: true,
  },
  {
    name: "durable-latency",
    title: "Latency at half of the most, QoS 1",
    purpose:
      "At half of what the disk carries, which is measured first: publish to acknowledgement for absent receivers, publish to receipt for those that are there.",
    parts: [
      absent("absent, full, most", { store: "full" }),
      absentPaced("absent, full", { store: "full" }),
      absentPaced("absent, memory"),
      { name: "online, full, most", store: "full", load: online },
      { name: "online, full", store: "full", load: online, pace: { part: "online, full, most", share: HALF } },
      { name: "online, memory", load: online, pace: { part: "online, full, most", share: HALF } },
    ],
    goals: [],
    shows: ["p50Us", "p99Us", "p999Us", "acknowledgedPerSec", "messagesPerSec"],
    isOwnOnly: true,
  },
];
