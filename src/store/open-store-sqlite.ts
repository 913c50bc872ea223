/**
 * A store from its directory to a writer that has recovered: lock, file, and salvage when the file is damaged.
 *
 *   lock ─► open ──────────────────► settle the log ─► sessions at rest
 *             └─ damaged ─► salvage ─┘   └─ damaged ─► salvage, once more
 */
import { isDamageAtStart, startFault } from "./fault-sqlite.ts";
import { claimLayout } from "./layout-sqlite.ts";
import { settle } from "./recovery.ts";
import { salvage } from "./salvage-sqlite.ts";
import { makeDirectory, type OpenFile, replaceFile, StoreLock } from "./store-file-sqlite.ts";
import { StoreWriter, type WriterEvents } from "./store-writer-sqlite.ts";

export interface OpenedStore {
  readonly writer: StoreWriter;
  /** Brings all sessions to rest, on the disk; returns a line for each damage. @throws MantouError */
  recover(): string[];
  close(): void;
}

type Lock = Pick<StoreLock, "release">;

/** @throws MantouError `store_in_use`, `workers_changed`, `store_schema_newer`, `store_not_writable` */
export function openStore(file: OpenFile, events: WriterEvents): OpenedStore {
  makeDirectory(file.dir);
  const lock = StoreLock.take(file.dir);
  try {
    claimLayout(file.dir, 1);
    return openLocked(file, events, lock);
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** As `openStore`, in a directory that is there; its lock, which the caller holds, is the store's from now on. */
export function openLocked(file: OpenFile, events: WriterEvents, lock: Lock): OpenedStore {
  return new LockedStore(file, events, lock);
}

class LockedStore implements OpenedStore {
  writer: StoreWriter;
  private readonly damage: string[] = [];

  constructor(
    private readonly file: OpenFile,
    private readonly events: WriterEvents,
    private readonly lock: Lock,
  ) {
    const aside = replaceFile(file.dir, "damaged");
    if (aside)
      this.damage.push(`a replacement that had been interrupted was finished; the file before it is in ${aside}`);
    this.writer = this.openOrSalvage();
  }

  recover(): string[] {
    try {
      return [...this.damage, ...this.settle()];
    } catch (error) {
      if (!isDamageAtStart(error)) throw startFault(error, this.file.dir);
      this.writer.close();
      this.damage.push(...salvage(this.file, String((error as Error).message)));
      this.writer = this.open();
      return [...this.damage, ...this.settle()];
    }
  }

  readonly close = (): void => {
    this.writer.close();
    this.lock.release();
  };

  private settle(): string[] {
    return this.writer.transact(() => settle(this.writer.tables));
  }

  private open(): StoreWriter {
    return new StoreWriter(this.file, this.events);
  }

  private openOrSalvage(): StoreWriter {
    try {
      return this.open();
    } catch (error) {
      if (!isDamageAtStart(error)) throw error;
      this.damage.push(...salvage(this.file, String((error as Error).message)));
      return this.open();
    }
  }
}
