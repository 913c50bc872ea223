/** What a seed stands for: who takes part in a run, what they do, and when the broker is killed. */
import { Dice } from "#test/simulation/weather.ts";
import type { MournerPlan } from "./mourner.ts";
import type { PublisherPlan } from "./publisher.ts";
import type { SubscriberPlan } from "./subscriber.ts";

interface Round {
  /** From ready to the kill. */
  readonly upMs: number;
  /** Starts that are killed after so many milliseconds each, ready or not, before the one that counts. */
  readonly falseStartsMs: readonly number[];
}

export interface Plan {
  readonly seed: number;
  /** heavy: thousands of messages; backlog: many for clients that are away; twice: all QoS 2, each sent twice at once. */
  readonly kind: "mixed" | "heavy" | "backlog" | "twice";
  readonly publishers: readonly PublisherPlan[];
  readonly subscribers: readonly SubscriberPlan[];
  readonly mourners: readonly MournerPlan[];
  /** Starts on the empty directory that are killed after so many milliseconds each. */
  readonly firstStartsMs: readonly number[];
  readonly rounds: readonly Round[];
  /** Of clients that are connected at a kill: `session.willGraceSec`. */
  readonly willGraceSec: number;
}

export interface PlanOptions {
  readonly roundCount: number;
  readonly kind?: Plan["kind"];
}

const TOPICS = ["t/a/1", "t/a/2", "t/b/1", "t/b/2", "t/c"];
const RETAINED_TOPICS = ["r/1", "r/2", "r/3", "r/4"];
const FILTERS = ["t/#", "t/a/+", "t/+/1", "t/a/1", "t/b/2", "t/c", "r/#", "r/1"];

export function drawPlan(seed: number, options: PlanOptions): Plan {
  const dice = new Dice(seed);
  const kind =
    options.kind ?? dice.pick(["mixed", "mixed", "mixed", "mixed", "heavy", "heavy", "backlog", "twice"] as const);
  const publishers = Array.from({ length: dice.between(2, 4) }, (_, i) => drawPublisher(dice, kind, i + 1));
  const subscribers = Array.from({ length: dice.between(4, 8) }, (_, i) => drawSubscriber(dice, kind, i + 1));
  for (let g = 1; g <= dice.below(3); g++) subscribers.push(...drawGroup(dice, g));
  subscribers.push(watcher());
  const mourners = Array.from({ length: dice.below(3) }, (_, i) => drawMourner(dice, i + 1));
  const rounds = Array.from({ length: options.roundCount }, () => drawRound(dice));
  const firstStartsMs = dice.chance(30) ? Array.from({ length: dice.between(1, 3) }, () => dice.between(20, 160)) : [];
  const willGraceSec = mourners.length > 0 ? dice.pick([1, 30]) : 30;
  return { seed, kind, publishers, subscribers, mourners, firstStartsMs, rounds, willGraceSec };
}

function drawPublisher(dice: Dice, kind: Plan["kind"], number: number): PublisherPlan {
  const isHeavy = kind === "heavy";
  const isTwice = kind === "twice";
  return {
    id: `p${number}`,
    version: isTwice ? 4 : dice.pick([4, 5]),
    isClean: dice.chance(15),
    topics: dice.shuffled(TOPICS).slice(0, dice.between(1, 3)),
    retainedTopics: dice.chance(60) ? RETAINED_TOPICS : [],
    qosMix: isTwice ? [2] : dice.pick([[1], [2], [1, 2], [0, 1, 2], [1, 1, 2, 2, 0]]),
    window: dice.pick(isHeavy ? [100, 400] : [1, 4, 20, 60]),
    burstMax: isHeavy ? 60 : dice.pick([1, 4, 12]),
    pauseMsMax: isHeavy ? 4 : dice.pick([3, 10, 25]),
    payloadBytesMax: dice.pick([20, 300, 300, 3000, 20_000]),
    messagesMax: isHeavy ? 2500 : 300,
    leaves: dice.pick([0, 1, 3]),
    repeats: isTwice ? 100 : dice.pick([0, 0, 20]),
    losses: dice.pick([0, 2, 8]),
  };
}

function drawSubscriber(dice: Dice, kind: Plan["kind"], number: number): SubscriberPlan {
  const filters = dice.shuffled(FILTERS).slice(0, dice.between(1, 3));
  const isAway = kind === "backlog" && number <= 3;
  const version = dice.pick([4, 5] as const);
  const session = dice.pick(["kept", "kept", "kept", "kept", "restless", "none", "short"] as const);
  return {
    id: `s${number}`,
    version,
    session: isAway || (session === "short" && version === 4) ? "kept" : session,
    filters: filters.map((filter) => ({ filter, qos: dice.pick([1, 2, 2, 0]) })),
    receiveMax: dice.pick([undefined, 1, 3, 20]),
    pauseMsMax: dice.pick([5, 20]),
    offlineMsMax: isAway ? 3000 : dice.pick([0, 20, 150, 600]),
    leaves: isAway ? 30 : dice.pick([0, 1, 4]),
    changes: isAway ? 0 : dice.pick([0, 0, 1, 4]),
    moods: dice.pick([["prompt"], ["prompt", "lazy"], ["prompt", "lazy", "mute"]]),
  };
}

/** Members of a group have no other subscriptions; a group may have members whose sessions end. */
function drawGroup(dice: Dice, number: number): SubscriberPlan[] {
  const filter = `$share/g${number}/${dice.pick(["t/#", "t/a/+", "t/c"])}`;
  const isRestless = dice.chance(30);
  return Array.from({ length: dice.between(2, 3) }, (_, i) => ({
    id: `g${number}${"abc"[i]}`,
    version: dice.pick([4, 5] as const),
    session: isRestless && i > 0 ? ("restless" as const) : ("kept" as const),
    filters: [{ filter, qos: 2 }],
    receiveMax: dice.pick([undefined, 2]),
    pauseMsMax: 10,
    offlineMsMax: dice.pick([20, 300]),
    leaves: dice.pick([1, 4]),
    changes: 0,
    moods: dice.pick([["prompt"], ["prompt", "lazy", "mute"]]),
  }));
}

/** Is there for the wills. */
function watcher(): SubscriberPlan {
  const filters = [{ filter: "w/#", qos: 2 }];
  const manners = { pauseMsMax: 20, offlineMsMax: 100, leaves: 1, changes: 0, moods: ["prompt"] as const };
  return { id: "sw", version: 5, session: "kept", filters, receiveMax: undefined, ...manners };
}

function drawMourner(dice: Dice, number: number): MournerPlan {
  return {
    id: `w${number}`,
    version: dice.pick([4, 5, 5]),
    qos: dice.pick([1, 2]),
    delaysSec: dice.pick([[0], [0, 1, 3600], [3600]]),
    stayMsMax: dice.pick([20, 200]),
    joinsMax: dice.pick([1, 4, 1000]),
  };
}

function drawRound(dice: Dice): Round {
  const upMs = dice.pick([dice.between(0, 40), dice.between(40, 300), dice.between(200, 700)]);
  const falseStartsMs = dice.chance(25) ? Array.from({ length: dice.between(1, 2) }, () => dice.between(0, 250)) : [];
  return { upMs, falseStartsMs };
}
