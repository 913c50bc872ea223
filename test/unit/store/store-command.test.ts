/** `mantou store …` on real directories. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Random } from "#base/random.ts";
import { runCli } from "#cli/cli.ts";
import { MIGRATIONS } from "#store/store-file-sqlite.ts";
import { recover } from "#test/contract/log-backend-contract.ts";
import { FakeHost } from "#test/unit/cli/fake-host.ts";
import { BatchWriter, entryOf, metaOf, queueOf } from "./batch-writer.ts";
import { bodyIds, DirectLog, makeDir, removeDirs } from "./disk.ts";
import { describeRecovered, History } from "./history.ts";

const open: DirectLog[] = [];
afterEach(() => {
  for (const log of open.splice(0)) log.close();
});
afterAll(removeDirs);

async function start(dir: string): Promise<DirectLog> {
  const log = new DirectLog(dir);
  open.push(log);
  await recover(log);
  return log;
}

function stop(log: DirectLog): void {
  log.close();
  open.splice(open.indexOf(log), 1);
}

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const host = new FakeHost();
  const code = await runCli(["store", ...args], host);
  return { code, out: host.stdout, err: host.stderr };
}

/** A session that waits for messages 1 to 30 of 1 KiB; messages up to 400 nobody waits for. */
async function fill(log: DirectLog): Promise<void> {
  const entries = Array.from({ length: 30 }, (_, at) => entryOf(at + 1));
  const batch = new BatchWriter().meta(1, metaOf("ann")).page(1, 0, entries).retained("r", Buffer.from("v"));
  for (let body = 1; body <= 400; body++) batch.body(body, Buffer.alloc(1024, body));
  const lane = { lane: 0, nextPage: 1, pages: [{ page: 0, count: 30, bytes: 3000 }], head: [], tail: [] };
  log.write(1, batch.queue(1, queueOf({ lanes: [lane] })).take());
  await log.whenCommitted(1);
}

function change(dir: string, sql: string): void {
  const db = new Database(join(dir, "store.db"));
  db.run(sql);
  db.close();
}

describe("check", () => {
  test("says what is there, beside a broker that runs", async () => {
    const dir = makeDir();
    await fill(await start(dir));
    const { code, out, err } = await run("check", "--data", dir);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toStartWith(`${dir}: version ${MIGRATIONS.length}, `);
    expect(out).toContain("messages: 400, 0.4 MiB\n");
    expect(out).toContain("sessions: 1, ");
    expect(out).toContain("retained messages: 1, ");
    expect(out).toContain("messages that sessions wait for: 30; the oldest is message 1\n");
    expect(out).toEndWith("ok\n");
  });

  test("any history is whole", async () => {
    const dir = makeDir();
    const log = await start(dir);
    const history = new History(new Random(3), { hasSnapshots: true, hasCollections: true });
    for (let batch = 1; batch <= 60; batch++) {
      log.write(batch, history.next());
      if (batch % 10 === 0) await log.whenCommitted(batch);
    }
    await log.whenIdle();
    expect(await run("check", "--data", dir)).toMatchObject({ code: 0, err: "" });
  });

  test.each([
    ["DELETE FROM body WHERE id IN (3, 400)", "message 3 is waited for and not there\n"],
    ["DELETE FROM page", "session 1: its run 0 of waiting messages is not there\n"],
    ["UPDATE body SET crc = 1 WHERE id = 399", "messages, unreadable: numbers 399\n"],
    ["UPDATE session SET queueCrc = 1", "session 1: its queue has a wrong checksum\n"],
    ["UPDATE session SET metaCrc = 1", "sessions, unreadable: numbers 0 to 1\n"],
    ["UPDATE retained SET bytes = x'00'", "retained messages, unreadable: numbers 0 to 1\n"],
  ])("%s is found: 1", async (sql, problem) => {
    const dir = makeDir();
    const log = await start(dir);
    await fill(log);
    stop(log);
    change(dir, sql);
    const { code, out, err } = await run("check", "--data", dir);
    expect(code).toBe(1);
    expect(err).toBe(problem);
    expect(out).not.toContain("ok\n");
  });

  test("a directory without a store, or with something else in it, is an error: 1", async () => {
    const dir = makeDir();
    expect(await run("check", "--data", dir)).toEqual({ code: 1, out: "", err: `there is no store in ${dir}\n` });
    stop(await start(dir));
    writeFileSync(join(dir, "store.db"), "something else".repeat(1000));
    const { code, err } = await run("check", "--data", dir);
    expect(code).toBe(1);
    expect(err).toContain("cannot be read");
  });
});

