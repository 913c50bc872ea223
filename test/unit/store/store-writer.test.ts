/** The writer under load, on a full disk, and as it gives space back. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { Random } from "#base/random.ts";
import type { LoadedEntries } from "#store/log-backend.ts";
import { recover } from "#test/contract/log-backend-contract.ts";
import { checkAsync } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";
import { BatchWriter, bodyTexts, entriesBytes, entryOf, metaOf, OpsWriter, queueOf } from "./batch-writer.ts";
import { bodyIds, DirectLog, makeDir, removeDirs, rows } from "./disk.ts";
import { describeRecovered, History } from "./history.ts";

const open: DirectLog[] = [];
afterEach(() => {
  for (const log of open.splice(0)) log.close();
});
afterAll(removeDirs);

async function start(dir = makeDir()): Promise<DirectLog> {
  const log = new DirectLog(dir);
  open.push(log);
  await recover(log);
  return log;
}

function stop(log: DirectLog): void {
  log.close();
  open.splice(open.indexOf(log), 1);
}

function readPage(log: DirectLog, session: number, page: number): Promise<LoadedEntries | null> {
  return new Promise((resolve) => log.readPage(session, page, resolve));
}

function readBodies(log: DirectLog, bodies: number[]): Promise<LoadedEntries> {
  return new Promise((resolve) => log.readBodies(entriesBytes(bodies.map((body) => entryOf(body))), resolve));
}

/** Lets the file grow by so many pages and no further: what SQLite then says is what it says on a full disk. */
function limitPages(log: DirectLog, more: number): void {
  const db = log.writer["db"];
  const [[count]] = db.query("PRAGMA page_count").values() as [[number]];
  db.run(`PRAGMA max_page_count = ${count + more}`);
}

function failure(log: DirectLog): Promise<string> {
  return new Promise((resolve) => (log.onFailed = resolve));
}

const large = (body: number): Buffer => Buffer.from(`${body}`.padEnd(2000));

describe("group commit", () => {
  test("batches that wait share a transaction, and each is reported", async () => {
    const log = await start();
    const groups: number[] = [];
    const seen: number[] = [];
    let inGroup = 0;
    log.onCommitted = ({ batch }) => {
      seen.push(batch);
      if (inGroup++ === 0) queueMicrotask(() => groups.push(inGroup) && (inGroup = 0));
    };
    for (let batch = 1; batch <= 40; batch++) log.write(batch, new BatchWriter().body(batch, large(batch)).take());
    await log.whenCommitted(40);
    await Promise.resolve();
    expect(seen).toEqual(Array.from({ length: 40 }, (_, at) => at + 1));
    expect(groups).toEqual([40]);
  });

  test("numbers beyond 32 bits are kept", async () => {
    const dir = makeDir();
    const log = await start(dir);
    const big = 2 ** 47 + 3;
    const ops = new OpsWriter().opened(big, "ann").enqueued(big, entryOf(big));
    const batch = new BatchWriter().body(big, Buffer.from("far")).meta(big, metaOf("ann")).ops(ops);
    log.write(big, batch.page(big, 0xffff_fffe, [entryOf(big)]).take());
    await log.whenCommitted(big);
    expect(bodyTexts((await readPage(log, big, 0xffff_fffe))!)).toEqual(["far"]);
    stop(log);
    const { sessions, info } = await recover(open[open.push(new DirectLog(dir)) - 1]!);
    expect(sessions[0]!.session).toBe(big);
    expect(info).toEqual({ lastBody: big, lastSession: big, lastBatch: big, damage: [] });
  });
});

