/**
 * What stands between the broker and a server that may be down, hung or slow. One guard a backend; every call goes
 * through `ask`.
 *
 *   ask(key) ─► cache ─fresh─► answer
 *                │ miss                   same key under way: its answer is shared
 *                ▼
 *              breaker ─open─► stale answer, or "unavailable"
 *                │ closed, or one probe
 *                ▼
 *              at most runningMax at a time, at most waitingMax waiting, else "busy"
 *                ▼
 *              call(signal), with a deadline that includes the waiting ─► answer, cached; or failure ─► stale or "unavailable"
 *
 * After `failureCountMax` failures in a row the breaker opens: for `openMs` nobody waits for a server that does not
 * answer; then one call probes it. No client can shut the others out by what it says: a server that answers a question with
 * a fault (`AnsweredFault`) is there; a call that is late while others are answered is late by its own doing; and while
 * the breaker is open, whoever comes from an address that has not failed probes the server at once, one at a time.
 * A call that passed its deadline is aborted by its signal and must then end soon: its
 * place is given to the next. Values are cached, not faults; `cacheSec` 0 caches nothing, `staleSec` 0 never serves what is old.
 *
 * Costs a Map entry a cached key, a timer and a promise a call. Leaves out retries (a client's next CONNECT is one) and
 * the pool itself (the client library's).
 */
import { createHmac, randomBytes } from "node:crypto";
import type { BackendHealth } from "./backend.ts";

export interface GuardOptions {
  /** From `ask` to the answer. */
  readonly deadlineMs: number;
  /** Calls at the same time. */
  readonly runningMax: number;
  readonly waitingMax: number;
  /** Failures in a row that open the breaker. */
  readonly failureCountMax: number;
  /** How long it stays open before a probe. */
  readonly openMs: number;
  /** Answers kept, oldest given up first. */
  readonly cacheCountMax: number;
  /** 0: nothing is kept. */
  readonly cacheSec: number;
  /** How long beyond `cacheSec` an answer serves while the server fails; 0: not at all. */
  readonly staleSec: number;
  /** Monotonic milliseconds; for tests. */
  readonly nowMs?: () => number;
}

export type Guarded<T> =
  | { readonly isAnswered: true; readonly value: T; readonly isStale: boolean }
  | { readonly isAnswered: false; readonly why: "failed" | "late" | "open" | "busy" | "stopped" };

interface Entry {
  readonly value: unknown;
  readonly atMs: number;
}

interface Job {
  readonly key: string | undefined;
  readonly call: (signal: AbortSignal) => Promise<unknown>;
  readonly abort: AbortController;
  readonly done: ((result: Guarded<unknown>) => void)[];
  timer: ReturnType<typeof setTimeout> | undefined;
  /** −1 while it waits. */
  startedMs: number;
  isDone: boolean;
  /** `fresh`: for an address that has not failed, while the breaker is open. */
  readonly probe: "none" | "due" | "fresh";
  /** Where the question came from; undefined: from nobody in particular. */
  readonly address: string | undefined;
  /** What was true when it was asked for may not be true when it is answered. */
  readonly generation: number;
}

/** The server has answered, but with a fault. That says nothing about other questions: the breaker does not count it. */
export class AnsweredFault extends Error {}

const REFUSED_PER_TURN = 50;
/** Addresses that failed since the last answer, as far as they are kept apart. */
const FAILING_COUNT_MAX = 1000;

const hmacKey = randomBytes(32);

export class RemoteGuard {
  readonly counts = {
    asked: 0,
    cached: 0,
    shared: 0,
    called: 0,
    answered: 0,
    failed: 0,
    late: 0,
    busy: 0,
    refusedOpen: 0,
    stale: 0,
    opened: 0,
  };
  private readonly cache = new Map<string, Entry>();
  private readonly underWay = new Map<string, Job>();
  private readonly waiting: Job[] = [];
  private readonly running = new Set<Job>();
  private readonly nowMs: () => number;
  private failuresInRow = 0;
  private openUntilMs = -1;
  private readonly probing = new Set<Job["probe"]>();
  /** Addresses whose questions failed since the last answer. */
  private readonly failing = new Set<string>();
  /** Since the last answer without one. */
  private faultsInRow = 0;
  private answeredMs = -1;
  private isStopped = false;
  private isRefusing = false;
  private generation = 0;
  private lastError: string | undefined;

  constructor(private readonly options: GuardOptions) {
    this.nowMs = options.nowMs ?? (() => performance.now());
  }

