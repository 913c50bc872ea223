import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Random } from "#base/random.ts";
import { BatchReader } from "#store/batch-reader.ts";
import { OPS } from "#store/log-backend.ts";
import { MemoryLog } from "#test/support/memory-log.ts";
import { PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Replayer } from "#store/session-replay.ts";
import { readEntries, readQueue } from "#store/session-log.ts";
import { recover } from "#test/contract/log-backend-contract.ts";
import { checkAsync } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";
import { BatchWriter, entryOf, OpsWriter } from "./batch-writer.ts";
import { describeRecovered, History } from "./history.ts";

const nothing = { readSnapshots: () => null, readPage: () => null };

function replay(ops: OpsWriter): Replayer {
  const replayer = new Replayer(nothing);
  replayer.apply(1, ops.take());
  return replayer;
}

describe("replay", () => {
  test("any history ends in the state of its last durable batch, with snapshots and without", async () => {
    const property = fc.asyncProperty(
      fc.integer(),
      fc.boolean(),
      fc.integer({ min: 1, max: 60 }),
      async (seed, hasSnapshots, batches) => {
        const history = new History(new Random(seed), { hasSnapshots, hasCollections: true });
        const log = new MemoryLog();
        for (let batch = 1; batch <= batches; batch++) log.write(batch, history.next());
        log.commit();
        const disk = log.crash();
        const found = await recover(disk);
        expect(found.info.damage).toEqual([]);
        expect(await describeRecovered(disk, found)).toBe(history.expected.get(batches)!);
      },
    );
    await checkAsync(property, rounds(150, 1500, 5000));
  });

  test("a history goes on over crashes, and each finds what was durable", async () => {
    const property = fc.asyncProperty(fc.integer(), async (seed) => {
      const dice = new Random(seed);
      const history = new History(dice, { hasSnapshots: true, hasCollections: true });
      let log = new MemoryLog();
      await recover(log);
      for (let life = 0; life < 5; life++) {
        for (let batches = dice.below(15); batches >= 0; batches--) {
          const bytes = history.next();
          log.write(history.lastBatch, bytes);
        }
        log.commit();
        log = log.crash();
        const found = await recover(log);
        expect(found.info.damage).toEqual([]);
        expect(await describeRecovered(log, found)).toBe(history.expected.get(history.lastBatch)!);
        expect(found.info.lastBatch).toBe(history.lastBatch);
        expect(found.info.lastBody).toBe(history.lastBody);
        expect(found.info.lastSession).toBe(history.lastSession);
        await history.resume(log, found);
      }
    });
    await checkAsync(property, rounds(60, 600, 2000));
  });

  test("a crash between batches shows whole batches only", async () => {
    const property = fc.asyncProperty(fc.integer(), fc.nat(20), async (seed, durable) => {
      const history = new History(new Random(seed), { hasSnapshots: true });
      const log = new MemoryLog();
      for (let batch = 1; batch <= 20; batch++) log.write(batch, history.next());
      log.commit(durable);
      const disk = log.crash(new Random(seed));
      const found = await recover(disk);
      expect(found.info.lastBatch).toBeGreaterThanOrEqual(durable);
      expect(await describeRecovered(disk, found)).toBe(history.expected.get(found.info.lastBatch)!);
    });
    await checkAsync(property, rounds(60, 600, 2000));
  });

  test("messages in memory are put into pages of limited count and size, in order", async () => {
    const log = new MemoryLog();
    const ops = new OpsWriter().opened(1, "ann");
    for (let body = 1; body <= 600; body++) ops.enqueued(1, entryOf(body, { size: body > 300 ? 10_000 : 10 }));
    ops.enqueued(1, entryOf(601, { size: 10 * PAGE_BYTES_MAX }));
    log.write(1, new BatchWriter().ops(ops).take());
    log.commit();
    const disk = log.crash();
    const { sessions } = await recover(disk);
    const bodies: number[] = [];
    for (const { page, count, bytes } of readQueue(sessions[0]!.queue).lanes[0]!.pages)
      disk.readPage(1, page, (loaded) => {
        const entries = readEntries(loaded!.entries);
        expect([count, bytes]).toEqual([entries.length, entries.reduce((sum, { size }) => sum + size, 0)]);
        expect(count).toBeLessThanOrEqual(PAGE_ENTRIES_MAX);
        if (count > 1) expect(bytes).toBeLessThanOrEqual(PAGE_BYTES_MAX);
        bodies.push(...entries.map(({ body }) => body));
      });
    expect(bodies).toEqual(Array.from({ length: 601 }, (_, index) => index + 1));
  });
});

