/** Who may open a store, which ones, and what is said when not. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MantouError } from "#base/error.ts";
import { Random } from "#base/random.ts";
import { MIGRATIONS, type Migration, SYNC_MODES } from "#store/store-file-sqlite.ts";
import { openThreadLog } from "#store/thread-link.ts";
import { recover } from "#test/contract/log-backend-contract.ts";
import { rounds } from "#test/support/level.ts";
import { BatchWriter, entryOf, OpsWriter } from "./batch-writer.ts";
import { DirectLog, makeDir, removeDirs, rows } from "./disk.ts";
import { describeRecovered, History } from "./history.ts";

const open: DirectLog[] = [];
const children: Bun.Subprocess[] = [];
afterEach(() => {
  for (const process of children.splice(0)) process.kill("SIGKILL");
  for (const log of open.splice(0)) log.close();
});
afterAll(removeDirs);

function start(dir: string, migrations?: readonly Migration[]): DirectLog {
  const log = new DirectLog(dir, migrations ? { migrations } : {});
  open.push(log);
  return log;
}

function stop(log: DirectLog): void {
  log.close();
  open.splice(open.indexOf(log), 1);
}

/** The code and message with which opening is refused. */
function refusal(dir: string): { code: string; message: string } {
  try {
    start(dir);
  } catch (error) {
    if (!(error instanceof MantouError)) throw error;
    return error;
  }
  throw new Error("it was opened");
}

function child(script: string, ...args: string[]): Bun.Subprocess<"ignore", "pipe", "inherit"> {
  const path = join(import.meta.dir, script);
  const started = Bun.spawn([process.execPath, path, ...args], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  children.push(started);
  return started;
}

async function firstLine(stdout: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stdout.getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) break;
    text += Buffer.from(value).toString();
  }
  reader.releaseLock();
  return text.split("\n")[0]!;
}

describe("the directory", () => {
  test("is made, for its owner alone", () => {
    const dir = join(makeDir(), "deep", "er");
    start(dir);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    expect(readdirSync(dir)).toContain("store.db");
  });

  test("a file in its place is an error that says so", () => {
    const dir = makeDir();
    writeFileSync(dir, "a file");
    expect(refusal(dir)).toMatchObject({ code: "store_not_writable", message: expect.stringContaining(dir) });
  });

  test.if(process.getuid?.() !== 0)("one that may not be written is an error that says so", () => {
    const dir = makeDir();
    mkdirSync(dir, { mode: 0o500 });
    expect(refusal(dir).code).toBe("store_not_writable");
  });
});

describe("the lock", () => {
  test("a second store in this process is refused, until the first is closed", () => {
    const dir = makeDir();
    const first = start(dir);
    expect(refusal(dir)).toMatchObject({ code: "store_in_use", message: expect.stringContaining(dir) });
    stop(first);
    start(dir);
  });

  test("a second thread is refused", async () => {
    const dir = makeDir();
    const first = await openThreadLog({ dir, sync: "full" });
    const again = await openThreadLog({ dir, sync: "full" }).catch((error: unknown) => error);
    expect(again).toBeInstanceOf(MantouError);
    expect(again).toMatchObject({ code: "store_in_use" });
    await first.close();
    const third = await openThreadLog({ dir, sync: "full" });
    await third.close();
  });

  test("a second process is refused; after kill -9 of the first it is not", async () => {
    const dir = makeDir();
    const holder = child("writing-child.ts", dir, "1");
    expect(await firstLine(holder.stdout)).toMatch(/^\d+$/);
    expect(refusal(dir).code).toBe("store_in_use");
    holder.kill("SIGKILL");
    await holder.exited;
    start(dir);
  }, 20_000);
});

