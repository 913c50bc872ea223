/** Directories with a store in them, what is found there, and a store without its thread. */
import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommitInfo, LoadedEntries, LogBackend, RecoveryReceiver } from "#store/log-backend.ts";
import { type OpenedStore, openStore } from "#store/open-store-sqlite.ts";
import type { OpenFile } from "#store/store-file-sqlite.ts";

const made: string[] = [];

/** Of a data directory that is not there yet. */
export function makeDir(): string {
  const dir = mkdtempSync(join(tmpdir(), "mantou-store-"));
  made.push(dir);
  return join(dir, "data");
}

export function removeDirs(): void {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true, force: true });
}

/** Runs SQL on the store's file beside whoever has it open. */
export function rows(dir: string, sql: string): unknown[][] {
  const db = new Database(join(dir, "store.db"), { readonly: true });
  try {
    return db.query(sql).values();
  } finally {
    db.close();
  }
}

export function bodyIds(dir: string): number[] {
  return rows(dir, "SELECT id FROM body ORDER BY id").map(([id]) => id as number);
}

/** Copies a directory as it is, by another process: closing a copied file here would give up SQLite's locks on it. */
export function copyDir(from: string, to: string): void {
  const { exitCode, stderr } = Bun.spawnSync(["cp", "-a", from, to]);
  if (exitCode !== 0) throw new Error(stderr.toString());
}

/** The backend of thread-link.ts without the thread: recovery completes at once, the rest as the writer does. */
export class DirectLog implements LogBackend {
  onCommitted: (info: CommitInfo) => void = () => {};
  onFailed: (reason: string) => void = () => {};
  lastCommitted = 0;
  readonly failures: string[] = [];
  private waiters: { last: number; resolve: () => void }[] = [];
  private readonly store: OpenedStore;

  constructor(dir: string, given: Partial<OpenFile> = {}) {
    this.store = openStore(
      { dir, sync: "normal", ...given },
      {
        committed: (first, commitMs) => commitMs.forEach((ms, at) => this.committed(first + at, ms)),
        failed: (reason) => {
          this.failures.push(reason);
          this.onFailed(reason);
        },
      },
    );
  }

  get writer(): OpenedStore["writer"] {
    return this.store.writer;
  }

  write(batch: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.writer.write(batch, bytes);
  }

  readPage(session: number, page: number, complete: (loaded: LoadedEntries | null) => void): void {
    this.writer.readPage(session, page, complete);
  }

  readBodies(entries: Buffer, complete: (loaded: LoadedEntries) => void): void {
    this.writer.readBodies(entries, complete);
  }

  recover(receiver: RecoveryReceiver): void {
    const damage = this.store.recover();
    const { tables } = this.writer;
    const sessions = tables.sessionsAfter(0, 1_000_000);
    receiver.sessions(
      sessions.map(({ session, snapshots }) => ({ session, meta: snapshots.meta!, queue: snapshots.queue! })),
    );
    receiver.retained([...tables.retained(damage)]);
    const { lastBody, lastSession, lastBatch } = tables;
    receiver.done({ lastBody, lastSession, lastBatch, damage });
  }

  /** Resolves when the batch is safe. */
  whenCommitted(last: number): Promise<void> {
    if (this.lastCommitted >= last) return Promise.resolve();
    return new Promise((resolve) => this.waiters.push({ last, resolve }));
  }

  whenIdle(): Promise<void> {
    return new Promise((resolve) => this.writer.whenIdle(resolve));
  }

  close(): void {
    this.store.close();
  }

  private committed(batch: number, commitMs: number): void {
    this.lastCommitted = batch;
    this.onCommitted({ batch, commitMs });
    this.waiters = this.waiters.filter(({ last, resolve }) => {
      if (last > batch) return true;
      resolve();
      return false;
    });
  }
}
