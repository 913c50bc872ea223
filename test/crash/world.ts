/**
 * A run: a broker's process that is killed and started again on the same data, clients that live through it, and the
 * judgement at the end.
 *
 *   start ─ clients come ─┬─ upMs ─ kill -9 ─ (false starts) ─ start ─┬─ … ─ drain ─ kill -9 ─ start ─ drain ─ look ─ judge
 *                         └──────────────── a round ──────────────────┘
 *
 * The seed gives the script, each client's dice and the moments of the kills. What a broker has done by such a moment is
 * its machine's affair, so a seed repeats a run as closely as time allows.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Dice } from "#test/simulation/weather.ts";
import { BrokerRun, type BrokerSpec, freePort } from "./broker-run.ts";
import type { CrashClient, Ground } from "./client.ts";
import { describeEvent, History } from "./history.ts";
import { judge, storyOf, type Violation } from "./judge.ts";
import { Mourner } from "./mourner.ts";
import { Probe } from "./probe.ts";
import { Publisher } from "./publisher.ts";
import type { Plan } from "./script.ts";
import { Subscriber } from "./subscriber.ts";

/** Nothing has come for so long: what is missing will not come any more. */
const SILENCE_MS = 5000;
/** So many times the silence, whatever comes. */
const DRAIN_SILENCES_MAX = 8;
/** A duplicate comes soon or never. */
const AFTERMATH_MS = 150;
const TOLD_VIOLATIONS_MAX = 6;
const TOLD_EVENTS_MAX = 40;

export interface Hooks {
  /** Before each start of the broker: more environment for it. */
  beforeStart?(dataDir: string): Readonly<Record<string, string>>;
  /** After each kill. */
  afterKill?(world: World): void;
  /** While all clients are at work, before the first round. */
  during?(world: World): Promise<void>;
}

export interface RunOptions {
  readonly plan: Plan;
  readonly spec?: Partial<BrokerSpec>;
  readonly hooks?: Hooks;
  /** Less where something is expected to be missing. */
  readonly silenceMs?: number;
}

export interface Verdict {
  readonly violations: readonly Violation[];
  readonly history: History;
  /** For people: the seed, what was violated, and the events that tell of it; "" when all was well. */
  readonly report: string;
}

