/** What the durable store relies on in every disk below it. */
import { afterEach, describe, expect, test } from "bun:test";
import type { LoadedEntries, LogBackend, RecoveredSession, RecoveryInfo } from "#store/log-backend.ts";
import { IS_CONNECTED, IS_ENDING, readEntries, readMeta, readQueue } from "#store/session-log.ts";
import {
  BatchWriter,
  bodyTexts,
  entriesBytes,
  entryOf,
  metaOf,
  OpsWriter,
  queueOf,
} from "#test/unit/store/batch-writer.ts";

export interface LogFixture {
  readonly backend: LogBackend;
  /** Resolves when all batches up to `last` are durable; never before `onCommitted` has said so. */
  commit(last: number): Promise<void>;
  /** Ends this backend as a crash would, with all that was committed, and opens the disk again. */
  restart(): Promise<LogFixture>;
  /** Numbers of the bodies on the disk, once what was asked to be collected has been. */
  bodies(): Promise<number[]>;
  close(): Promise<void>;
}

export interface Recovered {
  readonly sessions: RecoveredSession[];
  /** By topic. */
  readonly retained: Map<string, string>;
  readonly info: RecoveryInfo;
}

export function recover(backend: LogBackend): Promise<Recovered> {
  return new Promise((resolve) => {
    const sessions: RecoveredSession[] = [];
    const retained = new Map<string, string>();
    backend.recover({
      sessions: (chunk) => void sessions.push(...chunk),
      retained: (chunk) => {
        for (const { topic, bytes } of chunk) retained.set(topic.toString(), bytes.toString());
      },
      done: (info) => resolve({ sessions, retained, info }),
    });
  });
}

function readPage(backend: LogBackend, session: number, page: number): Promise<LoadedEntries | null> {
  return new Promise((resolve) => backend.readPage(session, page, resolve));
}

function readBodies(backend: LogBackend, entries: Buffer): Promise<LoadedEntries> {
  return new Promise((resolve) => backend.readBodies(entries, resolve));
}

/** The messages that wait in a recovered session, in order, lane by lane. */
export async function waitingTexts(
  backend: LogBackend,
  { session, queue }: RecoveredSession,
): Promise<(string | null)[]> {
  const texts: (string | null)[] = [];
  for (const { pages, head, tail } of readQueue(queue).lanes) {
    expect([...head, ...tail]).toEqual([]);
    for (const { page, count } of pages) {
      const loaded = await readPage(backend, session, page);
      const found = loaded ? bodyTexts(loaded) : [];
      expect(found).toHaveLength(count);
      texts.push(...found);
    }
  }
  return texts;
}

const text = (body: number): Buffer => Buffer.from(`message ${body}`);

