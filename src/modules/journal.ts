/**
 * Entries on disk, written by a thread that all journals of a process share, so that no sync holds up the event loop.
 *
 *   put ─┐                    one transaction         ┌─► each put and remove of it resolves
 *   put ─┼─ pending ─ when the one before is done ─► thread
 *   remove ┘                                          └─► or rejects: nothing of it is written
 *
 * How much may be put is the caller's to bound. The thread is started with the first journal and stays: starting one when the process
 * is out of descriptors would end it.
 */
import { existsSync } from "node:fs";
import { MantouError } from "#plugins/plugin.ts";
import { threadUrl } from "#base/thread-url.ts";
import {
  type FromJournalThread,
  type JournalAnswers,
  type JournalEntry,
  type JournalRequest,
  type JournalState,
  memoryOf,
  pack,
  type SqlStatement,
  type SyncMode,
  type ToJournalThread,
  unpack,
} from "./journal-message.ts";

interface Waiter {
  resolve(answer: never): void;
  reject(error: Error): void;
}

class JournalThread {
  isDead = false;
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiter>();
  private lastId = 0;
  private lastJournal = 0;

  constructor() {
    const place = { folder: "modules", file: "journal-thread-sqlite" };
    this.worker = new Worker(threadUrl(import.meta.url, place, existsSync), { name: "journal" });
    this.worker.onmessage = ({ data }: { readonly data: FromJournalThread }) => this.handle(data);
    this.worker.onerror = ({ message }) => this.die(message);
  }

  newJournal(): number {
    return ++this.lastJournal;
  }

  ask<K extends JournalRequest["kind"]>(
    journal: number,
    request: JournalRequest & { kind: K },
    handedOver: ArrayBuffer[] = [],
  ): Promise<JournalAnswers[K]> {
    if (this.isDead) return Promise.reject(fault("its thread has failed"));
    const { promise, resolve, reject } = Promise.withResolvers<JournalAnswers[K]>();
    const id = ++this.lastId;
    this.waiting.set(id, { resolve, reject });
    if (this.waiting.size === 1) this.worker.ref();
    const message: ToJournalThread = { id, journal, request };
    this.worker.postMessage(message, handedOver);
    return promise;
  }

  private handle(data: FromJournalThread): void {
    const waiter = this.waiting.get(data.id);
    this.waiting.delete(data.id);
    if (this.waiting.size === 0) this.worker.unref();
    if ("failure" in data) waiter?.reject(fault(data.failure));
    else waiter?.resolve(data.answer as never);
  }

  private die(message: string): void {
    this.isDead = true;
    for (const { reject } of this.waiting.values()) reject(fault(`its thread has failed: ${message}`));
    this.waiting.clear();
  }
}

let thread: JournalThread | undefined;

function threadOf(): JournalThread {
  if (!thread || thread.isDead) thread = new JournalThread();
  return thread;
}

function fault(words: string): MantouError {
  return new MantouError("journal_failed", words);
}

/** Puts and removes that are written together. */
interface Batch {
  readonly puts: JournalEntry[];
  readonly removes: number[];
  readonly written: PromiseWithResolvers<void>;
}

export class Journal {
  /** Of what is kept or about to be. */
  count: number;
  bytes: number;
  private lastSeq: number;
  private pending: Batch | undefined;
  private writing: Promise<unknown> | undefined;

  private constructor(
    private readonly thread: JournalThread,
    private readonly number: number,
    state: JournalState,
  ) {
    ({ count: this.count, bytes: this.bytes, lastSeq: this.lastSeq } = state);
    this.damage = state.damage;
  }

  /** What was wrong with the file that was found, and where it is now; undefined: nothing. */
  readonly damage: string | undefined;

  /**
   * `path`: `:memory:` for one that is gone with the process. With `hasDues` it is quick to find what is due. Rejects with MantouError
   * `journal_failed`.
   */
  static async open(path: string, sync: SyncMode, hasDues = false): Promise<Journal> {
    const opened = threadOf();
    const number = opened.newJournal();
    return new Journal(opened, number, await opened.ask(number, { kind: "open", path, sync, hasDues }));
  }

  /** A number for the next entry. */
  nextSeq(): number {
    return ++this.lastSeq;
  }

  /** Resolves when the entry is safe. The body must not change until then. Rejects with MantouError `journal_failed`. */
  put(entry: JournalEntry): Promise<void> {
    this.count++;
    this.bytes += entry.body.length;
    const batch = this.batch();
    batch.puts.push(entry);
    return batch.written.promise;
  }

  /** Resolves when they are gone for good; those that are not there are none. Rejects with MantouError `journal_failed`. */
  remove(seqs: readonly number[]): Promise<void> {
    const batch = this.batch();
    for (const seq of seqs) batch.removes.push(seq);
    return batch.written.promise;
  }

  /** What is due until then, the earliest first; among equals by number. At least one where there is one, whatever its size. */
  async readDue(
    dueMax: number,
    countMax: number,
    bytesMax: number,
  ): Promise<{ readonly entries: JournalEntry[]; readonly nextDue: number | undefined }> {
    const { entries, nextDue } = await this.thread.ask(this.number, { kind: "due", dueMax, countMax, bytesMax });
    return { entries: unpack(entries), nextDue };
  }

  /** By number, those after `after`. At least one where there is one, whatever its size. */
  async readPage(after: number, countMax: number, bytesMax: number): Promise<JournalEntry[]> {
    return unpack((await this.thread.ask(this.number, { kind: "page", after, countMax, bytesMax })).entries);
  }

  /** Writes what is pending. */
  async close(): Promise<void> {
    while (this.writing) await this.writing.catch(() => {});
    await this.thread.ask(this.number, { kind: "close" });
  }

  private batch(): Batch {
    if (this.pending) return this.pending;
    const written = Promise.withResolvers<void>();
    written.promise.catch(() => {}); // whoever does not wait need not hear of it
    this.pending = { puts: [], removes: [], written };
    if (!this.writing) {
      this.writing = this.write();
    }
    return this.pending;
  }

  private async write(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve)); // what this tick puts is written together
    while (this.pending) {
      const { puts, removes, written } = this.pending;
      this.pending = undefined;
      const packed = pack(puts);
      try {
        const request = { kind: "write", puts: packed, removes } as const;
        const { removedCount, removedBytes } = await this.thread.ask(this.number, request, memoryOf(packed));
        this.count -= removedCount;
        this.bytes -= removedBytes;
        written.resolve();
      } catch (error) {
        this.count -= puts.length;
        for (const { body } of puts) this.bytes -= body.length;
        written.reject(error);
      }
    }
    this.writing = undefined;
  }
}

/** A database of somebody else's tables, written by the same thread. Everything rejects with MantouError `journal_failed`. */
export class SqlFile {
  private constructor(
    private readonly thread: JournalThread,
    private readonly number: number,
  ) {}

  static async open(path: string, schema: readonly string[]): Promise<SqlFile> {
    const opened = threadOf();
    const number = opened.newJournal();
    await opened.ask(number, { kind: "sql-open", path, schema });
    return new SqlFile(opened, number);
  }

  /** All of them, or none. */
  run(texts: readonly string[], statements: readonly SqlStatement[]): Promise<undefined> {
    return this.thread.ask(this.number, { kind: "sql-run", texts, statements });
  }

  close(): Promise<void> {
    return this.thread.ask(this.number, { kind: "close" });
  }
}
