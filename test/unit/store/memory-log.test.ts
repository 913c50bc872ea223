import { describe, expect, test } from "bun:test";
import { Random } from "#base/random.ts";
import { MemoryLog } from "#test/support/memory-log.ts";
import { type LogFixture, logBackendContract, recover } from "#test/contract/log-backend-contract.ts";
import { BatchWriter, entryOf, OpsWriter } from "./batch-writer.ts";

function fixture(backend: MemoryLog): LogFixture {
  return {
    backend,
    commit: async (last) => backend.commit(last),
    restart: async () => fixture(backend.crash()),
    bodies: async () => backend.bodies,
    close: async () => {},
  };
}

logBackendContract("memory", async () => fixture(new MemoryLog()));

describe("memory log", () => {
  const batch = (body: number) =>
    new BatchWriter()
      .body(body, Buffer.from("x"))
      .ops(new OpsWriter().enqueued(1, entryOf(body)))
      .take();

  test("a crash keeps what was committed, nothing else without dice", async () => {
    const log = new MemoryLog();
    log.write(1, new BatchWriter().ops(new OpsWriter().opened(1, "ann")).take());
    for (let body = 2; body <= 9; body++) log.write(body, batch(body));
    log.commit(5);
    expect([log.durableBatch, log.writtenBatch]).toEqual([5, 9]);
    expect((await recover(log.crash())).info.lastBatch).toBe(5);
    const seen = new Set<number>();
    for (let seed = 1; seed < 100; seed++) seen.add((await recover(log.crash(new Random(seed)))).info.lastBatch);
    expect([...seen].sort()).toEqual([5, 6, 7, 8, 9]);
  });

  test("the same dice give the same disk, and the old process cannot touch it", async () => {
    const log = new MemoryLog();
    log.write(1, new BatchWriter().ops(new OpsWriter().opened(1, "ann")).take());
    for (let body = 2; body <= 9; body++) log.write(body, batch(body));
    const [one, two] = [log.crash(new Random(7)), log.crash(new Random(7))];
    log.commit();
    log.write(10, batch(10));
    expect(await recover(one)).toEqual(await recover(two));
    expect(one.writtenBatch).toBeLessThan(10);
  });
});