describe("versions of the tables", () => {
  test("a newer one is refused, and its file stays as it is", () => {
    const dir = makeDir();
    stop(start(dir));
    const db = new Database(join(dir, "store.db"));
    db.run(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    db.close();
    const before = readFileSync(join(dir, "store.db"));
    const { code, message } = refusal(dir);
    expect(code).toBe("store_schema_newer");
    expect(message).toContain(`version ${MIGRATIONS.length + 1}, this one knows up to ${MIGRATIONS.length}`);
    expect(readFileSync(join(dir, "store.db")).equals(before)).toBe(true);
  });

  test("an older one is brought up to date step by step, and keeps what it has", async () => {
    const dir = makeDir();
    const first = start(dir);
    await recover(first);
    first.write(1, new BatchWriter().body(1, Buffer.from("x")).ops(new OpsWriter().opened(1, "ann")).take());
    await first.whenCommitted(1);
    stop(first);
    const next: Migration = (db) => db.run("ALTER TABLE body ADD COLUMN more INTEGER");
    const last: Migration = (db) => {
      db.run("UPDATE body SET more = 7");
      db.run("CREATE TABLE extra (id INTEGER PRIMARY KEY)");
      db.run("ALTER TABLE body RENAME COLUMN more TO evenMore");
      db.run("ALTER TABLE body DROP COLUMN evenMore");
    };
    const log = start(dir, [...MIGRATIONS, next, last]);
    const { sessions, info } = await recover(log);
    expect(sessions).toHaveLength(1);
    expect(info.damage).toEqual([]);
    stop(log);
    expect(rows(dir, "PRAGMA user_version")).toEqual([[MIGRATIONS.length + 2]]);
    expect(rows(dir, "SELECT count(*) FROM extra")).toEqual([[0]]);
    expect(refusal(dir).code).toBe("store_schema_newer");
  });

  test("a step that fails leaves the version before it", () => {
    const dir = makeDir();
    stop(start(dir));
    const good: Migration = (db) => db.run("CREATE TABLE one (id INTEGER PRIMARY KEY)");
    const bad: Migration = (db) => {
      db.run("CREATE TABLE two (id INTEGER PRIMARY KEY)");
      throw new Error("the step does not work");
    };
    expect(() => start(dir, [...MIGRATIONS, good, bad])).toThrow("the step does not work");
    expect(rows(dir, "PRAGMA user_version")).toEqual([[MIGRATIONS.length + 1]]);
    expect(rows(dir, "SELECT name FROM sqlite_schema WHERE name IN ('one', 'two')")).toEqual([["one"]]);
  });
});

describe("kill -9", () => {
  test.each([...SYNC_MODES])(
    "of a writing process: all that it was told is safe is there, sync %s",
    async (sync) => {
      for (let round = 0; round < rounds(2, 20, 50); round++) {
        const dir = makeDir();
        const seed = round * 7 + 1;
        const writer = child("writing-child.ts", dir, String(seed), sync);
        const decoder = new TextDecoder();
        let told = 0;
        let text = "";
        const until = 5 + ((round * 37) % 150);
        for await (const chunk of writer.stdout) {
          text += decoder.decode(chunk, { stream: true });
          const lines = text.split("\n");
          text = lines.pop()!;
          told = Math.max(told, ...lines.map(Number));
          if (told >= until) writer.kill("SIGKILL");
        }
        await writer.exited;
        const history = new History(new Random(seed), { hasSnapshots: true, hasCollections: true });
        const log = start(dir);
        const found = await recover(log);
        expect(told).toBeGreaterThanOrEqual(until);
        expect(found.info.damage).toEqual([]);
        expect(found.info.lastBatch).toBeGreaterThanOrEqual(told);
        while (history.lastBatch < found.info.lastBatch) history.next();
        expect(await describeRecovered(log, found)).toBe(history.expected.get(found.info.lastBatch)!);
        stop(log);
      }
    },
    rounds(120_000, 120_000, 600_000),
  );
});

test("what was written last before a close is there", async () => {
  const dir = makeDir();
  const log = await openThreadLog({ dir, sync: "full" });
  await recover(log);
  const ops = new OpsWriter().opened(1, "ann").enqueued(1, entryOf(1));
  log.write(1, new BatchWriter().body(1, Buffer.from("last words")).ops(ops).take());
  await log.close();
  expect(readdirSync(dir).sort()).toEqual(["store.db", "store.lock"]);
  expect(rows(dir, "SELECT bytes FROM body")).toEqual([[new Uint8Array(Buffer.from("last words"))]]);
});