  /**
   * Calls `done` exactly once, before it returns when the answer is cached or refused. `key` names the question,
   * everything it depends on included; undefined: never cached, never shared. A rejection of `call` counts against the
   * server, unless it is an AnsweredFault: what the server answered, "no such user" included, is a value. `call` ends soon
   * after `signal` is aborted. `address` is that of the client who is asked about.
   */
  ask<T>(
    key: string | undefined,
    call: (signal: AbortSignal) => Promise<T>,
    done: (result: Guarded<T>) => void,
    address?: string,
  ): void {
    this.counts.asked++;
    const answer = done as (result: Guarded<unknown>) => void;
    if (this.isStopped) return answer({ isAnswered: false, why: "stopped" });
    const entry = key === undefined ? undefined : this.cache.get(key);
    if (entry && this.ageSec(entry) < this.options.cacheSec) {
      this.counts.cached++;
      return answer({ isAnswered: true, value: entry.value, isStale: false });
    }
    const other = key === undefined ? undefined : this.underWay.get(key);
    // The sharers' list is bounded as the waiting is.
    if (other && other.generation === this.generation && other.done.length <= this.options.waitingMax) {
      this.counts.shared++;
      other.done.push(answer);
      return;
    }
    this.start({ key, call, address }, answer);
  }

  /** A cache key that does not show what it was made of: for answers that depend on a password or token. */
  secretKey(...parts: readonly (string | Buffer)[]): string {
    const hmac = createHmac("sha256", hmacKey);
    for (const part of parts) {
      const bytes = typeof part === "string" ? Buffer.from(part) : part;
      hmac.update(`${bytes.length}:`).update(bytes);
    }
    return hmac.digest("base64");
  }

  /** Forgets every answer; those under way are not kept either. */
  clear(): void {
    this.generation++;
    this.cache.clear();
  }

  /** Aborts what runs; everybody who waits is answered. */
  stop(): void {
    this.isStopped = true;
    for (const job of [...this.running, ...this.waiting.splice(0)]) {
      job.abort.abort();
      this.finish(job, { isAnswered: false, why: "stopped" });
    }
    this.cache.clear();
  }

  health(): BackendHealth {
    const isOpen = this.openUntilMs >= 0;
    const failures = this.failuresInRow + this.faultsInRow;
    return {
      state: isOpen ? "down" : failures > 0 ? "degraded" : "up",
      detail: failures > 0 ? this.lastError : undefined,
      counts: { ...this.counts, running: this.running.size, waiting: this.waiting.length, kept: this.cache.size },
    };
  }

  /** While the breaker is open: may this question find out whether the server is back? */
  private probeOf(address: string | undefined): Job["probe"] {
    if (this.nowMs() >= this.openUntilMs && !this.probing.has("due")) return "due";
    const isFresh = address !== undefined && !this.failing.has(address) && this.failing.size < FAILING_COUNT_MAX;
    return isFresh && !this.probing.has("fresh") ? "fresh" : "none";
  }

  private start(
    { key, call, address }: Pick<Job, "key" | "call" | "address">,
    answer: (result: Guarded<unknown>) => void,
  ): void {
    const isOpen = this.openUntilMs >= 0;
    const probe = isOpen ? this.probeOf(address) : "none";
    if (isOpen && probe === "none") {
      this.counts.refusedOpen++;
      return answer(this.staleOr(key, { isAnswered: false, why: "open" }));
    }
    const hasRoom = this.running.size < this.options.runningMax;
    if (!hasRoom && this.waiting.length >= this.options.waitingMax) {
      this.counts.busy++;
      return answer(this.staleOr(key, { isAnswered: false, why: "busy" }));
    }
    const abort = new AbortController();
    const { generation } = this;
    const done = [answer];
    const job: Job = {
      key,
      call,
      abort,
      done,
      timer: undefined,
      startedMs: -1,
      isDone: false,
      probe,
      address,
      generation,
    };
    if (isOpen) this.probing.add(probe);
    if (key !== undefined) this.underWay.set(key, job);
    job.timer = setTimeout(() => this.handleDeadline(job), this.options.deadlineMs);
    if (hasRoom) this.run(job);
    else this.waiting.push(job);
  }

  private run(job: Job): void {
    job.startedMs = this.nowMs();
    this.running.add(job);
    this.counts.called++;
    let promise: Promise<unknown>;
    try {
      promise = job.call(job.abort.signal);
    } catch (error) {
      promise = Promise.reject(error as Error);
    }
    promise.then(
      (value) => this.handleValue(job, value),
      (error: unknown) => this.handleFailure(job, error),
    );
  }

