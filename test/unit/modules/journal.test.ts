import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Journal } from "#modules/journal.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-journal-"));
afterAll(() => rmSync(folder, { recursive: true }));
let number = 0;
const newPath = (): string => join(folder, `${number++}.db`);
const put = (journal: Journal, due: number, text: string): Promise<void> =>
  journal.put({ seq: journal.nextSeq(), due, body: Buffer.from(text) });
const texts = (entries: readonly { readonly body: Uint8Array }[]): string[] =>
  entries.map(({ body }) => Buffer.from(body).toString());
const failureOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "none",
    (error: unknown) => (error as Error).message,
  );

describe("a journal", () => {
  test("has after it was closed what was put in and not removed, in the order of what is due, and new numbers", async () => {
    const path = newPath();
    const first = await Journal.open(path, "full");
    await Promise.all([
      put(first, 30, "c"),
      put(first, 10, "a"),
      put(first, 20, "b"),
      put(first, 10, "a2"),
      put(first, 40, "d"),
    ]);
    await first.remove([3, 99]);
    expect([first.count, first.bytes]).toEqual([4, 5]);
    await first.close();
    const second = await Journal.open(path, "full");
    expect([second.count, second.bytes, second.damage]).toEqual([4, 5, undefined]);
    const { entries, nextDue } = await second.readDue(30, 10, 1000);
    expect([texts(entries), nextDue]).toEqual([["a", "a2", "c"], 40]);
    expect(texts((await second.readDue(30, 2, 1000)).entries)).toEqual(["a", "a2"]);
    expect(texts((await second.readDue(30, 10, 2)).entries)).toEqual(["a"]);
    expect((await second.readDue(50, 10, 1000)).nextDue).toBeUndefined();
    expect(texts(await second.readPage(1, 2, 1000))).toEqual(["a", "a2"]);
    expect(second.nextSeq()).toBe(6);
    await second.close();
  });

  test("writes what is pending before it closes, and what comes while it writes, together", async () => {
    const path = newPath();
    const journal = await Journal.open(path, "off");
    const all = Array.from({ length: 500 }, (_, i) => put(journal, i, `${i}`));
    expect(journal.count).toBe(500);
    await journal.close();
    await Promise.all(all);
    const again = await Journal.open(path, "off");
    expect(texts(await again.readPage(0, 1000, 1e6))).toEqual(all.map((_, i) => `${i}`));
    await again.close();
  });

  test("rejects what could not be written, counts it off, and goes on", async () => {
    const journal = await Journal.open(newPath(), "full");
    await put(journal, 0, "first");
    const twice = journal.put({ seq: 1, due: 0, body: Buffer.from("again") });
    expect(await failureOf(twice)).toMatch(/UNIQUE/);
    expect([journal.count, journal.bytes]).toEqual([1, 5]);
    await put(journal, 0, "second");
    expect(texts(await journal.readPage(0, 9, 1e6))).toEqual(["first", "second"]);
    await journal.close();
  });

  test("sets a file aside that is none, and says so", async () => {
    const path = newPath();
    writeFileSync(path, "this is no database".repeat(1000));
    const journal = await Journal.open(path, "full");
    expect(journal.damage).toContain(`${path}.broken-1`);
    await put(journal, 0, "x");
    expect(readdirSync(folder).some((name) => name.endsWith(".broken-1"))).toBe(true);
    await journal.close();
  });

  test("belongs to one process, and a directory that is not there is an error", async () => {
    const path = newPath();
    const journal = await Journal.open(path, "full");
    await put(journal, 0, "x");
    expect(await failureOf(Journal.open(path, "full"))).toMatch("another process uses the file");
    await journal.close();
    expect(await failureOf(Journal.open(join(folder, "none", "x.db"), "full"))).toMatch(/unable to open/);
  });

  test("gives the disk back what is removed", async () => {
    const path = newPath();
    const journal = await Journal.open(path, "off");
    const body = Buffer.alloc(10_000);
    const seqs = Array.from({ length: 1000 }, () => journal.nextSeq());
    await Promise.all(seqs.map((seq) => journal.put({ seq, due: 0, body })));
    await journal.remove(seqs);
    await journal.close();
    expect(Bun.file(path).size).toBeLessThan(3_000_000);
  });
});