describe("a disk that takes no more", () => {
  test("nothing is reported that is not written; reads go on; what waited is written when there is room", async () => {
    const dir = makeDir();
    const log = await start(dir);
    const page = new BatchWriter().body(1, large(1)).page(1, 0, [entryOf(1)]);
    log.write(1, page.ops(new OpsWriter().opened(1, "ann")).take());
    log.write(
      2,
      new BatchWriter()
        .page(1, 1, [entryOf(1)])
        .page(2, 0, [entryOf(1)])
        .take(),
    );
    await log.whenCommitted(2);
    limitPages(log, 2);
    const failed = failure(log);
    const many = new BatchWriter()
      .page(1, 2, [entryOf(1), entryOf(14)])
      .dropPage(1, 1)
      .remove(2);
    for (let body = 10; body < 40; body++) many.body(body, large(body));
    const before = readPage(log, 1, 0);
    log.write(3, many.take());
    const after = readPage(log, 1, 2); // asked for before the failure is known
    expect(await failed).toBe("the disk is full");
    log.write(
      4,
      new BatchWriter()
        .body(50, large(50))
        .page(1, 3, [entryOf(50)])
        .take(),
    );

    expect(bodyTexts((await before)!)).toEqual([large(1).toString()]);
    expect(bodyTexts((await after)!)).toEqual([large(1).toString(), large(14).toString()]);
    expect(await readPage(log, 1, 1)).toBeNull();
    expect(await readPage(log, 2, 0)).toBeNull();
    expect(bodyTexts((await readPage(log, 1, 3))!)).toEqual([large(50).toString()]);
    expect(bodyTexts(await readBodies(log, [39, 40, 1]))).toEqual([large(39).toString(), null, large(1).toString()]);
    expect(log.lastCommitted).toBe(2);
    expect(bodyIds(dir)).toEqual([1]);

    limitPages(log, 10_000);
    await log.whenCommitted(4);
    expect(log.failures).toEqual(["the disk is full"]);
    expect(bodyIds(dir)).toHaveLength(32);
    expect(bodyTexts((await readPage(log, 1, 2))!)).toEqual([large(1).toString(), large(14).toString()]);
    // The next time is told again.
    limitPages(log, 1);
    const again = failure(log);
    const more = new BatchWriter();
    for (let body = 60; body < 90; body++) more.body(body, large(body));
    log.write(5, more.take());
    expect(await again).toBe("the disk is full");
    limitPages(log, 10_000);
    await log.whenCommitted(5);
    expect(log.failures).toHaveLength(2);
  }, 20_000);

  test("closing while it is full loses only what was not reported", async () => {
    const dir = makeDir();
    const log = await start(dir);
    log.write(1, new BatchWriter().body(1, large(1)).take());
    await log.whenCommitted(1);
    limitPages(log, 1);
    const failed = failure(log);
    const many = new BatchWriter();
    for (let body = 2; body < 40; body++) many.body(body, large(body));
    log.write(2, many.take());
    await failed;
    stop(log);
    expect(bodyIds(dir)).toEqual([1]);
  });

  test("a batch that is none is never reported, nor is what follows it", async () => {
    const dir = makeDir();
    const log = await start(dir);
    const failed = failure(log);
    const good = new BatchWriter().body(9, large(9)).take();
    log.write(1, Buffer.concat([good, Buffer.from([77, 1, 2, 3])]));
    log.write(2, new BatchWriter().body(1, large(1)).take());
    expect(await failed).toContain("kind 77");
    expect(bodyTexts(await readBodies(log, [1]))).toEqual([large(1).toString()]);
    expect(log.lastCommitted).toBe(0);
    expect(bodyIds(dir)).toEqual([]);
  });

  const canMount = process.getuid?.() === 0 && Bun.which("mount") !== null && tryMount();
  test.if(canMount)(
    "a file system that is full to the last byte, and has room again",
    async () => {
      const dir = makeDir();
      mount(dir, "6m");
      try {
        const log = await start(dir);
        let body = 0;
        const fillUp = (): BatchWriter => {
          const batch = new BatchWriter();
          for (let count = 0; count < 100; count++) batch.body(++body, large(body));
          return batch;
        };
        writeFileSync(join(dir, "ballast"), Buffer.alloc(3 * 1024 * 1024));
        const failed = failure(log);
        let batch = 0;
        while (log.failures.length === 0 && batch < 100) {
          log.write(++batch, fillUp().take());
          await Promise.race([log.whenCommitted(batch), failed]);
        }
        expect(await failed).toMatch(/disk is full|disk reports an error/);
        expect(bodyIds(dir)).toHaveLength(log.lastCommitted * 100);
        expect(bodyTexts(await readBodies(log, [1, body]))).toEqual([large(1).toString(), large(body).toString()]);
        rmSync(join(dir, "ballast"));
        await log.whenCommitted(batch);
        expect(bodyIds(dir)).toHaveLength(batch * 100);
        stop(log);
      } finally {
        Bun.spawnSync(["umount", dir]);
      }
    },
    30_000,
  );

  test.if(canMount)("a start on a full or read-only file system says so, and leaves the store as it is", async () => {
    const dir = makeDir();
    mount(dir, "1m");
    try {
      stop(await start(dir));
      try {
        writeFileSync(join(dir, "ballast"), Buffer.alloc(2 * 1024 * 1024));
      } catch {
        // Full is what it is to be.
      }
      expect(() => new DirectLog(dir)).toThrow(/cannot be written/);
      rmSync(join(dir, "ballast"));
      Bun.spawnSync(["mount", "-o", "remount,ro", dir]);
      expect(() => new DirectLog(dir)).toThrow(/cannot be written/);
      Bun.spawnSync(["mount", "-o", "remount,rw", dir]);
      stop(await start(dir));
    } finally {
      Bun.spawnSync(["umount", dir]);
    }
  });
});

function mount(dir: string, size: string): void {
  mkdirSync(dir);
  const { exitCode } = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", `size=${size}`, "none", dir]);
  if (exitCode !== 0) throw new Error("no tmpfs");
}

/** Containers often have root without leave to mount. */
function tryMount(): boolean {
  const dir = makeDir();
  try {
    mount(dir, "1m");
    return Bun.spawnSync(["umount", dir]).exitCode === 0;
  } catch {
    return false;
  }
}

