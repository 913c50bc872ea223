/** Stores given to another number of processes: what they have is the same before and after, wherever it is cut off. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Random } from "#base/random.ts";
import { restoreBackup, spreadData } from "#broker/spread.ts";
import { homeOf } from "#fabric/home.ts";
import { checkStore } from "#store/check-sqlite.ts";
import { JournalFile } from "#modules/journal-file-sqlite.ts";
import { pack, unpack } from "#modules/journal-message.ts";
import { IdRanks, IdSet } from "#store/id-set.ts";
import { claimLayout, layoutOf, readSeed, storeDirs, swap, swapSteps, writeLayout } from "#store/layout-sqlite.ts";
import type { RecoveredSession } from "#store/log-backend.ts";
import { readMeta } from "#store/session-log.ts";
import { rounds } from "#test/support/level.ts";
import { backUpData } from "#store/worker-backup-sqlite.ts";
import { recover } from "#test/contract/log-backend-contract.ts";
import { BatchWriter, entryOf, metaOf, queueOf } from "./batch-writer.ts";
import { copyDir, DirectLog, makeDir, removeDirs, rows } from "./disk.ts";
import { describeRecovered, History } from "./history.ts";

afterAll(removeDirs);

interface Data {
  /** A line a session and a retained message of it, without the numbers that the store gives. */
  readonly text: string;
  /** By client id; an ending session may have one of somebody else's. */
  readonly metas: ReadonlyMap<string, string>;
}

/** All that the data of so many processes says; checks that everybody is at home and that nothing is superfluous or missing. */
async function read(dir: string, count: number): Promise<Data> {
  expect(layoutOf(dir)).toBe(count);
  const seed = readSeed(dir);
  const lines: string[] = [];
  const metas = new Map<string, string>();
  const tables: string[] = [];
  for (const [home, path] of storeDirs(dir, count).entries()) {
    expect(readSeed(path)).toBe(seed);
    const log = new DirectLog(path);
    const found = await recover(log);
    expect(found.info.damage).toEqual([]);
    for (const { meta } of found.sessions) {
      const { clientId } = readMeta(meta);
      expect(homeOf(clientId, { count, seed })).toBe(home);
      metas.set(clientId.toString(), meta.toString("hex"));
    }
    lines.push(...(await sessionLines(log, found.sessions)));
    log.close();
    tables.push(retainedText(path));
    expect(checkStore(path).problems).toEqual([]);
  }
  expect(new Set(tables).size).toBe(1);
  return { text: [...lines.sort(), tables[0]].join("\n"), metas };
}

/** Values with the place among those of several processes taken out. */
function retainedText(dir: string): string {
  const values = rows(dir, "SELECT topic, bytes FROM retained ORDER BY topic") as [Uint8Array, Uint8Array][];
  return values
    .map(([topic, value]) => {
      const bytes = Buffer.from(value);
      const plain = bytes.length >= 17 && bytes[8] === 0x80 ? [bytes.subarray(0, 8), bytes.subarray(17)] : [bytes];
      return `${Buffer.from(topic)} = ${Buffer.concat(plain)}`;
    })
    .join("\n");
}

async function sessionLines(log: DirectLog, sessions: RecoveredSession[]): Promise<string[]> {
  const text = await describeRecovered(log, { sessions, retained: new Map(), info: undefined as never });
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const { session: _, inflight, waiting, ...rest } = JSON.parse(line);
      const nameless = (entry: string): string => entry.slice(entry.indexOf("/"));
      const queues = { inflight: inflight.map(nameless), waiting: waiting.map((lane: string[]) => lane.map(nameless)) };
      return JSON.stringify({ ...rest, ...queues });
    });
}

async function write(dir: string, fill: (log: DirectLog) => number): Promise<void> {
  const log = new DirectLog(dir);
  await recover(log);
  await log.whenCommitted(fill(log));
  log.close();
}

async function writeHistory(dir: string, seed: number, batches: number): Promise<void> {
  mkdirSync(dir, { recursive: true });
  readSeed(dir, 1 + seed);
  const history = new History(new Random(seed), { hasSnapshots: seed % 2 === 0, stepsMax: 40 });
  await write(dir, (log) => {
    for (let batch = 1; batch <= batches; batch++) log.write(batch, history.next());
    return batches;
  });
}