describe("compact", () => {
  test("makes the file as small as it can be, with the same content", async () => {
    const dir = makeDir();
    const log = await start(dir);
    await fill(log);
    stop(log);
    change(dir, "DELETE FROM body WHERE id > 30");
    expect(await run("compact", "--data", dir)).toEqual({
      code: 0,
      out: expect.stringMatching(/: 0\.\d MiB before, 0\.\d MiB now\n$/),
      err: "",
    });
    expect(readFileSync(join(dir, "store.db")).length).toBeLessThan(100_000);
    expect(bodyIds(dir)).toHaveLength(30);
    expect(await run("check", "--data", dir)).toMatchObject({ code: 0 });
  });

  test("is refused while a broker runs, and where there is no store", async () => {
    const dir = makeDir();
    expect(await run("compact", "--data", dir)).toMatchObject({ code: 1, err: `there is no store in ${dir}\n` });
    expect(existsSync(dir)).toBe(false);
    await start(dir);
    const { code, err } = await run("compact", "--data", dir);
    expect(code).toBe(1);
    expect(err).toContain("is in use");
  });
});

describe("backup and restore", () => {
  test("a backup of a store that is being written is as of one batch, and comes back as that", async () => {
    const dir = makeDir();
    const log = await start(dir);
    const history = new History(new Random(9), { hasSnapshots: true });
    const write = (): void => {
      const bytes = history.next();
      log.write(history.lastBatch, bytes);
    };
    for (let batch = 0; batch < 20; batch++) write();
    await log.whenCommitted(20);
    const file = join(dir, "..", "backup.db");
    write();
    const made = run("backup", file, "--data", dir);
    for (let batch = 0; batch < 20; batch++) write();
    expect(await made).toEqual({ code: 0, out: `ok: ${file}\n`, err: "" });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await log.whenCommitted(41);

    const other = makeDir();
    expect(await run("restore", file, "--data", other)).toEqual({ code: 0, out: `ok: ${other}\n`, err: "" });
    const restored = new DirectLog(other);
    open.push(restored);
    const found = await recover(restored);
    expect(found.info.lastBatch).toBeGreaterThanOrEqual(20);
    expect(await describeRecovered(restored, found)).toBe(history.expected.get(found.info.lastBatch)!);
  });

  test("a restore sets what was there aside", async () => {
    const [dir, other] = [makeDir(), makeDir()];
    const log = await start(dir);
    await fill(log);
    const file = join(dir, "..", "backup.db");
    await run("backup", file, "--data", dir);
    stop(await start(other));
    const { code, out } = await run("restore", file, "--data", other);
    expect(code).toBe(0);
    const [aside] = readdirSync(other).filter((name) => name.startsWith("replaced-"));
    expect(out).toBe(`ok: ${other}; what was there before is in ${join(other, aside!)}\n`);
    expect(existsSync(join(other, aside!, "store.db"))).toBe(true);
    expect(bodyIds(other)).toHaveLength(400);
  });

  test("a backup replaces no file", async () => {
    const dir = makeDir();
    await start(dir);
    const file = join(dir, "..", "precious");
    writeFileSync(file, "precious");
    expect(await run("backup", file, "--data", dir)).toMatchObject({
      code: 1,
      err: expect.stringContaining("replaces nothing"),
    });
    expect(readFileSync(file, "utf8")).toBe("precious");
    const nowhere = join(dir, "no", "where");
    expect(await run("backup", nowhere, "--data", dir)).toMatchObject({
      code: 1,
      err: expect.stringContaining("failed"),
    });
  });

  test("a restore is refused while a broker runs, and of what is no backup; nothing changes", async () => {
    const dir = makeDir();
    const log = await start(dir);
    await fill(log);
    const file = join(dir, "..", "backup.db");
    await run("backup", file, "--data", dir);
    expect(await run("restore", file, "--data", dir)).toMatchObject({
      code: 1,
      err: expect.stringContaining("is in use"),
    });
    stop(log);
    const bad = join(dir, "..", "bad.db");
    writeFileSync(bad, "no database at all".repeat(500));
    expect(await run("restore", bad, "--data", dir)).toMatchObject({
      code: 1,
      err: expect.stringContaining("cannot be read"),
    });
    const missing = join(dir, "..", "missing.db");
    expect(await run("restore", missing, "--data", dir)).toMatchObject({
      code: 1,
      err: expect.stringContaining(missing),
    });
    const other = join(dir, "..", "other.db");
    new Database(other).run("CREATE TABLE t (a)");
    expect(await run("restore", other, "--data", dir)).toMatchObject({
      code: 1,
      err: expect.stringContaining("is no backup"),
    });
    const newer = join(dir, "..", "backup.db");
    const db = new Database(newer);
    db.run(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    db.close();
    expect(await run("restore", newer, "--data", dir)).toMatchObject({
      code: 1,
      err: expect.stringContaining("newer broker"),
    });
    expect(bodyIds(dir)).toHaveLength(400);
    expect(readdirSync(dir).filter((name) => name.startsWith("replaced-"))).toEqual([]);
  });

  test("mistakes of usage: 2", async () => {
    for (const args of [["backup"], ["restore"], ["chek"], ["check", "--dat", "x"]])
      expect((await run(...args)).code).toBe(2);
  });
});
