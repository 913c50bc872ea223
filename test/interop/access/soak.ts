/**
 * A backend under load while its server is killed, hung, and brought back, again and again: what a broker in a login storm
 * does to it. Everybody who asks is a client that tries again at once, so the load is as heavy as the machine allows.
 *
 *   asked ─► allow | unavailable | busy          after each trouble: how long until logins hold again
 *            deny, or no answer: a fault
 */
import { readdirSync } from "node:fs";
import type { AuthenticateAnswer, Backend } from "#access/backend.ts";
import { SERVER_BUSY } from "#access/reason.ts";
import { askAuthenticate, attemptOf } from "#test/contract/backend-contract.ts";

export interface Trouble {
  readonly name: string;
  begin(): Promise<void> | void;
  end(): Promise<void> | void;
  readonly durationMs: number;
}

export interface SoakOptions {
  readonly clientCount: number;
  readonly roundCount: number;
  /** Each is user `soak0`, `soak1`, … with this password. */
  readonly password: string;
}

export interface SoakResult {
  readonly counts: { allow: number; unavailable: number; busy: number; wrong: number };
  /** From the end of a trouble to the first of `STEADY_COUNT` logins in a row; by name, the worst. */
  readonly recoveryMsMax: Readonly<Record<string, number>>;
  readonly lagMsMax: number;
  readonly openFileGrowth: number;
  /** Between the end of the first round and the end of the last. */
  readonly rssGrowthMiB: number;
}

const STEADY_COUNT = 50;
const RECOVERY_MS_MAX = 30_000;

export async function soak(backend: Backend, troubles: readonly Trouble[], options: SoakOptions): Promise<SoakResult> {
  const { clientCount, roundCount, password } = options;
  const counts = { allow: 0, unavailable: 0, busy: 0, wrong: 0 };
  const recoveryMsMax: Record<string, number> = {};
  let inARow = 0;
  let isOver = false;
  const client = async (_: unknown, index: number): Promise<void> => {
    const username = `soak${index}`;
    while (!isOver) {
      const word = wordOf(await askAuthenticate(backend, attemptOf({ username }, password)));
      counts[word]++;
      inARow = word === "allow" ? inARow + 1 : 0;
      // A refusal comes at once; whoever asked would now have to connect again.
      if (word !== "allow") await Bun.sleep(2);
    }
  };
  const steady = async (name: string): Promise<void> => {
    const sinceMs = performance.now();
    inARow = 0;
    while (inARow < STEADY_COUNT) {
      if (performance.now() - sinceMs > RECOVERY_MS_MAX) throw new Error(`no logins after: ${name}`);
      await Bun.sleep(5);
    }
    recoveryMsMax[name] = Math.max(recoveryMsMax[name] ?? 0, Math.round(performance.now() - sinceMs));
  };
  const lag = new Lag();
  const clients = Array.from({ length: clientCount }, client);
  await steady("the start");
  const filesBefore = openFiles();
  let rssBefore = 0;
  for (let round = 0; round < roundCount; round++) {
    for (const { name, begin, end, durationMs } of troubles) {
      await begin();
      await Bun.sleep(durationMs);
      await end();
      await steady(name);
    }
    if (round === 0) rssBefore = rss();
  }
  isOver = true;
  await Promise.all(clients); // whoever is never answered keeps this waiting
  return {
    counts,
    recoveryMsMax,
    lagMsMax: lag.stop(),
    openFileGrowth: openFiles() - filesBefore,
    rssGrowthMiB: Math.round((rss() - rssBefore) / 1024 / 1024),
  };
}

function wordOf(answer: AuthenticateAnswer): keyof SoakResult["counts"] {
  if (answer.verdict === "allow" || answer.verdict === "unavailable") return answer.verdict;
  return answer.verdict === "deny" && answer.code === SERVER_BUSY ? "busy" : "wrong";
}

/** How late a timer of this process was at worst. */
class Lag {
  private maxMs = 0;
  private atMs = performance.now();
  private readonly timer = setInterval(() => {
    const nowMs = performance.now();
    this.maxMs = Math.max(this.maxMs, nowMs - this.atMs - 10);
    this.atMs = nowMs;
  }, 10);

  stop(): number {
    clearInterval(this.timer);
    return Math.round(this.maxMs);
  }
}

function openFiles(): number {
  return readdirSync("/proc/self/fd").length;
}

function rss(): number {
  Bun.gc(true);
  return process.memoryUsage.rss();
}