describe("any history", () => {
  test.each(Array.from({ length: rounds(2, 3, 40) }, (_, at) => at + 1))(
    "is the same over 1, 3, 2, 1 and 5 processes: %i",
    async (seed) => {
      const dir = makeDir();
      await writeHistory(dir, seed, 40);
      const log = new DirectLog(dir); // brought to rest
      await recover(log);
      log.close();
      const first = await read(dir, 1);
      for (const count of [3, 2, 1, 5]) {
        const report = spreadData(dir, count)!;
        expect(report.damage).toEqual([]);
        expect(report.sessionCount).toBe(first.text.split("\n").filter((line) => line.startsWith("{")).length);
        expect(existsSync(report.aside)).toBe(true);
        expect(await read(dir, count)).toEqual(first);
      }
      expect(spreadData(dir, 5)).toBeUndefined();
    },
  );
});

/** A retained value as a broker of several processes writes it. */
function value(stamp: number, payload: string, publisherKey = 0): Buffer {
  const topic = Buffer.from("t");
  const head = Buffer.alloc(17 + 24);
  head.writeUInt32LE(publisherKey, 0);
  head.writeUInt32LE(0xffff_ffff, 4);
  head[8] = 0x80;
  head.writeUInt32LE(Math.floor(stamp / 2 ** 32), 9);
  head.writeUInt32LE(stamp % 2 ** 32, 13);
  head.writeUInt32LE(topic.length, 17 + 12); // where the payload begins
  return Buffer.concat([head, topic, Buffer.from(payload)]);
}

async function workers(dir: string, each: readonly ((batch: BatchWriter) => void)[]): Promise<void> {
  mkdirSync(dir, { recursive: true });
  const seed = readSeed(dir);
  writeLayout(dir, each.length);
  for (const [node, fill] of each.entries()) {
    const path = join(dir, `worker-${node}`);
    await write(path, (log) => {
      const batch = new BatchWriter();
      fill(batch);
      log.write(1, batch.take());
      return 1;
    });
    readSeed(path, seed);
  }
}

async function retainedOf(dir: string): Promise<Map<string, string>> {
  const log = new DirectLog(dir);
  const { retained } = await recover(log);
  log.close();
  return retained;
}

