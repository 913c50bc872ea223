/**
 * `$delayed/SECONDS/TOPIC`: published to TOPIC so many seconds later.
 *
 *   PUBLISH ─► access judges TOPIC ─► within the limits? ─► journal ─► committed ─► PUBACK
 *                                                             │ due: the earliest first
 *                                                             ▼
 *                                                    republished ─► committed ─► removed
 *
 * What is acknowledged is on disk. A message is removed only when what it became is safe, so a crash between the two publishes it a
 * second time. Nothing of a message is kept in memory, whatever their number. Times are wall-clock: what falls due while the broker is
 * down is published when it is up again.
 */
import { join } from "node:path";
import { type Counter, type HookMessage, MantouError, type PluginApi, type z } from "#plugins/plugin.ts";
import { Journal, RESTARTED, RESTARTS_HELP } from "./journal.ts";
import type { JournalEntry } from "./journal-message.ts";
import { decodeMessage, encodeMessage } from "./message-bytes.ts";
import type { delayedOptions } from "./options.ts";

type Options = z.output<typeof delayedOptions>;

/** 5.0 reason codes. */
const TOPIC_NAME_INVALID = 0x90;
const QUOTA_EXCEEDED = 0x97;

const SEC_MS = 1000;
const RELEASE_COUNT_MAX = 100;
const RELEASE_BYTES_MAX = 4 * 1024 * 1024;
const RETRY_MS = 1000;
/** The clock may be set, and timers have a greatest delay. */
const LOOK_MS_MAX = 60_000;
const WAIT_MS_MAX = 30_000;
const STOP_MS_MAX = 1000;

export async function startDelayed(api: PluginApi<Options>): Promise<() => Promise<void>> {
  const { sync } = api.broker;
  const isKept = sync !== "memory";
  const journal = await Journal.open(
    isKept ? join(api.dataDir, "delayed.db") : ":memory:",
    isKept ? sync : "off",
    true,
  );
  tellDamage(api, journal);
  const delayed = new Delayed(api, journal);
  return () => delayed.stop();
}

function tellDamage({ log }: PluginApi<Options>, { damage }: Journal): void {
  if (damage !== undefined) log.error("the file of delayed messages was damaged; a new one is begun", { damage });
}

/** `$delayed/5/a/b`: 5 and `a/b`. Undefined for what has no such form, or is to be delayed twice. */
export function parseDelayed(topic: string): { readonly sec: number; readonly topic: string } | undefined {
  const [, sec, rest] = /^\$delayed\/(\d{1,10})\/(.+)$/s.exec(topic) ?? [];
  if (sec === undefined || rest!.startsWith("$delayed/")) return undefined;
  return { sec: Number(sec), topic: rest! };
}

export class Delayed {
  private isStopped = false;
  private releasing: Promise<void> | undefined;
  /** Published, and still in the journal. */
  private released: number[] = [];
  private undoTimer: () => void = () => {};
  private timerMs = Infinity;
  private readonly cancelled = new Set<number>();
  private readonly published: Counter;
  private readonly lost: Counter;
  private readonly refused: Readonly<Record<"topic" | "limit" | "disk", Counter>>;

  constructor(
    private readonly api: PluginApi<Options>,
    private readonly journal: Journal,
  ) {
    this.published = api.counter("published_total", "Delayed messages that were published when they were due");
    this.lost = api.counter("lost_total", "Delayed messages that could not be read again");
    const refused = (reason: string): Counter =>
      api.counter("refused_total", "Delayed messages that were refused", { reason });
    this.refused = { topic: refused("topic"), limit: refused("limit"), disk: refused("disk") };
    const restarts = api.counter("journal_restarts_total", RESTARTS_HELP);
    journal.onReopen = (lostCount) => {
      restarts.add();
      this.lost.add(lostCount);
      api.log.warn(RESTARTED, { lostCount });
      tellDamage(api, journal);
    };
    api.gauge("messages", "Delayed messages that wait", () => journal.count);
    api.gauge("bytes", "Bytes of delayed messages that wait", () => journal.bytes);
    api.onAsync("message.publish", (message) => this.take(message), {
      below: "$delayed/+",
      whenFailed: "refuse",
      waitMsMax: WAIT_MS_MAX,
    });
    api.command({
      name: "delayed",
      usage: "list [AFTER] | cancel ID",
      description: "messages that are published later ($delayed/SECONDS/TOPIC)",
      isEverywhere: true,
      run: (args) => this.command(args),
    });
    this.look(0);
  }

  async stop(): Promise<void> {
    this.isStopped = true;
    // What is not committed by then is published again at the next start.
    await Promise.race([this.releasing, Bun.sleep(STOP_MS_MAX)]);
    const { count } = this.journal;
    if (count > 0 && this.api.broker.sync === "memory")
      this.api.log.warn("delayed messages that were kept in memory are gone", { count });
    await this.journal.close();
  }

  // ---- in

