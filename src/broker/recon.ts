/**
 * Diagnosis of a running process, on request: what holds its memory, a heap snapshot, a profile of its processor time.
 *
 * A snapshot stops the process while it is written and needs about as much memory again as the heap has; it holds whatever is in
 * memory, secrets among it, so the files are for the broker's user alone. A profile makes everything a little slower while it runs. One of
 * them at a time; the latest few files of each kind are kept.
 */
import { chmodSync, mkdirSync, readdirSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { join } from "node:path";
import { writeHeapSnapshot } from "node:v8";
import { heapStats } from "bun:jsc";
import { MantouError } from "#base/error.ts";
import type { Engine } from "#core/engine.ts";

export interface ReconFile {
  readonly path: string;
  readonly bytes: number;
}

/** A session and what waits for its client. */
export interface QueueHolder {
  readonly clientId: string;
  readonly queuedCount: number;
  readonly queuedBytes: number;
}

export interface MemoryReport {
  /** Bytes by what holds them: of the process, of its heap, and of the broker's tables. */
  readonly bytes: Readonly<Record<string, number>>;
  /** Objects of the JavaScript heap by type, the most frequent first. */
  readonly objects: readonly { readonly type: string; readonly count: number }[];
  /** Those with most bytes waiting. */
  readonly queues: readonly QueueHolder[];
}

const FILE_COUNT_MAX = 5;
const OBJECT_TYPES = 25;
const SLICE_COUNT = 4096;
const SAMPLING_MICROSECONDS = 1000;

export class Recon {
  private isUnderWay = false;

  constructor(
    private readonly engine: Engine,
    private readonly dir: string,
  ) {}

  /** Throws MantouError `recon_busy` or `recon_not_writable`. */
  async heapSnapshot(): Promise<ReconFile> {
    return this.alone("heapsnapshot", (path) => void writeHeapSnapshot(path));
  }

  /** Resolves when `sec` seconds are over. Throws as `heapSnapshot` does. */
  async cpuProfile(sec: number): Promise<ReconFile> {
    return this.alone("cpuprofile", async (path) => {
      const session = new Session();
      session.connect();
      try {
        await session.post("Profiler.enable");
        await session.post("Profiler.setSamplingInterval", { interval: SAMPLING_MICROSECONDS });
        await session.post("Profiler.start");
        await Bun.sleep(sec * 1000);
        const { profile } = (await session.post("Profiler.stop")) as { profile: unknown };
        writeFileSync(path, JSON.stringify(profile), { mode: 0o600 });
      } finally {
        session.disconnect();
      }
    });
  }

  /** Of the process, its heap and the broker's tables; costs nothing. */
  memoryBytes(): MemoryReport["bytes"] {
    const { rss, heapTotal, heapUsed, external, arrayBuffers } = process.memoryUsage();
    const { messages, pool } = this.engine;
    const tables = { messageBodies: messages.bodyBytes, blockPool: pool.usedBytes };
    return { resident: rss, heapTotal, heapUsed, external, arrayBuffers, ...tables };
  }

  /** Visits every session, a slice at a time, and counts the heap's objects: a tenth of a second for each million. */
  async memory(queueCountMax: number): Promise<MemoryReport> {
    const objects = Object.entries(heapStats().objectTypeCounts).map(([type, count]) => ({ type, count }));
    return {
      bytes: this.memoryBytes(),
      objects: objects.sort((a, b) => b.count - a.count).slice(0, OBJECT_TYPES),
      queues: await this.topQueues(queueCountMax),
    };
  }

  /** Sessions whose queues hold most, the largest first. */
  private async topQueues(countMax: number): Promise<QueueHolder[]> {
    const { sessions } = this.engine;
    let top: QueueHolder[] = [];
    for (let session = 0; session < sessions.high; session++) {
      if (session % SLICE_COUNT === SLICE_COUNT - 1) await new Promise((resolve) => setImmediate(resolve));
      const outbox = sessions.has(session) ? sessions.queueOf(session)?.outbox : undefined;
      if (!outbox || outbox.count === 0) continue;
      if (top.length >= countMax && outbox.bytes <= top.at(-1)!.queuedBytes) continue;
      top.push({ clientId: sessions.clientId(session), queuedCount: outbox.count, queuedBytes: outbox.bytes });
      top = top.sort((a, b) => b.queuedBytes - a.queuedBytes).slice(0, countMax);
    }
    return top;
  }

  private async alone(kind: string, write: (path: string) => void | Promise<void>): Promise<ReconFile> {
    if (this.isUnderWay)
      throw new MantouError("recon_busy", "a snapshot or profile is under way; wait for it to end", {});
    this.isUnderWay = true;
    try {
      mkdirSync(this.dir, { recursive: true, mode: 0o700 });
      const stamp = new Date().toISOString().replaceAll(/[-:.]/g, "");
      const path = join(this.dir, `${stamp}-${process.pid}.${kind}`);
      await write(path);
      chmodSync(path, 0o600);
      this.removeOld(kind);
      return { path, bytes: statSync(path).size };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === undefined) throw error;
      throw new MantouError("recon_not_writable", `${this.dir}: cannot be written: ${code}`, { dir: this.dir });
    } finally {
      this.isUnderWay = false;
    }
  }

  private removeOld(kind: string): void {
    const names = readdirSync(this.dir).filter((name) => name.endsWith(`.${kind}`));
    for (const name of names.sort().slice(0, -FILE_COUNT_MAX)) unlinkSync(join(this.dir, name));
  }
}