describe("damage", () => {
  test("changes that do not fit are skipped and counted, the others count", () => {
    const ops = new OpsWriter().opened(1, "ann").enqueued(1, entryOf(1));
    ops.enqueued(2, entryOf(1)); // an unknown session
    ops.packet("acknowledged", 1, 9).packet("received", 1, 9).packet("completed", 1, 9).packet("receiptRemoved", 1, 9);
    ops.sent(1, 3, 1).shifted(1, 3).ofPage("loaded", 1, 0, 5).ofPage("pageDropped", 1, 0, 5);
    ops.unsubscribed(1, Buffer.from("none")).closed(3, 1);
    ops.spilled(1, 0, 0, { keep: 0, count: 2, bytes: 1 }).spilled(1, 0, 0, { keep: 0xffff_ffff, count: 2, bytes: 1 });
    ops.sent(1, 0, 4).enqueued(1, entryOf(2, { packetId: 4 }));
    const replayer = replay(ops);
    expect(replayer.damageCount).toBe(14);
    expect(readQueue(replayer.rest(1)!.queue)).toMatchObject({ inflight: [{ body: 1, packetId: 4 }], lastPacketId: 4 });
    expect([replayer.rest(2), replayer.rest(3)]).toEqual([null, null]);
  });

  test("what does not fit in a session that is gone in the end is no damage", () => {
    const ops = new OpsWriter().enqueued(2, entryOf(1)).packet("acknowledged", 2, 9).plain("gone", 2).shifted(2, 0);
    const replayer = replay(ops);
    expect(replayer.damageCount).toBe(0);
    expect(replayer.rest(2)).toBeNull();
  });

  test("a page that is gone takes its messages, not the session", () => {
    const ops = new OpsWriter().opened(1, "ann").enqueued(1, entryOf(1)).enqueued(1, entryOf(2));
    ops.spilled(1, 0, 0, { keep: 0, count: 1, bytes: 100 }).ofPage("loaded", 1, 0, 0);
    const replayer = replay(ops);
    expect(replayer.damageCount).toBe(1);
    const { newPages } = replayer.rest(1)!;
    expect(newPages.flatMap(({ entries }) => readEntries(entries)).map(({ body }) => body)).toEqual([2]);
  });

  test("any bytes at all do no harm", async () => {
    const flips = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 20 });
    const property = fc.asyncProperty(fc.integer(), flips, async (seed, changes) => {
      const history = new History(new Random(seed), { hasSnapshots: false });
      const rows = Array.from({ length: 8 }, () => opsOf(history.next())).filter((row) => row.length > 0);
      for (const [at, value] of changes) {
        const row = rows[at % rows.length]!;
        row[(at >>> 3) % row.length] = value;
      }
      const replayer = new Replayer(nothing);
      rows.forEach((row, batch) => replayer.apply(batch, row));
      for (const session of replayer.sessions) replayer.rest(session);
      expect(replayer.damageCount).toBeGreaterThanOrEqual(0);
    });
    await checkAsync(property, rounds(200, 2000, 6000));
  });
});

function opsOf(batch: Buffer): Buffer {
  const item = new BatchReader(batch);
  while (item.next()) if (item.kind === OPS) return Buffer.from(item.bytes);
  return Buffer.alloc(0);
}
