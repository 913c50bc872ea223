import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FairShare, type Sharer } from "#transport/fair-share.ts";
import { until } from "./until.ts";

/** A link whose bytes cost time of a clock that the test owns. */
class Link implements Sharer {
  readonly got: Buffer[] = [];
  isPaused = false;
  isWaiting = false;
  onShare: (bytes: Buffer) => void = () => {};

  constructor(
    private readonly bench: Bench,
    private readonly nsPerByte = 1000,
  ) {}

  send(chunk: Buffer): void {
    const { share } = this.bench;
    if (this.isWaiting || share.isMuch(this, chunk.length)) share.take(this, chunk);
    else this.handleShare(chunk);
  }

  handleShare(bytes: Buffer): void {
    this.got.push(Buffer.from(bytes));
    this.bench.nowMs += (bytes.length * this.nsPerByte) / 1e6;
    this.onShare(bytes);
  }

  setWaiting(isWaiting: boolean): void {
    this.isWaiting = isWaiting;
  }

  get bytes() {
    return Buffer.concat(this.got) as Buffer;
  }
}

class Bench {
  nowMs = 0;
  readonly bugs: unknown[] = [];
  readonly share = new FairShare(
    (bug) => this.bugs.push(bug),
    () => {},
    () => this.nowMs,
  );
}

const KIB = 1024;
const filled = (size: number, start = 0): Buffer =>
  Buffer.from(Array.from({ length: size }, (_, i) => (start + i) % 251));

describe("a link that sends", () => {
  test("little is handled at once", () => {
    const bench = new Bench();
    const links = [new Link(bench), new Link(bench)];
    for (let i = 0; i < 50; i++) for (const link of links) link.send(filled(KIB));
    expect(links.map(({ bytes }) => bytes.length)).toEqual([50 * KIB, 50 * KIB]);
    expect(links.some(({ isWaiting }) => isWaiting)).toBe(false);
  });

  test("much at little cost is handled at once, in few pieces", () => {
    const bench = new Bench();
    const link = new Link(bench, 0.5);
    link.send(filled(512 * KIB));
    expect(link.isWaiting).toBe(false);
    expect(link.got.length).toBeLessThan(5);
  });

  test("much at great cost is not read until its turns have come, and others come in between", async () => {
    const bench = new Bench();
    const [much, little] = [new Link(bench), new Link(bench)];
    const whole = filled(100 * KIB);
    much.send(whole);
    expect(much.isWaiting).toBe(true);
    expect(bench.nowMs).toBeGreaterThan(0.9);
    const handled = much.bytes.length;
    expect(handled).toBeLessThan(whole.length);
    little.send(filled(10));
    expect(little.bytes.length).toBe(10);
    await until(() => !much.isWaiting);
    expect(much.bytes.equals(whole)).toBe(true);
    expect(much.got.length).toBeGreaterThan(100); // a microsecond a byte
  });

  test("dear bytes among many cheap ones stays known for it", async () => {
    const bench = new Bench();
    const [dear, cheap] = [new Link(bench, 1000), new Link(bench, 5)];
    dear.send(filled(64 * KIB));
    await until(() => !dear.isWaiting);
    for (let i = 0; i < 100; i++) {
      cheap.send(filled(64 * KIB));
      await until(() => !cheap.isWaiting);
    }
    const startMs = bench.nowMs;
    dear.send(filled(64 * KIB));
    expect(bench.nowMs - startMs).toBeLessThan(5); // by what the others' bytes cost it would be all of the 64 ms
    await until(() => !dear.isWaiting);
    expect(dear.bytes.length).toBe(128 * KIB);
  });

  test("much beside others that do shares the turns with them", async () => {
    const bench = new Bench();
    const links = Array.from({ length: 4 }, () => new Link(bench));
    for (const link of links) link.send(filled(64 * KIB));
    await until(() => links.some(({ isWaiting }) => !isWaiting));
    for (const { bytes } of links) expect(bytes.length).toBeGreaterThan(56 * KIB);
    await until(() => links.every(({ isWaiting }) => !isWaiting));
    for (const { bytes } of links) expect(bytes.equals(filled(64 * KIB))).toBe(true);
  });
});

