// Several worker processes: all of them are killed with their keeper, or one after the other under load while the rest goes on.

import { test } from "bun:test";
import { readFileSync } from "node:fs";
import { rounds } from "#test/support/level.ts";
import { Dice } from "#test/simulation/weather.ts";
import { crash, seeds, survive } from "./campaign.ts";
import { type Event, type History, isMatch, splitShared } from "./history.ts";
import type { Violation } from "./judge.ts";
import { rootOf } from "./plants.ts";
import { drawPlan } from "./script.ts";
import { runPlan, type Verdict, type World } from "./world.ts";

const RUN_MS = 90_000;
/** Workers are back by then, on the slowest machine. */
const BACK_MS = 30_000;
const flags = ["--workers", "3"];
const wholeCount = rounds(0, 2, 10);
const partCount = rounds(1, 3, 15);
const killCount = rounds(2, 4, 8);
/** What the keeper says of workers that were killed. */
const expected = /a worker has ended|the worker could not start/;

test.skipIf(wholeCount === 0)(
  `three workers killed with their keeper keep what one process keeps (${wholeCount} runs)`,
  () =>
    survive(seeds(wholeCount), (seed) =>
      crash(seed, { roundCount: rounds(1, 2, 5) }, { spec: { root: rootOf(seed), flags, expected } }).then(forgive),
    ),
  wholeCount * RUN_MS,
);

test(
  `workers killed one by one under load lose nothing, and double no QoS 2 (${partCount} × ${killCount} kills)`,
  () =>
    survive(seeds(partCount), (seed) => {
      // Whether a will is due depends on which of two workers was killed, the one with the socket or the one with the session.
      const plan = { ...drawPlan(seed, { roundCount: 0 }), mourners: [] };
      const during = (world: World): Promise<void> => killWorkers(world, new Dice(seed));
      return runPlan({ plan, spec: { root: rootOf(seed), flags, expected }, hooks: { during } }).then(forgive);
    }),
  partCount * RUN_MS,
);

function forgive(verdict: Verdict): Verdict {
  const { violations, history, report } = verdict;
  const unforgiven = violations.filter((each) => !isForgiven(each, history));
  if (unforgiven.length === 0) return { ...verdict, report: "" };
  const texts = unforgiven.slice(0, 20).map(({ kind, text }) => `${kind}: ${text}`);
  return { ...verdict, report: `not forgiven of what follows:\n${texts.join("\n")}\n\n${report}` };
}

/** What one process sends once on a link: between workers a message at QoS 1 may come again over a crash, as MQTT allows. */
const REPEAT = /came \d+ times (on link|at QoS 0)/;

/**
 * Messages that wait for a worker that is away are routed there when it is back, to those who are subscribed then. So a subscriber
 * may get one from before its subscription, and none from before it ended its subscription.
 */
function isForgiven(violation: Violation, history: History): boolean {
  const { kind, text, keys, clients, at = 0 } = violation;
  if (kind === "duplicate") return REPEAT.test(text);
  if (kind === "session") {
    // The clock of a session in a killed worker starts when that is back, which is before all are.
    const isKill = (event: Event): boolean => event.what === "note" && event.at < at;
    return (
      text.endsWith("is true, expected false") &&
      history.events.slice(at).some(({ what }) => what === "ready") &&
      history.events.some(isKill)
    );
  }
  if ((kind !== "ghost" && kind !== "lost") || clients.length !== 1) return false;
  const [client] = clients;
  const [key] = keys;
  const { topic } = history.messages.get(key!)!;
  const own = history.events.filter((event) => event.client === client);
  const sentAt = history.events.find((event) => event.what === "publish" && event.key === key)!.at;
  const isOfTopic = (filter: string): boolean => isMatch(splitShared(filter)[1], topic);
  if (kind === "lost") {
    return own.some((event) => event.what === "unsubscribe" && event.at > sentAt && isOfTopic(event.filter));
  }
  const receivedAt = own.findLast((event) => event.what === "received" && event.key === key)!.at;
  return periodsOf(own, isOfTopic).some(({ from, to }) => from < receivedAt && to > sentAt);
}

/** From each SUBSCRIBE to the UNSUBACK, or Clean Start, after it. */
function periodsOf(events: readonly Event[], isOfTopic: (filter: string) => boolean): { from: number; to: number }[] {
  const periods: { from: number; to: number }[] = [];
  for (const event of events) {
    const last = periods.at(-1);
    const isOver = event.what === "connect" ? event.isClean : event.what === "unsuback" && isOfTopic(event.filter);
    if (event.what === "subscribe" && isOfTopic(event.filter)) periods.push({ from: event.at, to: Infinity });
    else if (last !== undefined && isOver) last.to = Math.min(last.to, event.at);
  }
  return periods;
}

async function killWorkers(world: World, dice: Dice): Promise<void> {
  world.isFailing = true; // links of the killed worker end without a word
  const killed = new Set<number>(); // one that has not been reaped yet may be drawn again
  for (let left = killCount; left > 0; left--) {
    await Bun.sleep(dice.between(50, 700));
    const workers = childrenOf(world.pid);
    if (workers.length > 0) killed.add(killOne(workers, dice));
    world.note("a worker was killed");
  }
  await world.until((output) => areBack(output, killed.size), BACK_MS);
  world.noteReady(); // the clocks of the sessions in a killed worker start when it is back
  await world.lasts(300);
}

function killOne(workers: readonly number[], dice: Dice): number {
  const pid = dice.pick(workers);
  process.kill(pid, "SIGKILL");
  return pid;
}

/** Each killed worker was either serving, or starting again. */
function areBack(output: string, killedCount: number): boolean {
  const count = (text: string): number => output.split(text).length - 1;
  const endedCount = count("a worker has ended");
  return endedCount + count("the worker could not start") >= killedCount && count("the worker is back") >= endedCount;
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return text === "" ? [] : text.split(" ").map(Number);
}
