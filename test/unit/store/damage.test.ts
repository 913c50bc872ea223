/** What is found after a file was torn, cut or changed: whole batches, or what could be read and a line that says so. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Random } from "#base/random.ts";
import type { LoadedEntries, RecoveredSession } from "#store/log-backend.ts";
import { RowReader } from "#store/row-reader-sqlite.ts";
import { readMeta, readQueue } from "#store/session-log.ts";
import { recover, waitingTexts } from "#test/contract/log-backend-contract.ts";
import { rounds } from "#test/support/level.ts";
import { BatchWriter, bodyTexts, entryOf, metaOf, OpsWriter, queueOf } from "./batch-writer.ts";
import { copyDir, DirectLog, makeDir, removeDirs, rows } from "./disk.ts";
import { describeRecovered, History } from "./history.ts";

const open: DirectLog[] = [];
afterEach(() => {
  for (const log of open.splice(0)) log.close();
});
afterAll(removeDirs);

function start(dir: string): DirectLog {
  const log = new DirectLog(dir);
  open.push(log);
  return log;
}

function stop(log: DirectLog): void {
  log.close();
  open.splice(open.indexOf(log), 1);
}

/** Sessions 1 to `sessions`, each with `pages` pages of ten messages of 500 bytes, in a closed file. */
async function fill(dir: string, { sessions, pages }: { sessions: number; pages: number }): Promise<void> {
  const log = start(dir);
  await recover(log);
  let body = 0;
  for (let session = 1; session <= sessions; session++) {
    const batch = new BatchWriter()
      .meta(session, metaOf(`client-${session}`))
      .retained(`r/${session}`, Buffer.alloc(300, 65));
    for (let page = 0; page < pages; page++) {
      const entries = Array.from({ length: 10 }, () => entryOf(++body));
      for (const entry of entries) batch.body(entry.body, Buffer.from(`${entry.body}`.padEnd(500)));
      batch.page(session, page, entries);
    }
    const lane = { lane: 0, nextPage: pages, head: [], tail: [] };
    const stored = Array.from({ length: pages }, (_, page) => ({ page, count: 10, bytes: 1000 }));
    batch.queue(session, queueOf({ lanes: [{ ...lane, pages: stored }] })).trim(session);
    log.write(session, batch.take());
  }
  await log.whenCommitted(sessions);
  stop(log);
}

function damageFile(path: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(path);
  change(bytes);
  writeFileSync(path, bytes);
}

function asideOf(dir: string): string[] {
  return readdirSync(dir).filter((name) => name.startsWith("damaged-"));
}

/** Where the table's rows are in the file. */
function leafOf(dir: string, table: string): number {
  const [[root]] = rows(dir, `SELECT rootpage FROM sqlite_schema WHERE name = '${table}'`) as [[number]];
  return (root - 1) * 4096;
}

describe("a WAL that ends too early", () => {
  test("shows whole batches only, wherever it is cut", async () => {
    const dir = makeDir();
    const log = start(dir);
    await recover(log);
    const history = new History(new Random(11), { hasSnapshots: true, bodyBytesMax: 300 });
    for (let batch = 1; batch <= 12; batch++) {
      log.write(batch, history.next());
      await log.whenCommitted(batch);
    }
    const image = join(dir, "..", "image");
    copyDir(dir, image);
    stop(log);
    const seen = new Set<number>();
    const walBytes = statSync(join(image, "store.db-wal")).size;
    for (let cut = walBytes; cut >= 0; cut -= 512 * rounds(4, 1, 1)) {
      const copy = join(dir, "..", `cut-${cut}`);
      copyDir(image, copy);
      truncateSync(join(copy, "store.db-wal"), cut);
      const again = start(copy);
      const found = await recover(again);
      expect(found.info.damage).toEqual([]);
      expect(await describeRecovered(again, found)).toBe(history.expected.get(found.info.lastBatch)!);
      seen.add(found.info.lastBatch);
      stop(again);
    }
    expect(seen.has(0)).toBe(true);
    expect(seen.has(12)).toBe(true);
    expect(seen.size).toBe(13);
  }, 60_000);

  test("shows whole batches only, whatever bytes in it are changed", async () => {
    const dir = makeDir();
    const log = start(dir);
    await recover(log);
    const dice = new Random(5);
    const history = new History(dice, { hasSnapshots: true });
    for (let batch = 1; batch <= 8; batch++) log.write(batch, history.next());
    await log.whenCommitted(8);
    const image = join(dir, "..", "image");
    copyDir(dir, image);
    stop(log);
    for (let round = 0; round < rounds(15, 100, 500); round++) {
      const copy = join(dir, "..", `flip-${round}`);
      copyDir(image, copy);
      damageFile(join(copy, "store.db-wal"), (bytes) => {
        bytes[dice.below(bytes.length)]! ^= 1 + dice.below(255);
      });
      const again = start(copy);
      const found = await recover(again);
      expect(await describeRecovered(again, found)).toBe(history.expected.get(found.info.lastBatch)!);
      stop(again);
    }
  }, 60_000);
});