describe("a link that has used up the turn", () => {
  test("is not read until a later turn, though nothing of it waits", async () => {
    const bench = new Bench();
    const [first, second, third] = [new Link(bench, 20), new Link(bench, 20), new Link(bench, 20)];
    for (const link of [first, second, third]) link.send(filled(60 * KIB)); // a good millisecond each
    for (const { bytes } of [first, second, third]) expect(bytes.length).toBe(60 * KIB);
    expect([first, second, third].map(({ isWaiting }) => isWaiting)).toEqual([true, true, true]);
    const turns: boolean[][] = [];
    for (let i = 0; i < 3; i++) {
      await new Promise(setImmediate);
      turns.push([first, second, third].map(({ isWaiting }) => isWaiting));
    }
    expect(turns).toEqual([
      [false, true, true],
      [false, false, true],
      [false, false, false],
    ]);
  });

  test("is forgotten when it closes", async () => {
    const bench = new Bench();
    const [first, second] = [new Link(bench, 20), new Link(bench, 20)];
    for (const link of [first, second]) link.send(filled(60 * KIB));
    expect(second.isWaiting).toBe(true);
    bench.share.withdraw(second);
    for (let i = 0; i < 5; i++) await new Promise(setImmediate);
    expect(second.isWaiting).toBe(true); // nobody has told it anything
  });
});

describe("what waits", () => {
  test("keeps its order with what comes later, in whatever pieces it comes", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 40 * KIB }), { maxLength: 12 }), async (sizes) => {
        const bench = new Bench();
        const link = new Link(bench);
        const whole = filled(sizes.reduce((sum, size) => sum + size, 0));
        let at = 0;
        for (const size of sizes) {
          link.send(whole.subarray(at, at + size));
          at += size;
          if (size % 3 === 0) await new Promise(setImmediate);
        }
        await until(() => !link.isWaiting);
        expect(link.bytes.equals(whole)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test("of a link that takes no input stays until it does; others go on", async () => {
    const bench = new Bench();
    const [first, second] = [new Link(bench), new Link(bench)];
    for (const link of [first, second]) link.send(filled(64 * KIB));
    first.isPaused = true;
    const { length } = first.bytes;
    await until(() => !second.isWaiting);
    expect(first.bytes.length).toBe(length);
    first.isPaused = false;
    bench.share.resume();
    await until(() => !first.isWaiting);
    expect(first.bytes.equals(filled(64 * KIB))).toBe(true);
  });

  test("of a link that closes is handed back and handled no more", async () => {
    const bench = new Bench();
    const link = new Link(bench);
    link.send(filled(64 * KIB));
    const { length } = link.bytes;
    expect(Buffer.concat(bench.share.withdraw(link)).equals(filled(64 * KIB).subarray(length))).toBe(true);
    for (let i = 0; i < 5; i++) await new Promise(setImmediate);
    expect(link.bytes.length).toBe(length);
    expect(bench.share.withdraw(link)).toEqual([]);
  });

  test("of one whose handler throws does not keep the others waiting", async () => {
    const bench = new Bench();
    const [broken, sound] = [new Link(bench), new Link(bench)];
    for (const link of [broken, sound]) link.send(filled(64 * KIB));
    broken.onShare = () => {
      bench.share.withdraw(broken); // as a link does that closes
      throw new Error("planted");
    };
    await until(() => !sound.isWaiting);
    expect(sound.bytes.equals(filled(64 * KIB))).toBe(true);
    expect(bench.bugs).toHaveLength(1);
  });

  test("beyond its bound is handled at once, whatever it takes", () => {
    const bench = new Bench();
    const links = Array.from({ length: 300 }, () => new Link(bench));
    const chunk = Buffer.alloc(512 * KIB);
    for (const link of links) link.send(chunk);
    expect(links.filter(({ isWaiting }) => isWaiting).length).toBeWithin(256, 260);
    expect(links.at(-1)!.bytes.length).toBe(chunk.length);
  });
});