  /** False always: it is kept, or refused. */
  private async take(message: HookMessage): Promise<false> {
    const { countMax, bytesMax, secMax } = this.api.config;
    const wish = parseDelayed(message.topic);
    if (!wish || wish.sec > secMax) return this.refuse(message, "topic", TOPIC_NAME_INVALID);
    const body = encodeMessage({ ...message.copy(), topic: wish.topic });
    const { journal } = this;
    if (journal.count >= countMax || journal.bytes + body.length > bytesMax)
      return this.refuse(message, "limit", QUOTA_EXCEEDED);
    const due = Date.now() + wish.sec * SEC_MS;
    try {
      await journal.put({ seq: journal.nextSeq(), due, body });
    } catch (error) {
      this.api.log.error("a delayed message could not be kept; it is refused", { reason: (error as Error).message });
      return this.refuse(message, "disk", QUOTA_EXCEEDED);
    }
    message.isTaken = true;
    this.look(due);
    return false;
  }

  private refuse(message: HookMessage, reason: "topic" | "limit" | "disk", reasonCode: number): false {
    this.refused[reason].add();
    message.reasonCode = reasonCode;
    return false;
  }

  // ---- out

  /** Looks for what is due at that time, unless it looks sooner. */
  private look(atMs: number): void {
    if (this.isStopped || atMs >= this.timerMs) return;
    this.undoTimer();
    this.timerMs = atMs;
    const delayMs = Math.min(LOOK_MS_MAX, Math.max(0, atMs - Date.now()));
    this.undoTimer = this.api.setTimeout(() => {
      this.timerMs = Infinity;
      this.releasing ??= this.release().finally(() => (this.releasing = undefined));
    }, delayMs);
  }

  private async release(): Promise<void> {
    let nextMs = Infinity;
    try {
      while (!this.isStopped) {
        if (this.released.length > 0) await this.forget();
        const { entries, nextDue } = await this.journal.readDue(Date.now(), RELEASE_COUNT_MAX, RELEASE_BYTES_MAX);
        nextMs = nextDue ?? Infinity;
        if (entries.length === 0) break;
        await this.publishAll(entries);
      }
    } catch (error) {
      this.api.log.warn("delayed messages that are due have to wait", { reason: (error as Error).message });
      nextMs = Date.now() + RETRY_MS;
    }
    // One that came meanwhile has set the timer for itself.
    if (nextMs < Infinity) this.look(nextMs);
  }

  /** In order. Rejects when some have to be tried again; what was published and is not committed yet is published twice then. */
  private async publishAll(entries: readonly JournalEntry[]): Promise<void> {
    const outcomes = await Promise.allSettled(entries.map((entry) => this.publish(entry)));
    const failures = outcomes.flatMap((outcome, i) => {
      if (outcome.status === "rejected") return [outcome.reason as Error];
      this.released.push(entries[i]!.seq);
      return [];
    });
    await this.forget();
    if (failures.length > 0) throw failures[0]!;
  }

  private async publish({ seq, body }: JournalEntry): Promise<void> {
    if (this.cancelled.has(seq)) return;
    const message = decodeMessage(body);
    if (!message) {
      this.lost.add();
      return this.api.log.error("a delayed message is lost: what the disk has is not what was written");
    }
    await this.api.republish(message);
    this.published.add();
  }

  private async forget(): Promise<void> {
    const { released } = this;
    await this.journal.remove(released);
    this.released = this.released.slice(released.length);
  }

  // ---- asked by people

  private async command([verb, word]: readonly string[]): Promise<unknown> {
    if (verb === "list") return { messages: await this.list(word === undefined ? 0 : this.numberOf(word)) };
    if (verb === "cancel" && word !== undefined) return { cancelled: await this.cancel(this.numberOf(word)) };
    throw new MantouError("params_invalid", "delayed: allowed: list [AFTER], cancel ID");
  }

  /** `0-17`: the 17th of worker 0; −1 for one of another worker. */
  private numberOf(word: string): number {
    const [, worker, seq] = /^(\d{1,6})-(\d{1,15})$/.exec(word) ?? [];
    if (worker === undefined)
      throw new MantouError("params_invalid", `delayed: found ${word.slice(0, 40)}, allowed: an ID as list shows it`);
    return Number(worker) === this.api.broker.worker ? Number(seq) : -1;
  }

  /** By number, so many at a time: the last one's ID is where the next page begins. */
  private async list(after: number): Promise<object[]> {
    if (after < 0) return [];
    const entries = await this.journal.readPage(after, RELEASE_COUNT_MAX, RELEASE_BYTES_MAX);
    return entries.map(({ seq, due, body }) => {
      const message = decodeMessage(body);
      const { topic = "", qos = 0, isRetain: retain = false, publisher: clientid = null } = message ?? {};
      const payloadBytes = message?.payload.length ?? 0;
      const id = `${this.api.broker.worker}-${seq}`;
      return { id, dueAt: new Date(due).toISOString(), topic, qos, retain, payloadBytes, clientid };
    });
  }

  /** False when it is not there any more. */
  private async cancel(seq: number): Promise<boolean> {
    const [entry] = seq < 1 ? [] : await this.journal.readPage(seq - 1, 1, 1);
    if (entry?.seq !== seq || this.released.includes(seq)) return false;
    this.cancelled.add(seq);
    await this.journal.remove([seq]).finally(() => this.cancelled.delete(seq));
    return true;
  }
}
