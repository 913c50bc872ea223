// The disk is full or fails: nothing false is acknowledged meanwhile, QoS 0 goes on, and service resumes by itself.

import { expect, test } from "bun:test";
import { Dice } from "#test/simulation/weather.ts";
import { level, rounds } from "#test/support/level.ts";
import { seeds } from "./campaign.ts";
import { type DiskFailure, shimMissing } from "./disk-shim.ts";
import type { Event } from "./history.ts";
import type { Plan } from "./script.ts";
import { ShimHooks } from "./shim-hooks.ts";
import { runPlan, type World } from "./world.ts";

const RUN_MS = 60_000;
const FAILING_MS = 700;
const WAIT_MS = 15_000;
const QUOTA_EXCEEDED = 0x97;
/** Log lines that such a disk is good for. */
const EXPECTED = /store|disk|reasonCode=0x97/;
const why = shimMissing();
const failures: DiskFailure[] = level === "fast" ? ["no space"] : ["no space", "I/O error", "sync fails"];
const runCount = rounds(1, 1, 10);

function planOf(seed: number, roundCount: number): Plan {
  const publisher = { isClean: false, topics: ["t/a", "t/b"], retainedTopics: [], qosMix: [0, 1, 2], window: 40 };
  const pace = {
    burstMax: 4,
    pauseMsMax: 8,
    payloadBytesMax: 2000,
    messagesMax: 3000,
    leaves: 0,
    repeats: 10,
    losses: 0,
  };
  const subscriber = { version: 5 as const, receiveMax: undefined, pauseMsMax: 10, changes: 0, leaves: 0 };
  const prompt = { moods: ["prompt"] as const, offlineMsMax: 0, session: "kept" as const };
  const filters = [{ filter: "t/#", qos: 2 }];
  return {
    seed,
    kind: "mixed",
    publishers: [
      { id: "p4", version: 4, ...publisher, ...pace },
      { id: "p5", version: 5, ...publisher, ...pace },
    ],
    subscribers: [
      { id: "s1", filters, ...subscriber, ...prompt },
      { id: "s2", filters, ...subscriber, ...prompt, version: 4, leaves: 20, offlineMsMax: 1500 },
      { id: "s0", filters: [{ filter: "t/#", qos: 0 }], ...subscriber, ...prompt, session: "none" },
    ],
    mourners: [],
    firstStartsMs: [],
    rounds: Array.from({ length: roundCount }, () => ({ upMs: 200, falseStartsMs: [] })),
    willGraceSec: 30,
  };
}

/** Events from this one on. */
async function eventually(world: World, from: number, isIt: (event: Event) => boolean): Promise<void> {
  const deadlineMs = performance.now() + WAIT_MS;
  while (!world.history.events.slice(from).some(isIt)) {
    if (performance.now() > deadlineMs) return world.fault(`not within ${WAIT_MS} ms: ${isIt}`);
    await Bun.sleep(20);
  }
}

function isNewAndAccepted(world: World, from: number): (event: Event) => boolean {
  const sent = new Set<string>();
  return (event) => {
    const isMine = "key" in event && world.history.messages.get(event.key)?.qos !== 0;
    if (isMine && event.what === "publish" && !event.isDup && event.at >= from) sent.add(event.key);
    return isMine && (event.what === "puback" || event.what === "pubrec") && event.code < 0x80 && sent.has(event.key);
  };
}

async function failAndRecover(world: World, fail: (failure: DiskFailure) => void, failure: DiskFailure): Promise<void> {
  const { events, messages } = world.history;
  await eventually(world, 0, isNewAndAccepted(world, 0));
  world.isFailing = true;
  fail(failure);
  const from = events.length;
  await Bun.sleep(FAILING_MS);
  const isNewZero = (event: Event): boolean =>
    event.what === "received" && event.client === "s0" && messages.get(event.key)?.qos === 0;
  await eventually(world, from + 200, isNewZero);
  fail("none");
  await eventually(world, events.length, isNewAndAccepted(world, events.length));
  await Bun.sleep(300); // whoever was sent away is back
  world.isFailing = false;
}

for (const failure of failures) {
  test.skipIf(why !== undefined)(
    `${failure}: no false acknowledgement, QoS 0 goes on, service resumes by itself (${why ?? `${runCount} runs`})`,
    async () => {
      for (const seed of seeds(runCount)) {
        const hooks = new ShimHooks({
          during: (world, fail) => failAndRecover(world, fail, failure),
          cuts: new Dice(seed),
        });
        const spec = { flags: ["--set", "store.sync=full"], expected: EXPECTED };
        const { report, history } = await runPlan({ plan: planOf(seed, 1), spec, hooks });
        if (report !== "") throw new Error(`MANTOU_CRASH_SEED=${seed}\n${report}`);
        const refusals = history.events.filter(
          (event) => (event.what === "puback" || event.what === "pubrec") && event.code >= 0x80,
        );
        for (const refusal of refusals) expect(refusal).toHaveProperty("code", QUOTA_EXCEEDED);
      }
    },
    runCount * RUN_MS,
  );
}

test.skipIf(why !== undefined)(
  `killed while the disk is full, the broker has all that it acknowledged (${why ?? `${runCount} runs`})`,
  async () => {
    for (const seed of seeds(runCount)) {
      const during = async (world: World, fail: (failure: DiskFailure) => void): Promise<void> => {
        await eventually(world, 0, isNewAndAccepted(world, 0));
        world.isFailing = true;
        fail("no space");
        await Bun.sleep(FAILING_MS);
        await world.kill();
        fail("none");
        world.isFailing = false;
        await world.start();
      };
      const hooks = new ShimHooks({ during, cuts: new Dice(seed) });
      const spec = { flags: ["--set", "store.sync=full"], expected: EXPECTED };
      const { report } = await runPlan({ plan: planOf(seed, 0), spec, hooks });
      if (report !== "") throw new Error(`MANTOU_CRASH_SEED=${seed}\n${report}`);
    }
  },
  runCount * RUN_MS,
);
