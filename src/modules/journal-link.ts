/**
 * The thread of all journals of a process, and a file on it. The thread is started with the first file and stays: starting one when the
 * process is out of descriptors would end it, so that the broker keeps some in reserve.
 *
 *   ask ─► thread ─► answer
 *            ╳ it ended ─► what it was asked rejects ─► the next that is asked, a while later, starts it again, and the file is opened anew
 *
 * A thread that keeps ending is started less and less often: after half a second first, a minute at last.
 */
import { existsSync } from "node:fs";
import { threadUrl } from "#base/thread-url.ts";
import { MantouError } from "#plugins/plugin.ts";
import type { FromJournalThread, JournalAnswers, JournalRequest, ToJournalThread } from "./journal-message.ts";

const PAUSE_MS_MIN = 500;
const PAUSE_MS_MAX = 60_000;
/** One that has lived so long is started again as soon as the first. */
const CALM_MS = 60_000;

interface Waiter {
  resolve(answer: never): void;
  reject(error: Error): void;
}

class JournalThread {
  isDead = false;
  /** Why it ended. */
  reason = "";
  private readonly startedAtMs = performance.now();
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiter>();
  private lastId = 0;

  constructor() {
    const place = { folder: "modules", file: "journal-thread-sqlite" };
    this.worker = new Worker(threadUrl(import.meta.url, place, existsSync), { name: "journal" });
    this.worker.onmessage = ({ data }: { readonly data: FromJournalThread }) => this.handle(data);
    this.worker.onerror = ({ message }) => this.die(/^error: (.*)$/m.exec(message)?.[1] ?? message);
    this.worker.addEventListener("close", () => this.die("it has ended"));
    this.worker.unref();
  }

  ask<K extends JournalRequest["kind"]>(
    journal: number,
    request: JournalRequest & { kind: K },
    handedOver: ArrayBuffer[] = [],
  ): Promise<JournalAnswers[K]> {
    if (this.isDead) return Promise.reject(fault(this.words));
    const { promise, resolve, reject } = Promise.withResolvers<JournalAnswers[K]>();
    const id = ++this.lastId;
    this.waiting.set(id, { resolve, reject });
    if (this.waiting.size === 1) this.worker.ref();
    const message: ToJournalThread = { id, journal, request };
    this.worker.postMessage(message, handedOver);
    return promise;
  }

  get words(): string {
    return `its thread has failed: ${this.reason}`;
  }

  private handle(data: FromJournalThread): void {
    const waiter = this.waiting.get(data.id);
    this.waiting.delete(data.id);
    if (this.waiting.size === 0) this.worker.unref();
    if ("failure" in data) waiter?.reject(fault(data.failure));
    else waiter?.resolve(data.answer as never);
  }

  private die(reason: string): void {
    if (this.isDead) return;
    this.isDead = true;
    this.reason = reason;
    pauseMs = performance.now() - this.startedAtMs > CALM_MS ? PAUSE_MS_MIN : Math.min(PAUSE_MS_MAX, pauseMs * 2);
    restartAtMs = performance.now() + pauseMs;
    for (const { reject } of this.waiting.values()) reject(fault(this.words));
    this.waiting.clear();
  }
}

let thread: JournalThread | undefined;
let pauseMs = PAUSE_MS_MIN / 2;
let restartAtMs = 0;
let lastNumber = 0;

/** @throws MantouError `journal_failed` while it is too early to start it again */
function threadOf(): JournalThread {
  if (thread?.isDead && performance.now() < restartAtMs) throw fault(thread.words);
  if (!thread || thread.isDead) thread = new JournalThread();
  return thread;
}

function fault(words: string): MantouError {
  return new MantouError("journal_failed", words);
}

type Opening = "open" | "sql-open";

/** A file on the thread. Everything rejects with MantouError `journal_failed`. */
export class RemoteFile<K extends Opening = Opening> {
  private opening: Promise<void> | undefined;
  private thread: JournalThread | undefined;
  private number = 0;

  /** `whenOpen` is told what was found, also when it is opened anew; until it resolves nobody else is served. */
  constructor(
    private readonly request: JournalRequest & { kind: K },
    private readonly whenOpen: (found: JournalAnswers[K]) => Promise<void> | void = () => {},
  ) {}

  get isReady(): boolean {
    return this.thread !== undefined && !this.thread.isDead && this.opening === undefined;
  }

  async ask<A extends JournalRequest["kind"]>(
    request: JournalRequest & { kind: A },
    handedOver: ArrayBuffer[] = [],
  ): Promise<JournalAnswers[A]> {
    if (!this.isReady) await this.open();
    return this.askNow<A>(request, handedOver);
  }

  /** From `whenOpen`. */
  askNow<A extends JournalRequest["kind"]>(
    request: JournalRequest & { kind: A },
    handedOver: ArrayBuffer[] = [],
  ): Promise<JournalAnswers[A]> {
    return this.thread!.ask<A>(this.number, request, handedOver);
  }

  open(): Promise<void> {
    return (this.opening ??= this.openAnew().finally(() => (this.opening = undefined)));
  }

  /** Not opened for it when its thread has ended. */
  async close(): Promise<void> {
    await this.opening?.catch(() => {});
    if (this.thread && !this.thread.isDead) await this.askNow({ kind: "close" });
  }

  private async openAnew(): Promise<void> {
    const opened = threadOf();
    const number = ++lastNumber;
    const found = await opened.ask<K>(number, this.request);
    this.number = number;
    try {
      this.thread = opened;
      await this.whenOpen(found);
    } catch (error) {
      this.thread = undefined;
      await opened.ask(number, { kind: "close" }).catch(() => {});
      throw error;
    }
  }
}