describe("workers", () => {
  test("of retained values that differ the newest stays, with its publisher, and a removal is one", async () => {
    const dir = makeDir();
    const stamp = 2 ** 40;
    await workers(dir, [
      (batch) =>
        batch
          .retained("new", value(stamp, "old"))
          .retained("gone", value(stamp, "there"))
          .retained("own", value(stamp, "x")),
      (batch) =>
        batch
          .retained("new", value(stamp + 64, "new"))
          .retained("gone", value(stamp + 1, ""))
          .retained("own", value(stamp, "x", 7)),
    ]);
    spreadData(dir, 3);
    for (const path of storeDirs(dir, 3)) {
      const retained = await retainedOf(path);
      expect(retained.get("new")).toBe(value(stamp + 64, "new").toString());
      expect(retained.get("gone")).toBe(value(stamp + 1, "").toString());
      expect(retained.get("own")).toBe(value(stamp, "x", 7).toString());
    }
    spreadData(dir, 1);
    expect([...(await retainedOf(dir)).keys()].toSorted()).toEqual(["new", "own"]);
  });

  test("messages that are on their way between them stop it; what is only open does not", async () => {
    const dir = makeDir();
    const lane = { lane: 0, nextPage: 1, pages: [{ page: 0, count: 2, bytes: 200 }], head: [], tail: [] };
    await workers(dir, [
      (batch) =>
        batch
          .body(1, Buffer.from("one"))
          .meta(1, metaOf("$worker/1"))
          .page(1, 0, [entryOf(1), entryOf(1)])
          .queue(1, queueOf({ inflight: [entryOf(1, { packetId: 4 })], lanes: [lane] })),
      (batch) => batch.meta(1, metaOf("$worker/0")).queue(1, queueOf({ released: [3], receipts: [9] })),
    ]);
    expect(() => spreadData(dir, 1)).toThrow(
      "3 messages are on their way between workers: start the broker with workers: 2 and stop it again",
    );
    expect(layoutOf(dir)).toBe(2);
    expect(existsSync(join(dir, "spread.tmp"))).toBe(false);
    await write(join(dir, "worker-0"), (log) => {
      log.write(2, new BatchWriter().remove(1).take());
      return 2;
    });
    expect(spreadData(dir, 1)).toMatchObject({ from: 2, sessionCount: 0, messageCount: 0 });
  });

  test("another number than the data is of is refused in one line, whichever way", async () => {
    const [one, three] = [makeDir(), makeDir()];
    await writeHistory(one, 1, 2);
    await workers(three, [() => {}, () => {}, () => {}]);
    const line = (found: number, known: number, dir: string): string =>
      `workers: found ${found}, allowed: ${known}, since the data in ${dir} is of so many; this changes it: mantou store spread --workers ${found} --data ${dir}`;
    expect(() => claimLayout(one, 3)).toThrow(line(3, 1, one));
    expect(() => claimLayout(three, 2)).toThrow(line(2, 3, three));
    expect(() => new DirectLog(three)).toThrow(line(1, 3, three));
    expect(existsSync(join(three, "store.db"))).toBe(false);
    writeFileSync(join(three, "workers.json"), "");
    expect(() => claimLayout(three, 3)).toThrow("workers.json cannot be read");
  });

  test("what plugins keep goes along: what they share, the first one's own, and all journals", async () => {
    const dir = makeDir();
    await workers(dir, [() => {}, () => {}]);
    const put = (path: string, text: string): void => {
      mkdirSync(join(dir, path, ".."), { recursive: true });
      writeFileSync(join(dir, path), text);
    };
    for (const [node, own] of [["a", "b"], ["c"]].entries())
      for (const name of ["delayed/delayed.db", "webhook/target.db"]) {
        const path = join(dir, `worker-${node}`, "plugins", name);
        mkdirSync(join(path, ".."), { recursive: true });
        const journal = new JournalFile(path, "normal");
        journal.write(pack(own.map((text, at) => ({ seq: 7 + at, due: 100 - at, body: Buffer.from(text) }))), []);
        journal.close();
      }
    put("plugins/auto-subscribe/subscriptions.json", "shared");
    put("worker-0/plugins/mine/state", "first");
    put("worker-1/plugins/mine/state", "second");
    const report = spreadData(dir, 3)!;
    expect(report.leftPlugins).toEqual(["mine"]);
    expect(readFileSync(join(report.aside, "worker-1/plugins/mine/state"), "utf8")).toBe("second");
    expect(readFileSync(join(dir, "plugins/auto-subscribe/subscriptions.json"), "utf8")).toBe("shared");
    for (const count of [1, 2, 1]) {
      expect(spreadData(dir, count)!.leftPlugins).toEqual([]);
      const [first] = storeDirs(dir, count);
      expect(readFileSync(join(first!, "plugins/mine/state"), "utf8")).toBe("first");
      expect(readFileSync(join(dir, "plugins/auto-subscribe/subscriptions.json"), "utf8")).toBe("shared");
      for (const name of ["delayed/delayed.db", "webhook/target.db"]) {
        const journal = new JournalFile(join(first!, "plugins", name), "normal");
        const entries = unpack(journal.readPage(0, 10, 1000).entries);
        journal.close();
        const texts = entries.map(({ seq, due, body }) => `${seq} ${due} ${Buffer.from(body)}`);
        expect(texts).toEqual(["1 100 a", "2 99 b", "3 100 c"]);
      }
      expect(existsSync(join(dir, "plugins/delayed"))).toBe(count === 1);
    }
  });

  test("a backup of them is a directory, and comes back whatever is there", async () => {
    const dir = makeDir();
    await writeHistory(dir, 6, 20);
    const log = new DirectLog(dir);
    await recover(log);
    log.close();
    const whole = await read(dir, 1);
    const [one, three] = [`${dir}-one.db`, `${dir}-three`];
    backUpData(dir, one);
    spreadData(dir, 3);
    backUpData(dir, three);
    expect(() => backUpData(dir, three)).toThrow("replaces nothing");
    const other = makeDir();
    expect(restoreBackup(other, three)).toBeUndefined();
    expect(await read(other, 3)).toEqual(whole);
    await workers(`${other}-2`, [() => {}, (batch) => batch.meta(1, metaOf("somebody"))]);
    writeFileSync(join(`${other}-2`, "users"), "stay");
    const aside = restoreBackup(`${other}-2`, three)!;
    expect(layoutOf(aside)).toBe(2);
    expect(await read(`${other}-2`, 3)).toEqual(whole);
    expect(readFileSync(join(`${other}-2`, "users"), "utf8")).toBe("stay");
    restoreBackup(`${other}-2`, one);
    expect(await read(`${other}-2`, 1)).toEqual(whole);
    expect(() => restoreBackup(dir, makeDir())).toThrow("cannot be read");
    expect(await read(dir, 3)).toEqual(whole);
  });
});

