// The thread of the journals ends while it is at work: it is started again, a while later, and nothing that was kept is missing.
import { afterAll, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Journal, SqlFile } from "#modules/journal.ts";
import { Spool } from "#modules/spool.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-journal-restart-"));
/** The thread may have been started by another test of this process. */
const threads = new Set<Worker>();
const { postMessage } = Worker.prototype;
Worker.prototype.postMessage = function (this: Worker, ...given: unknown[]): void {
  threads.add(this);
  Reflect.apply(postMessage, this, given);
};
beforeEach(() => threads.clear());
afterAll(() => {
  Worker.prototype.postMessage = postMessage;
  rmSync(folder, { recursive: true });
});

const body = (text: string): Buffer => Buffer.from(text);
/** What is no request ends it. */
const kill = (): void => [...threads].at(-1)!.postMessage(null);
const textsOf = async (journal: Journal): Promise<string[]> =>
  (await journal.readPage(0, 100, 1e6)).map((entry) => Buffer.from(entry.body).toString());

async function untilDone<T>(action: () => Promise<T>): Promise<T> {
  for (const endMs = performance.now() + 10_000; ; await Bun.sleep(20)) {
    try {
      return await action();
    } catch (error) {
      if (performance.now() > endMs) throw error;
    }
  }
}

test("a file has what was kept and nothing of what was rejected; numbers go on; the thread is not started at once", async () => {
  const journal = await Journal.open(join(folder, "a.db"), "full");
  let reopened = 0;
  journal.onReopen = (lost) => void (reopened += 1 + lost);
  const put = (text: string): Promise<void> => journal.put({ seq: journal.nextSeq(), due: 0, body: body(text) });
  await put("1");
  await put("22");
  await journal.remove([1]);
  const doubtful = Promise.allSettled([put("333"), put("4444")]);
  await Bun.sleep(0); // on its way to the thread, which does not live to say what became of it
  kill();
  const kept = (await doubtful).flatMap(({ status }, i) => (status === "fulfilled" ? [["333", "4444"][i]!] : []));
  const rejected = put("5").then(
    () => "",
    (error: Error) => error.message,
  );
  if (threads.size === 1) expect(await rejected).toMatch(/its thread has failed/);
  expect(threads.size).toBe(1);
  const startMs = performance.now();
  await untilDone(() => put("6"));
  expect(performance.now() - startMs).toBeGreaterThan(300);
  expect([threads.size, reopened]).toEqual([2, 1]);
  const expected = ["22", ...kept, "6"];
  expect(await textsOf(journal)).toEqual(expected);
  expect([journal.count, journal.bytes]).toEqual([expected.length, expected.join("").length]);
  await journal.close();
  const again = await Journal.open(join(folder, "a.db"), "full");
  expect(await textsOf(again)).toEqual(expected);
  await again.close();
});

test("what was in memory is gone, and that is said; another's database is open again", async () => {
  const journal = await Journal.open(":memory:", "off");
  const file = await SqlFile.open(join(folder, "sql.db"), ["CREATE TABLE IF NOT EXISTS t (a)"]);
  const lost: number[] = [];
  journal.onReopen = (lostCount) => void lost.push(lostCount);
  for (const text of ["a", "b", "c"]) await journal.put({ seq: journal.nextSeq(), due: 0, body: body(text) });
  await file.run(["INSERT INTO t VALUES (?)"], [{ text: 0, values: [1] }]);
  kill();
  expect(await untilDone(() => textsOf(journal))).toEqual([]);
  expect([lost, journal.count, journal.bytes]).toEqual([[3], 0, 0]);
  await file.run(["INSERT INTO t VALUES (?)"], [{ text: 0, values: [2] }]);
  await journal.put({ seq: journal.nextSeq(), due: 0, body: body("d") });
  expect(await textsOf(journal)).toEqual(["d"]);
  await file.close();
  await journal.close();
});

test("a spool goes on, in order: every item arrives", async () => {
  const received: number[] = [];
  let lostCount = 0;
  let isAway = true;
  const spool = new Spool<number>({
    limits: {
      countMax: 10_000,
      bytesMax: 1e6,
      diskBytesMax: 1e6,
      batchCountMax: 10,
      batchBytesMax: 1e6,
      lingerMs: 1,
      spillMs: 5,
      deadlineMs: 100,
      retryMsMax: 20,
    },
    journal: await Journal.open(join(folder, "spool.db"), "off"),
    bytesOf: () => 10,
    encode: (item) => body(`${item}`),
    decode: (bytes) => Number(Buffer.from(bytes).toString()),
    async send(batch) {
      if (isAway) throw new Error("away");
      received.push(...batch);
    },
    noteLoss: (count) => void (lostCount += count),
  });
  for (let item = 0; item < 300; item++) {
    spool.put(item);
    if (item % 10 === 0) await Bun.sleep(1);
    if (item === 150) kill();
    if (item === 200) isAway = false;
  }
  for (const endMs = performance.now() + 15_000; received.at(-1) !== 299 && performance.now() < endMs;)
    await Bun.sleep(10);
  expect(lostCount).toBe(0);
  expect([...new Set(received)]).toEqual(Array.from({ length: 300 }, (_, i) => i));
  expect(received.length).toBeLessThan(320);
  await spool.stop(1000);
}, 30_000);