export class World implements Ground {
  readonly history = new History();
  port = 0;
  isDraining = false;
  isOver = false;
  isFailing = false;
  readonly clients: CrashClient[] = [];
  #broker: BrokerRun | undefined;
  #up = Promise.withResolvers<void>();
  #isUp = false;
  #linkCount = 0;
  #lastEventMs = 0;
  readonly dataDir: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "mantou-crash-"));

  constructor(private readonly options: RunOptions) {
    this.dataDir = join(this.#folder, "data");
    if (options.spec?.other !== undefined) this.port = freePort();
    this.history.onEvent = ({ ms }) => (this.#lastEventMs = ms);
    const { plan } = options;
    const dice = (salt: number): Dice => new Dice(Math.imul(plan.seed, 1000) + salt);
    let salt = 0;
    for (const each of plan.publishers) this.clients.push(new Publisher(this, each, dice(++salt)));
    for (const each of plan.subscribers) this.clients.push(new Subscriber(this, each, dice(++salt)));
    for (const each of plan.mourners) this.clients.push(new Mourner(this, each, dice(++salt)));
  }

  up(): Promise<void> {
    return this.#up.promise;
  }

  /** Of the broker's process. */
  get pid(): number {
    return this.#broker!.pid;
  }

  takeLinkNumber(): number {
    return ++this.#linkCount;
  }

  note(text: string): void {
    this.history.add("", 0, { what: "note", text });
  }

  /** The whole run. */
  async run(): Promise<Verdict> {
    const { plan, hooks } = this.options;
    let lives: Promise<void>[] = [];
    try {
      for (const ms of plan.firstStartsMs) await this.#falseStart(ms);
      await this.start();
      lives = this.clients.map((client) => client.live());
      await hooks?.during?.(this);
      for (const { upMs, falseStartsMs } of plan.rounds) {
        await this.lasts(upMs);
        await this.kill();
        for (const ms of falseStartsMs) await this.#falseStart(ms);
        await this.start();
      }
      await this.#drain();
      if (plan.rounds.length > 0) {
        await this.kill();
        await this.start();
        await this.#drain();
      }
      await new Probe(this, new Dice(plan.seed)).look();
    } catch (error) {
      this.fault((error as Error).message);
    } finally {
      this.isOver = true;
      this.#up.resolve();
      await this.kill();
      await Promise.all(lives);
      rmSync(this.#folder, { recursive: true, force: true });
    }
    const violations = this.#judge();
    return { violations, history: this.history, report: this.#report(violations) };
  }

  #judge(): Violation[] {
    return judge(this.history, this.options.plan.willGraceSec);
  }

  fault(text: string): void {
    this.history.add("", 0, { what: "fault", text });
  }

  /** Throws when the broker does not start. */
  async start(): Promise<void> {
    const broker = this.#spawn();
    if (!(await broker.ready())) throw new Error(`the broker did not start; it printed:\n${broker.output}`);
    this.port = broker.port;
    this.noteReady();
    this.#isUp = true;
    this.#up.resolve();
  }

  async kill(): Promise<void> {
    const broker = this.#broker;
    if (broker === undefined) return;
    this.#broker = undefined;
    if (!this.isOver && this.#isUp) this.#up = Promise.withResolvers<void>();
    this.#isUp = false;
    const ending = broker.kill();
    this.history.add("", 0, { what: "killed" });
    await ending;
    this.#examine(broker);
    this.options.hooks?.afterKill?.(this);
  }

  async #falseStart(ms: number): Promise<void> {
    this.#spawn();
    await Bun.sleep(ms);
    await this.kill();
  }

  #spawn(): BrokerRun {
    const { spec, hooks } = this.options;
    const env = { ...spec?.env, ...hooks?.beforeStart?.(this.dataDir) };
    this.history.add("", 0, { what: "started" });
    const flags = [...(spec?.flags ?? []), "--set", `session.willGraceSec=${this.options.plan.willGraceSec}`];
    this.#broker = new BrokerRun({ ...spec, dataDir: this.dataDir, env, flags }, this.port);
    return this.#broker;
  }

  #examine(broker: BrokerRun): void {
    if (broker.unexpectedEnd !== undefined) {
      this.fault(`the broker ended by itself with ${broker.unexpectedEnd}; it printed:\n${broker.output.slice(-3000)}`);
    }
    const line = broker.suspiciousLine();
    if (line !== undefined) this.fault(`the broker's log says: ${line}`);
  }

  /** Waits until the broker has printed what `isThere` looks for, or for `timeoutMs`, which is a fault. */
  async until(isThere: (output: string) => boolean, timeoutMs: number): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    while (this.#broker?.isOver === false && !isThere(this.#broker.output)) {
      if (performance.now() > deadlineMs) return this.fault(`not within ${timeoutMs} ms: ${this.#broker.output}`);
      await Bun.sleep(20);
    }
  }

  /** All of the broker serves, after all or a part of it was killed. */
  noteReady(): void {
    this.history.add("", 0, { what: "ready" });
  }

  /** Waits, or until the broker has ended. */
  async lasts(ms: number): Promise<void> {
    const endMs = performance.now() + ms;
    while (performance.now() < endMs && this.#broker?.isOver === false) {
      await Bun.sleep(Math.min(20, Math.max(0, endMs - performance.now())));
    }
  }

  /** Until every client has finished and nothing that is owed is missing, or nothing comes any more. */
  async #drain(): Promise<void> {
    this.isDraining = true;
    const silenceMs = this.options.silenceMs ?? SILENCE_MS;
    const deadlineMs = performance.now() + silenceMs * DRAIN_SILENCES_MAX;
    const isMissing = (): boolean =>
      !this.clients.every(({ isDone }) => isDone) || this.#judge().some(({ kind }) => kind === "lost");
    this.#lastEventMs = performance.now();
    while (isMissing()) {
      const nowMs = performance.now();
      if (this.#broker?.isOver === true) return;
      if (nowMs > this.#lastEventMs + silenceMs || nowMs > deadlineMs) {
        this.note("the drain was given up");
        return;
      }
      await Bun.sleep(100);
    }
    await Bun.sleep(AFTERMATH_MS);
  }

  #report(violations: readonly Violation[]): string {
    if (violations.length === 0) return "";
    const { seed, kind, rounds } = this.options.plan;
    const kinds = new Map<string, number>();
    for (const each of violations) kinds.set(each.kind, (kinds.get(each.kind) ?? 0) + 1);
    const head = `seed ${seed}, ${kind}, ${rounds.length} rounds: ${[...kinds].map((each) => each.join(" ")).join(", ")}`;
    const stories = violations.slice(0, TOLD_VIOLATIONS_MAX).map((violation) => {
      const events = storyOf(violation, this.history, TOLD_EVENTS_MAX);
      return [`${violation.kind}: ${violation.text}`, ...events.map(describeEvent)].join("\n  ");
    });
    return [head, ...stories].join("\n\n");
  }
}

export function runPlan(options: RunOptions): Promise<Verdict> {
  return new World(options).run();
}
