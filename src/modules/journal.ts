/**
 * Entries on disk, written by a thread that all journals of a process share, so that no sync holds up the event loop.
 *
 *   put ─┐                    one transaction         ┌─► each put and remove of it resolves
 *   put ─┼─ pending ─ when the one before is done ─► thread
 *   remove ┘                                          └─► or rejects: nothing of it is written
 *
 * How much may be put is the caller's to bound. When the thread has ended (journal-link.ts), what was on its way to it rejects: of that
 * nothing is left in the file either, once this is open again.
 */
import { RemoteFile } from "./journal-link.ts";
import {
  type JournalEntry,
  type JournalState,
  memoryOf,
  pack,
  type SqlStatement,
  type SyncMode,
  unpack,
} from "./journal-message.ts";

const MEMORY = ":memory:";

/** What those who use one say of `onReopen`. */
export const RESTARTED = "the thread that writes to disk had ended; it was started again";
export const RESTARTS_HELP = "How often the thread that writes to disk was started again";

/** Puts and removes that are written together. */
interface Batch {
  readonly puts: JournalEntry[];
  readonly removes: number[];
  readonly written: PromiseWithResolvers<void>;
}

export class Journal {
  /** Of what is kept or about to be. */
  count = 0;
  bytes = 0;
  /** What was wrong with the file that was found, and where it is now; undefined: nothing. */
  damage: string | undefined;
  /** Told when its thread had ended and it is open again: how many entries are gone, which those in memory are. */
  onReopen: (lostCount: number) => void = () => {};
  private readonly file: RemoteFile<"open">;
  private lastSeq = 0;
  /** What the file has, as far as it has said so. */
  private kept = { count: 0, bytes: 0 };
  /** Rejected when the thread ended, though it may have written them; removes of which the same is true. */
  private doubtful: number[] = [];
  private doubtfulRemoves = 0;
  private isOpen = false;
  private pending: Batch | undefined;
  private writing: Promise<unknown> | undefined;

  private constructor(
    private readonly path: string,
    sync: SyncMode,
    hasDues: boolean,
  ) {
    this.file = new RemoteFile({ kind: "open", path, sync, hasDues }, (found) => this.begin(found));
  }

  /**
   * `path`: `:memory:` for one that is gone with the process. With `hasDues` it is quick to find what is due. Rejects with MantouError
   * `journal_failed`.
   */
  static async open(path: string, sync: SyncMode, hasDues = false): Promise<Journal> {
    const journal = new Journal(path, sync, hasDues);
    await journal.file.open();
    return journal;
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
    const { entries, nextDue } = await this.file.ask({ kind: "due", dueMax, countMax, bytesMax });
    return { entries: unpack(entries), nextDue };
  }

  /** By number, those after `after`. At least one where there is one, whatever its size. */
  async readPage(after: number, countMax: number, bytesMax: number): Promise<JournalEntry[]> {
    return unpack((await this.file.ask({ kind: "page", after, countMax, bytesMax })).entries);
  }

  /** Writes what is pending. */
  async close(): Promise<void> {
    while (this.writing) await this.writing.catch(() => {});
    await this.file.close();
  }

  /** It is open, for the first time or again. */
  private async begin(found: JournalState): Promise<void> {
    let { count, bytes } = found;
    if (this.doubtful.length > 0) {
      const gone = await this.file.askNow({ kind: "write", puts: pack([]), removes: this.doubtful });
      count -= gone.removedCount;
      bytes -= gone.removedBytes;
    }
    const lost = this.path === MEMORY || found.damage ? this.kept.count - this.doubtfulRemoves - count : 0;
    this.damage = found.damage;
    this.lastSeq = Math.max(this.lastSeq, found.lastSeq);
    this.count += count - this.kept.count;
    this.bytes += bytes - this.kept.bytes;
    this.kept = { count, bytes };
    this.doubtful = [];
    this.doubtfulRemoves = 0;
    if (this.isOpen) this.onReopen(Math.max(0, lost));
    this.isOpen = true;
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
      let isOnItsWay = false;
      try {
        if (!this.file.isReady) await this.file.open();
        isOnItsWay = true;
        const request = { kind: "write", puts: packed, removes } as const;
        const { removedCount, removedBytes } = await this.file.askNow(request, memoryOf(packed));
        this.count -= removedCount;
        this.bytes -= removedBytes;
        this.kept.count += puts.length - removedCount;
        this.kept.bytes += bytesOf(puts) - removedBytes;
        written.resolve();
      } catch (error) {
        this.count -= puts.length;
        this.bytes -= bytesOf(puts);
        if (isOnItsWay && !this.file.isReady) this.doubt(puts, removes);
        written.reject(error);
      }
    }
    this.writing = undefined;
  }

  private doubt(puts: readonly JournalEntry[], removes: readonly number[]): void {
    for (const { seq } of puts) this.doubtful.push(seq);
    this.doubtfulRemoves += removes.length;
  }
}

function bytesOf(entries: readonly JournalEntry[]): number {
  return entries.reduce((sum, { body }) => sum + body.length, 0);
}

/** A database of somebody else's tables, written by the same thread. Everything rejects with MantouError `journal_failed`. */
export class SqlFile {
  private constructor(private readonly file: RemoteFile<"sql-open">) {}

  static async open(path: string, schema: readonly string[]): Promise<SqlFile> {
    const file = new RemoteFile({ kind: "sql-open", path, schema });
    await file.open();
    return new SqlFile(file);
  }

  /** All of them, or none; when the thread ends meanwhile it is not known which. */
  run(texts: readonly string[], statements: readonly SqlStatement[]): Promise<undefined> {
    return this.file.ask({ kind: "sql-run", texts, statements });
  }

  close(): Promise<void> {
    return this.file.close();
  }
}