export function logBackendContract(name: string, make: () => Promise<LogFixture>): void {
  describe(`the log backend contract: ${name}`, () => {
    const open: LogFixture[] = [];
    async function start(): Promise<LogFixture> {
      const fixture = await make();
      open.push(fixture);
      return fixture;
    }
    async function restart(fixture: LogFixture): Promise<{ fixture: LogFixture; found: Recovered }> {
      const again = await fixture.restart();
      open.push(again);
      return { fixture: again, found: await recover(again.backend) };
    }
    afterEach(async () => {
      for (const fixture of open.splice(0)) await fixture.close();
    });

    test("an empty disk recovers to nothing", async () => {
      const { backend } = await start();
      expect(await recover(backend)).toEqual({
        sessions: [],
        retained: new Map(),
        info: { lastBody: 0, lastSession: 0, lastBatch: 0, damage: [] },
      });
    });

    test("batches are committed in order, each once", async () => {
      const fixture = await start();
      await recover(fixture.backend);
      const seen: number[] = [];
      fixture.backend.onCommitted = ({ batch, commitMs }) => {
        expect(commitMs).toBeGreaterThanOrEqual(0);
        seen.push(batch);
      };
      for (let batch = 1; batch <= 20; batch++)
        fixture.backend.write(batch, new BatchWriter().body(batch, text(batch)).take());
      await fixture.commit(20);
      expect(seen).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    });

    test("a session comes back from changes alone", async () => {
      const first = await start();
      await recover(first.backend);
      const filter = Buffer.from("a/+");
      const will = { delaySec: 5, expirySec: 9, body: Buffer.from("farewell") };
      const ops = new OpsWriter()
        .opened(7, "ann", { expirySec: 300, will })
        .subscribed(7, { filter, options: 1, id: 3 })
        .enqueued(7, entryOf(1))
        .enqueued(7, entryOf(2, { delivery: 2, ids: [3, 4], group: Buffer.from("$share/g/a/+") }))
        .enqueued(7, entryOf(3))
        .sent(7, 0, 11)
        .packet("receiptAdded", 7, 40);
      const batch = new BatchWriter().body(1, text(1)).body(2, text(2)).body(3, text(3)).ops(ops);
      first.backend.write(1, batch.take());
      await first.commit(1);

      const { fixture, found } = await restart(first);
      expect(found.info).toEqual({ lastBody: 3, lastSession: 7, lastBatch: 1, damage: [] });
      expect(found.sessions.map(({ session }) => session)).toEqual([7]);
      const meta = readMeta(found.sessions[0]!.meta);
      expect(meta).toEqual({
        ...metaOf("ann", { flags: meta.flags, expirySec: 300, will, subscriptions: [{ filter, options: 1, id: 3 }] }),
      });
      expect(meta.flags & IS_CONNECTED).toBe(IS_CONNECTED);
      const queue = readQueue(found.sessions[0]!.queue);
      expect(queue.lastPacketId).toBe(11);
      expect(queue.receipts).toEqual([40]);
      expect(queue.inflight).toEqual([entryOf(1, { packetId: 11 })]);
      expect(bodyTexts(await readBodies(fixture.backend, entriesBytes(queue.inflight)))).toEqual(["message 1"]);
      expect(await waitingTexts(fixture.backend, found.sessions[0]!)).toEqual(["message 2", "message 3"]);
      const page = await readPage(fixture.backend, 7, queue.lanes[0]!.pages[0]!.page);
      expect(readEntries(page!.entries)[0]).toEqual(
        entryOf(2, { delivery: 2, ids: [3, 4], group: Buffer.from("$share/g/a/+") }),
      );
    });

    test("changes count from the snapshot of their part on, and the log may be trimmed below it", async () => {
      const first = await start();
      await recover(first.backend);
      const { backend } = first;
      backend.write(
        1,
        new BatchWriter()
          .body(1, text(1))
          .ops(new OpsWriter().opened(1, "ann").enqueued(1, entryOf(1)))
          .take(),
      );
      backend.write(
        2,
        new BatchWriter()
          .body(2, text(2))
          .ops(new OpsWriter().enqueued(1, entryOf(2)).closed(1, 99))
          .queue(1, queueOf({ lanes: [{ lane: 0, nextPage: 0, pages: [], head: [entryOf(1), entryOf(2)], tail: [] }] }))
          .meta(1, metaOf("ann", { closedAtSec: 99 }))
          .trim(3)
          .take(),
      );
      backend.write(
        3,
        new BatchWriter()
          .body(3, text(3))
          .ops(new OpsWriter().enqueued(1, entryOf(3)).shifted(1, 0))
          .take(),
      );
      await first.commit(3);
      const { fixture, found } = await restart(first);
      expect(found.info.damage).toEqual([]);
      expect(readMeta(found.sessions[0]!.meta).closedAtSec).toBe(99);
      expect(await waitingTexts(fixture.backend, found.sessions[0]!)).toEqual(["message 2", "message 3"]);
    });

    test("a snapshot with messages in memory is enough, when the log is empty", async () => {
      const first = await start();
      await recover(first.backend);
      const batch = new BatchWriter().meta(1, metaOf("ann"));
      const lane = {
        lane: 0,
        nextPage: 1,
        pages: [{ page: 0, count: 1, bytes: 100 }],
        head: [entryOf(1)],
        tail: [entryOf(3)],
      };
      batch.page(1, 0, [entryOf(2)]).queue(1, queueOf({ lanes: [lane] }));
      for (const body of [1, 2, 3]) batch.body(body, text(body));
      first.backend.write(1, batch.take());
      first.backend.write(2, new BatchWriter().trim(2).take());
      await first.commit(2);
      const { fixture, found } = await restart(first);
      const expected = ["message 1", "message 2", "message 3"];
      expect(await waitingTexts(fixture.backend, found.sessions[0]!)).toEqual(expected);
    });

    test("the greatest numbers are remembered when what had them is gone", async () => {
      const first = await start();
      await recover(first.backend);
      first.backend.write(1, new BatchWriter().body(7, text(7)).meta(3, metaOf("ann")).take());
      first.backend.write(2, new BatchWriter().remove(3).trim(3).collect(8).take());
      await first.commit(2);
      expect(await first.bodies()).toEqual([]);
      const again = await restart(first);
      expect(again.found.info).toEqual({ lastBody: 7, lastSession: 3, lastBatch: 2, damage: [] });
      expect((await restart(again.fixture)).found.info).toEqual(again.found.info);
    });

    test("pages are read as of the batches written before, and after a restart", async () => {
      const first = await start();
      await recover(first.backend);
      const { backend } = first;
      const run = [entryOf(1), entryOf(2)];
      const none = readPage(backend, 1, 0);
      const ops = new OpsWriter().opened(1, "ann").enqueued(1, entryOf(1)).enqueued(1, entryOf(2));
      ops.spilled(1, 0, 0, { keep: 0, count: 2, bytes: 200 }).enqueued(1, entryOf(3));
      backend.write(1, new BatchWriter().body(1, text(1)).body(2, text(2)).page(1, 0, run).ops(ops).take());
      const there = readPage(backend, 1, 0);
      const lost = readBodies(backend, entriesBytes([entryOf(2), entryOf(3)]));
      backend.write(2, new BatchWriter().body(3, text(3)).take());
      expect(await none).toBeNull();
      expect(bodyTexts((await there)!)).toEqual(["message 1", "message 2"]);
      expect(bodyTexts(await lost)).toEqual(["message 2", null]);
      await first.commit(2);
      const { fixture, found } = await restart(first);
      expect(await waitingTexts(fixture.backend, found.sessions[0]!)).toEqual(["message 1", "message 2", "message 3"]);
    });

    test("a page that was loaded is in memory again, so what follows it stays in order", async () => {
      const first = await start();
      await recover(first.backend);
      const ops = new OpsWriter().opened(1, "ann");
      for (const body of [1, 2, 3, 4, 5]) ops.enqueued(1, entryOf(body));
      ops.spilled(1, 0, 0, { keep: 1, count: 2, bytes: 200 });
      ops.shifted(1, 0).ofPage("loaded", 1, 0, 0).shifted(1, 0).enqueued(1, entryOf(6));
      const batch = new BatchWriter().page(1, 0, [entryOf(2), entryOf(3)]).ops(ops);
      for (const body of [1, 2, 3, 4, 5, 6]) batch.body(body, text(body));
      first.backend.write(1, batch.take());
      await first.commit(1);
      const { fixture, found } = await restart(first);
      const expected = [3, 4, 5, 6].map((body) => `message ${body}`);
      expect(found.info.damage).toEqual([]);
      expect(await waitingTexts(fixture.backend, found.sessions[0]!)).toEqual(expected);
      expect(await readPage(fixture.backend, 1, 0)).toBeNull(); // its messages are in other pages now
      // And once more from what recovery wrote.
      const again = await restart(fixture);
      expect(again.found.info).toEqual({ ...found.info });
      expect(await waitingTexts(again.fixture.backend, again.found.sessions[0]!)).toEqual(expected);
    });

    test("a removed session is gone with its pages, its number is remembered", async () => {
      const first = await start();
      await recover(first.backend);
      const { backend } = first;
      const ops = new OpsWriter()
        .opened(4, "ann")
        .enqueued(4, entryOf(1))
        .spilled(4, 0, 0, { keep: 0, count: 1, bytes: 100 });
      backend.write(
        1,
        new BatchWriter()
          .body(1, text(1))
          .page(4, 0, [entryOf(1)])
          .ops(ops)
          .take(),
      );
      backend.write(2, new BatchWriter().meta(4, metaOf("ann")).trim(2).take());
      backend.write(3, new BatchWriter().ops(new OpsWriter().plain("gone", 4)).remove(4).trim(3).take());
      expect(await readPage(backend, 4, 0)).toBeNull();
      await first.commit(3);
      const { found } = await restart(first);
      expect(found.sessions).toEqual([]);
      expect(found.info).toEqual({ lastBody: 1, lastSession: 4, lastBatch: 3, damage: [] });
    });

    test("an ending session is kept while messages of it are left", async () => {
      const first = await start();
      await recover(first.backend);
      const ops = new OpsWriter().opened(1, "ann").enqueued(1, entryOf(1)).plain("ending", 1);
      ops.opened(2, "bob").plain("ending", 2);
      first.backend.write(1, new BatchWriter().body(1, text(1)).ops(ops).take());
      await first.commit(1);
      const { fixture, found } = await restart(first);
      expect(found.sessions.map(({ session }) => session)).toEqual([1]);
      expect(readMeta(found.sessions[0]!.meta).flags & IS_ENDING).toBe(IS_ENDING);
      expect(await waitingTexts(fixture.backend, found.sessions[0]!)).toEqual(["message 1"]);
    });

    test("retained values are the last ones, of any topic", async () => {
      const first = await start();
      await recover(first.backend);
      const { backend } = first;
      backend.write(1, new BatchWriter().retained("a", Buffer.from("1")).retained("b", Buffer.from("2")).take());
      backend.write(2, new BatchWriter().retained("a", Buffer.from("3")).retained("b", Buffer.alloc(0)).take());
      backend.write(3, new BatchWriter().retained("grüße/日本", Buffer.from("4")).take());
      await first.commit(3);
      const { found } = await restart(first);
      expect(found.retained).toEqual(
        new Map([
          ["a", "3"],
          ["grüße/日本", "4"],
        ]),
      );
    });

    test("collecting leaves each body that a queue, a page or the log names, and all from the floor on", async () => {
      const first = await start();
      await recover(first.backend);
      const { backend } = first;
      const bodies = new BatchWriter();
      for (let body = 1; body <= 12; body++) bodies.body(body, text(body));
      const ops = new OpsWriter().opened(1, "ann").enqueued(1, entryOf(2));
      backend.write(1, bodies.ops(ops).take());
      const queue = queueOf({
        inflight: [entryOf(4, { packetId: 1 })],
        lanes: [
          { lane: 2, nextPage: 1, pages: [{ page: 0, count: 2, bytes: 200 }], head: [entryOf(5)], tail: [entryOf(8)] },
        ],
      });
      backend.write(
        2,
        new BatchWriter()
          .page(3, 0, [entryOf(6), entryOf(7)])
          .queue(3, queue)
          .meta(3, metaOf("bob"))
          .take(),
      );
      backend.write(3, new BatchWriter().collect(10).take());
      await first.commit(3);
      expect(await first.bodies()).toEqual([2, 4, 5, 6, 7, 8, 10, 11, 12]);
      // What was named only by what is gone now goes with the next collection.
      backend.write(4, new BatchWriter().remove(3).trim(2).collect(12).take());
      await first.commit(4);
      expect(await first.bodies()).toEqual([12]);
    });

    test("page numbers that recovery gives are above all that the session used, in every lane", async () => {
      const first = await start();
      await recover(first.backend);
      const lane1 = 1 | (1 << 3);
      const ops = new OpsWriter().opened(1, "ann");
      for (const body of [1, 2]) ops.enqueued(1, entryOf(body));
      for (const body of [3, 4]) ops.enqueued(1, entryOf(body, { delivery: lane1 }));
      ops.spilled(1, 1, 6, { keep: 1, count: 1, bytes: 100 }).spilled(1, 0, 7, { keep: 1, count: 1, bytes: 100 });
      const batch = new BatchWriter()
        .page(1, 6, [entryOf(4, { delivery: lane1 })])
        .page(1, 7, [entryOf(2)])
        .ops(ops);
      for (const body of [1, 2, 3, 4]) batch.body(body, text(body));
      first.backend.write(1, batch.take());
      await first.commit(1);
      const { fixture, found } = await restart(first);
      const { lanes } = readQueue(found.sessions[0]!.queue);
      const used = lanes.flatMap(({ pages }) => pages.map(({ page }) => page));
      expect(new Set(used).size).toBe(4);
      for (const { nextPage } of lanes) expect(nextPage).toBeGreaterThan(Math.max(...used));
      expect(await waitingTexts(fixture.backend, found.sessions[0]!)).toEqual(
        [1, 2, 3, 4].map((body) => `message ${body}`),
      );
    });
  });
}