  private handleValue(job: Job, value: unknown): void {
    if (job.isDone) return;
    this.counts.answered++;
    this.faultsInRow = 0;
    this.noteThere();
    const { cacheSec, staleSec, cacheCountMax } = this.options;
    if (job.key !== undefined && cacheSec + staleSec > 0 && job.generation === this.generation) {
      this.cache.delete(job.key); // so that it becomes the youngest
      this.cache.set(job.key, { value, atMs: this.nowMs() });
      if (this.cache.size > cacheCountMax) this.cache.delete(this.cache.keys().next().value!);
    }
    this.finish(job, { isAnswered: true, value, isStale: false });
  }

  private handleFailure(job: Job, error: unknown): void {
    if (job.isDone) return;
    this.counts.failed++;
    const detail = error instanceof Error ? error.message : "it failed";
    if (error instanceof AnsweredFault) {
      this.faultsInRow++;
      this.lastError = detail.slice(0, 200);
      this.noteThere();
    } else this.noteFailure(detail, job);
    this.finish(job, this.staleOr(job.key, { isAnswered: false, why: "failed" }));
  }

  private handleDeadline(job: Job): void {
    if (job.isDone) return;
    this.counts.late++;
    const { deadlineMs } = this.options;
    // One that waited for most of its time says something about the crowd, not about the server.
    const isLongEnough = job.startedMs >= 0 && this.nowMs() - job.startedMs >= deadlineMs / 2;
    // Others have been answered while it ran: it is the question that takes so long.
    const isServers = isLongEnough && this.answeredMs < job.startedMs;
    if (isServers || job.probe !== "none") this.noteFailure(`no answer within ${deadlineMs} ms`, job);
    job.abort.abort();
    this.finish(job, this.staleOr(job.key, { isAnswered: false, why: "late" }));
  }

  /** The server has answered. */
  private noteThere(): void {
    this.failuresInRow = 0;
    this.failing.clear();
    this.openUntilMs = -1;
    this.answeredMs = this.nowMs();
  }

  private noteFailure(detail: string, job: Job): void {
    this.lastError = detail.slice(0, 200);
    this.failuresInRow++;
    if (job.address !== undefined && this.failing.size < FAILING_COUNT_MAX) this.failing.add(job.address);
    if (job.probe !== "none" || this.failuresInRow >= this.options.failureCountMax) {
      if (this.openUntilMs < 0) this.counts.opened++;
      this.openUntilMs = this.nowMs() + this.options.openMs;
    }
  }

  private finish(job: Job, result: Guarded<unknown>): void {
    job.isDone = true;
    clearTimeout(job.timer);
    if (job.key !== undefined && this.underWay.get(job.key) === job) this.underWay.delete(job.key);
    this.probing.delete(job.probe);
    if (!this.running.delete(job)) {
      const at = this.waiting.indexOf(job);
      if (at >= 0) this.waiting.splice(at, 1);
    }
    this.runNext();
    for (const done of job.done) done(result);
  }

  /** Those who wait when the breaker opens are not sent one by one into their deadlines. */
  private runNext(): void {
    if (this.openUntilMs >= 0) return this.refuseWaiting();
    while (this.running.size < this.options.runningMax) {
      const next = this.waiting.shift();
      if (!next) return;
      this.run(next);
    }
  }

  /** A few in a turn: thousands of refusals at once would hold the loop. */
  private refuseWaiting(): void {
    if (this.isRefusing || this.waiting.length === 0) return;
    this.isRefusing = true;
    for (const job of this.waiting.splice(0, REFUSED_PER_TURN)) {
      this.counts.refusedOpen++;
      this.finish(job, this.staleOr(job.key, { isAnswered: false, why: "open" }));
    }
    setImmediate(() => {
      this.isRefusing = false;
      this.runNext();
    });
  }

  private staleOr(key: string | undefined, failure: Guarded<unknown>): Guarded<unknown> {
    const entry = key === undefined ? undefined : this.cache.get(key);
    const { cacheSec, staleSec } = this.options;
    if (!entry || staleSec === 0 || this.ageSec(entry) >= cacheSec + staleSec) return failure;
    this.counts.stale++;
    return { isAnswered: true, value: entry.value, isStale: true };
  }

  private ageSec({ atMs }: Entry): number {
    return (this.nowMs() - atMs) / 1000;
  }
}