/** Paths and contents of the pieces that count; what is set aside is not among them. */
function tree(dir: string): string {
  const paths = readdirSync(dir, { recursive: true }) as string[];
  return paths
    .filter((path) => path.endsWith(".db") && !path.startsWith("replaced-"))
    .map((path) => `${path}: ${readFileSync(join(dir, path), "utf8")}`)
    .toSorted()
    .join("\n");
}

function makeFiles(dir: string, label: string, count: number): void {
  for (const path of storeDirs(dir, count)) {
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "store.db"), label);
    mkdirSync(join(path, "plugins"));
    writeFileSync(join(path, "plugins", "own.db"), label);
  }
  if (count > 1) writeLayout(dir, count);
}

describe("cut off", () => {
  test.each([
    [1, 3],
    [3, 2],
    [3, 1],
  ])("from %i to %i processes: after each step the old or the new is there, whole", (from, to) => {
    const dir = makeDir();
    makeFiles(dir, "old", from);
    const old = tree(dir);
    makeFiles(join(dir, "spread.tmp"), "new", to);
    const start = `${dir}-start`;
    copyDir(dir, start);
    swap(dir);
    const now = tree(dir);
    expect(layoutOf(dir)).toBe(to);
    for (let steps = 1, isOver = false; !isOver; steps++) {
      const cut = `${dir}-${steps}`;
      copyDir(start, cut);
      const running = swapSteps(cut, join(cut, "replaced-now"));
      for (let done = 0; done < steps && !isOver; done++) isOver = running.next().done === true;
      const isNew = steps > 1;
      claimLayout(cut, isNew ? to : from);
      expect(tree(cut)).toBe(isNew ? now : old);
      if (isNew) expect(tree(join(cut, "replaced-now"))).toBe(old);
      expect(readdirSync(cut).filter((name) => name.startsWith("spread"))).toEqual([]);
      if (isOver) expect(steps).toBeGreaterThan(5);
    }
  });

  test("a command that is killed at any moment leaves one of the two, whole", async () => {
    const start = makeDir();
    await writeHistory(start, 4, 60);
    const log = new DirectLog(start);
    await recover(log);
    log.close();
    const whole = await read(start, 1);
    const main = join(import.meta.dir, "../../../src/main.ts");
    for (const waitMs of [5, 30, 0, 3, 6, 10, 15, 20, 40, 60, 80].slice(0, rounds(1, 2, 11))) {
      const dir = `${start}-${waitMs}`;
      copyDir(start, dir);
      const child = Bun.spawn([process.execPath, main, "store", "spread", "--workers", "3", "--data", dir]);
      const deadlineMs = performance.now() + 20_000;
      while (!existsSync(join(dir, "spread.tmp")) && child.exitCode === null && performance.now() < deadlineMs)
        await Bun.sleep(1);
      await Bun.sleep(waitMs);
      child.kill("SIGKILL");
      await child.exited;
      const count = existsSync(join(dir, "spread.json")) || layoutOf(dir) === 3 ? 3 : 1;
      claimLayout(dir, count);
      expect(await read(dir, count)).toEqual(whole);
      if (count === 1) spreadData(dir, 3);
      expect(await read(dir, 3)).toEqual(whole);
    }
  }, 60_000);
});

test("ranks are places in the ascending order", () => {
  const dice = new Random(5);
  const set = new IdSet();
  const ids = new Set<number>();
  for (let i = 0; i < 5000; i++) {
    const id = dice.below(4) === 0 ? dice.below(2 ** 30) * 4096 : dice.below(200_000);
    set.add(id);
    ids.add(id);
  }
  const sorted = [...ids].sort((a, b) => a - b);
  expect([...set.ids()]).toEqual(sorted);
  const ranks = new IdRanks(set);
  expect(ranks.count).toBe(sorted.length);
  expect(sorted.map((id) => ranks.rankOf(id))).toEqual(sorted.map((_, at) => at));
});