describe("a damaged file", () => {
  test("a torn page of messages loses these messages alone, and is noticed when they are read", async () => {
    const dir = makeDir();
    await fill(dir, { sessions: 3, pages: 4 });
    // A page in the middle of the messages, which start is not to read.
    damageFile(join(dir, "store.db"), (bytes) => {
      const at = bytes.indexOf(Buffer.from("57".padEnd(500)));
      bytes.fill(0xff, at - (at % 4096), at - (at % 4096) + 2048);
    });
    const log = start(dir);
    const found = await recover(log);
    expect(found.info.damage).toEqual([]);
    const texts = (await Promise.all(found.sessions.map((session) => waitingTexts(log, session)))).flat();
    const lost = texts.filter((text) => text === null).length;
    expect(texts).toHaveLength(120);
    expect(lost).toBeGreaterThan(0);
    expect(lost).toBeLessThan(10);
    texts.forEach((text, at) => expect(text?.trim() ?? `${at + 1}`).toBe(`${at + 1}`));
  });

  test("a page that names messages and cannot be read: the file is set aside, the rest is salvaged", async () => {
    const dir = makeDir();
    await fill(dir, { sessions: 300, pages: 2 });
    const before = readFileSync(join(dir, "store.db"));
    damageFile(join(dir, "store.db"), (bytes) => {
      const at = bytes.indexOf(Buffer.from("client-171"));
      bytes.fill(0xff, at - (at % 4096), at - (at % 4096) + 4096);
    });
    const damaged = readFileSync(join(dir, "store.db"));
    expect(damaged.equals(before)).toBe(false);

    const log = start(dir);
    const found = await recover(log);
    const [aside] = asideOf(dir);
    // But for its first page, in which every opening counts.
    const kept = readFileSync(join(dir, aside!, "store.db"));
    expect(kept.subarray(4096).equals(damaged.subarray(4096))).toBe(true);
    expect(found.info.damage[0]).toContain("was damaged");
    expect(found.info.damage[0]).toContain(aside!);
    expect(found.info.damage.join("\n")).toContain("messages: 6000 salvaged");
    expect(found.info.damage.join("\n")).toMatch(/sessions: \d+ salvaged, unreadable: numbers/);
    expect(found.sessions.length).toBeGreaterThan(0);
    expect(found.sessions.length).toBeLessThan(300);
    expect(found.retained.size).toBe(300);
    expect([found.info.lastBody, found.info.lastSession]).toEqual([6000, 300]);
    for (const session of found.sessions) {
      expect(readMeta(session.meta).clientId.toString()).toBe(`client-${session.session}`);
      const texts = await waitingTexts(log, session);
      const first = (session.session - 1) * 20 + 1;
      expect(texts.map((text) => text?.trim())).toEqual(Array.from({ length: 20 }, (_, at) => `${first + at}`));
    }
    // It is an ordinary store again.
    stop(log);
    const again = start(dir);
    expect((await recover(again)).info.damage).toEqual([]);
    expect(asideOf(dir)).toHaveLength(1);
  });

  test("a wrong byte in a session's queue: its pages are given back to it", async () => {
    const dir = makeDir();
    await fill(dir, { sessions: 5, pages: 3 });
    damageFile(join(dir, "store.db"), (bytes) => {
      const at = bytes.lastIndexOf(Buffer.from("client-3"));
      const meta = bytes.indexOf(metaBytes("client-3"), leafOf(dir, "session"));
      expect(meta).toBeGreaterThan(0);
      bytes[at + "client-3".length + 4 + 10]! ^= 0x40;
    });
    const log = start(dir);
    const found = await recover(log);
    expect(found.info.damage.join("\n")).toContain("session 3: its queue was lost");
    expect(found.sessions).toHaveLength(5);
    const texts = await waitingTexts(log, found.sessions[2]!);
    expect(texts.map((text) => text?.trim())).toEqual(Array.from({ length: 30 }, (_, at) => `${61 + at}`));
  });

  test("numbers that only lost rows had are not given again", async () => {
    const dir = makeDir();
    await fill(dir, { sessions: 4, pages: 2 });
    const db = new Database(join(dir, "store.db"));
    db.run("UPDATE body SET crc = 0 WHERE id > 50");
    db.run("UPDATE log SET crc = 0");
    db.run("UPDATE session SET metaCrc = 0 WHERE id = 4");
    db.close();
    const { info } = await recover(start(dir));
    expect(info.damage.join("\n")).toContain("messages: 50 salvaged, unreadable: numbers 51 to 80");
    expect([info.lastBody, info.lastSession]).toEqual([80, 4]);
    expect(info.lastBatch).toBeGreaterThan(3); // that of the last snapshot that was kept
  });

  test("rows on both sides of unreadable ones are read", () => {
    const db = new Database(":memory:");
    db.run("CREATE TABLE t (id INTEGER PRIMARY KEY, ok INTEGER)");
    const bad = (id: number): boolean => (id >= 70 && id < 170) || id === 300 || id === 302 || id > 990;
    const put = db.query("INSERT INTO t VALUES (?, ?)");
    for (let id = 1; id <= 1000; id++) put.run(id, bad(id) ? 0 : 1);
    const reader = new RowReader(db, { table: "t", columns: ["id", "ok"], isSound: ([, ok]) => ok === 1 });
    const ids = [...reader.rows()].map(([id]) => id as number);
    expect(ids).toEqual(Array.from({ length: 1000 }, (_, at) => at + 1).filter((id) => !bad(id)));
    const gaps = reader.gaps.map(({ first, last }) => [first, last]);
    expect(gaps).toEqual([
      [70, 169],
      [300, 300],
      [302, 302],
      [991, 1000],
    ]);
    db.close();
  });

  test.each([
    ["its first bytes", 0, 16],
    ["its first page", 0, 4096],
    ["the text of its tables", 3000, 1000],
  ])("%s destroyed: what it held is still found", async (_, from, length) => {
    const dir = makeDir();
    await fill(dir, { sessions: 8, pages: 2 });
    damageFile(join(dir, "store.db"), (bytes) => bytes.fill(0xee, from, from + length));
    const log = start(dir);
    const found = await recover(log);
    expect(found.info.damage[0]).toContain("was damaged");
    expect(found.sessions).toHaveLength(8);
    expect(found.retained.size).toBe(8);
    expect((await waitingTexts(log, found.sessions[7]!)).map((text) => text?.trim())).toContain("160");
  });

  test("not a store at all: set aside, and the broker starts empty", async () => {
    const dir = makeDir();
    stop(start(dir));
    writeFileSync(join(dir, "store.db"), "this was overwritten by a script. ".repeat(1000));
    const log = start(dir);
    const found = await recover(log);
    expect(found.sessions).toEqual([]);
    expect(found.info.damage[0]).toContain("was damaged");
    expect(readFileSync(join(dir, asideOf(dir)[0]!, "store.db"), "utf8")).toStartWith("this was overwritten");
    log.write(found.info.lastBatch + 1, new BatchWriter().ops(new OpsWriter().opened(1, "ann")).take());
    await log.whenCommitted(found.info.lastBatch + 1);
  });

  test("cut in half: the broker starts, with what the first half has", async () => {
    const dir = makeDir();
    await fill(dir, { sessions: 30, pages: 4 });
    const path = join(dir, "store.db");
    truncateSync(path, Math.floor(statSync(path).size / 8192) * 4096);
    const log = start(dir);
    const found = await recover(log);
    expect(found.info.damage[0]).toContain("was damaged");
    expect(found.info.damage.join("\n")).toMatch(/messages: [1-9]\d* salvaged/);
  });

  test("random bytes changed anywhere: it opens, and nothing is found that was not written", async () => {
    const dir = makeDir();
    await fill(dir, { sessions: 6, pages: 3 });
    const dice = new Random(77);
    for (let round = 0; round < rounds(12, 150, 1000); round++) {
      const copy = join(dir, "..", `round-${round}`);
      copyDir(dir, copy);
      damageFile(join(copy, "store.db"), (bytes) => {
        // Not the numbers that say which version of SQLite or of the tables this is: such a file is refused as it is.
        for (let flips = dice.below(20); flips >= 0; flips--)
          bytes[100 + dice.below(bytes.length - 100)]! ^= 1 + dice.below(255);
      });
      const log = start(copy);
      const found = await recover(log);
      for (const session of found.sessions) {
        expect(readMeta(session.meta).clientId.toString()).toBe(`client-${session.session}`);
        const first = (session.session - 1) * 30 + 1;
        for (const text of await readableTexts(log, session)) {
          expect(Number(text)).toBeGreaterThanOrEqual(first);
          expect(Number(text)).toBeLessThan(first + 30);
        }
      }
      if (found.sessions.length < 6) expect(found.info.damage).not.toEqual([]);
      stop(log);
    }
  }, 120_000);

  test("a start that ended in the middle of a salvage finishes it", async () => {
    const dir = makeDir();
    await fill(dir, { sessions: 2, pages: 1 });
    const other = makeDir();
    await fill(other, { sessions: 3, pages: 1 });
    writeFileSync(join(dir, "store.db.next"), readFileSync(join(other, "store.db")));
    const log = start(dir);
    const found = await recover(log);
    expect(found.sessions).toHaveLength(3);
    expect(found.info.damage[0]).toContain("had been interrupted was finished");
    expect(existsSync(join(dir, asideOf(dir)[0]!, "store.db"))).toBe(true);
  });
});

/** The messages of a session that are there, without those that are lost. */
async function readableTexts(log: DirectLog, { session, queue }: RecoveredSession): Promise<string[]> {
  const texts: string[] = [];
  for (const { page } of readQueue(queue).lanes.flatMap(({ pages }) => pages)) {
    const loaded = await new Promise<LoadedEntries | null>((resolve) => log.readPage(session, page, resolve));
    if (loaded) texts.push(...bodyTexts(loaded).filter((text) => text !== null));
  }
  return texts;
}

function metaBytes(clientId: string): Buffer {
  return Buffer.concat([Buffer.from([clientId.length, 0]), Buffer.from(clientId)]);
}