describe("collection", () => {
  test("deletes what nobody names, never anything else, in any history and between any batches", async () => {
    const property = fc.asyncProperty(fc.integer(), async (seed) => {
      const dice = new Random(seed);
      const dir = makeDir();
      const history = new History(dice, { hasSnapshots: true, hasCollections: true, bodyBytesMax: 200 });
      let log = await start(dir);
      for (let life = 0; life < 3; life++) {
        for (let left = 5 + dice.below(40); left > 0; left--) {
          const bytes = history.next();
          log.write(history.lastBatch, bytes);
          // Sometimes the collector gets on, sometimes it is overtaken by many batches.
          if (dice.below(3) === 0) await log.whenCommitted(history.lastBatch);
          if (dice.below(3) === 0) log.writer.collector.step(dice.below(2));
        }
        await log.whenCommitted(history.lastBatch);
        if (life === 1) await log.whenIdle();
        stop(log);
        log = await startAgain(dir, history);
      }
      // In the end all that nobody names goes.
      log.write(
        history.lastBatch + 1,
        new BatchWriter()
          .trim(history.lastBatch + 1)
          .collect(history.lastBody + 1)
          .take(),
      );
      await log.whenCommitted(history.lastBatch + 1);
      await log.whenIdle();
      expect(bodyIds(dir)).toEqual([...history.named()].sort((a, b) => a - b));
      expect(log.writer.collector.failedCount).toBe(0);
      stop(log);
    });
    await checkAsync(property, rounds(12, 100, 400));
  }, 600_000);

  async function startAgain(dir: string, history: History): Promise<DirectLog> {
    const log = new DirectLog(dir);
    open.push(log);
    const found = await recover(log);
    expect(found.info.damage).toEqual([]);
    expect(await describeRecovered(log, found)).toBe(history.expected.get(history.lastBatch)!);
    await history.resume(log, found);
    return log;
  }

  test("what cannot be read keeps all bodies", async () => {
    const dir = makeDir();
    const log = await start(dir);
    log.write(
      1,
      new BatchWriter()
        .body(1, large(1))
        .body(2, large(2))
        .page(1, 0, [entryOf(1)])
        .take(),
    );
    await log.whenCommitted(1);
    log.writer["db"].run("UPDATE page SET crc = crc + 1");
    log.write(2, new BatchWriter().collect(3).take());
    await log.whenCommitted(2);
    await log.whenIdle();
    expect(log.writer.collector.failedCount).toBe(1);
    expect(bodyIds(dir)).toEqual([1, 2]);
  });

  test("a backlog that is drained gives its space back to the file system", async () => {
    const dir = makeDir();
    const log = await start(dir);
    let body = 0;
    for (let batch = 1; batch <= 20; batch++) {
      const bytes = new BatchWriter();
      const entries = Array.from({ length: 250 }, () => entryOf(++body));
      for (const { body: id } of entries) bytes.body(id, large(id));
      log.write(batch, bytes.page(1, batch, entries).take());
    }
    await log.whenCommitted(20);
    await log.whenIdle();
    const bytesBefore = statSync(join(dir, "store.db")).size;
    expect(bytesBefore).toBeGreaterThan(10_000_000);
    const drained = new BatchWriter()
      .remove(1)
      .collect(body + 1)
      .meta(2, metaOf("bob"))
      .queue(2, queueOf());
    log.write(21, drained.take());
    await log.whenCommitted(21);
    await log.whenIdle();
    expect(rows(dir, "SELECT count(*) FROM body")).toEqual([[0]]);
    expect(statSync(join(dir, "store.db")).size).toBeLessThan(bytesBefore / 5);
    expect(statSync(join(dir, "store.db-wal")).size).toBe(0);
  }, 20_000);
});

/** Syncs of the WAL fail while the file `fail` is there; the kernel would say so once and forget. */
const SHIM = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int refuses(int fd) {
  char link[64], path[4096];
  const char *flag = getenv("FAIL_FILE");
  if (!flag || access(flag, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return strstr(path, "store.db-wal") != NULL;
}
int fsync(int fd) {
  if (refuses(fd)) { errno = EIO; return -1; }
  return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
  if (refuses(fd)) { errno = EIO; return -1; }
  return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
`;

test.if(Bun.which("cc") !== null)("a sync that fails is never reported as a commit, and is made good for", async () => {
  const dir = makeDir();
  mkdirSync(dir);
  const [source, shim, flag] = ["shim.c", "shim.so", "fail"].map((name) => join(dir, name));
  writeFileSync(source!, SHIM);
  expect(Bun.spawnSync(["cc", "-shared", "-fPIC", "-o", shim!, source!, "-ldl"]).exitCode).toBe(0);
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "failing-child.ts"), join(dir, "data"), flag!], {
    env: { ...process.env, LD_PRELOAD: shim!, FAIL_FILE: flag! },
    stdout: "pipe",
    stderr: "inherit",
  });
  expect(await child.stdout.text()).toBe(
    "committed 1\nfailed the disk reports an error\nnothing\ncommitted 2\ncommitted 3\n",
  );
  expect(await child.exited).toBe(0);
  expect(bodyIds(join(dir, "data"))).toEqual([1, 2, 3]);
});
