/** Who holds what, with two processes at the same file. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Holders } from "#modules/holders-sqlite.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-holders-"));
afterAll(() => rmSync(folder, { recursive: true }));

function pair(name: string): [Holders, Holders] {
  const path = join(folder, name);
  return [new Holders(path, "full"), new Holders(path, "full")];
}

/** Wishes for filters as they are held now. */
const wishes = (holders: Holders, ...filters: string[]) =>
  filters.map((filter) => ({ filter, found: holders.find(filter) }));

test("of several who want the same at once, in one process or two, one gets it, and each filter by itself", async () => {
  const [a, b] = pair("race");
  const asked = [
    a.take(wishes(a, "t", "of a"), "a1"),
    a.take(wishes(a, "t"), "a2"),
    b.take(wishes(b, "t", "of b"), "b1"),
  ];
  const got = await Promise.all(asked);
  expect(got.filter(([hasTaken]) => hasTaken)).toHaveLength(1);
  expect([got[0]![1], got[2]![1]]).toEqual([true, true]);
  expect(a.find("t")).toEqual(b.find("t")!);
  expect([a.count, b.holdsAny("b1"), a.holdsAny("nobody")]).toEqual([3, true, false]);
  expect(a.page("of a", 10).map(({ filter }) => filter)).toEqual(["of b", "t"]);
});

test("who is found to have it no more loses it, unless he has claimed it again since", async () => {
  const [a, b] = pair("claim");
  await a.take(wishes(a, "t"), "first");
  const found = wishes(b, "t");
  await a.take(wishes(a, "t"), "first"); // again
  expect(await b.take(found, "second")).toEqual([false]);
  await b.dropFound(found[0]!.found!);
  expect(a.find("t")!.clientId).toBe("first");
  expect(await b.take(wishes(b, "t"), "second")).toEqual([true]);
  await a.drop("first", "t"); // too late
  expect(a.find("t")!.clientId).toBe("second");
  const [dropped, again] = [b.drop("second", "t"), b.take(wishes(b, "t"), "second")];
  await dropped;
  expect(await again).toEqual([true]);
  await b.dropAll("second");
  expect(a.count).toBe(0);
});

test("what was taken is there after the end of all processes, and a closed one changes nothing", async () => {
  const [a, b] = pair("kept");
  const taken = a.take(wishes(a, "t"), "first");
  a.close(); // what waits is written
  expect(await taken).toEqual([true]);
  b.close();
  const again = new Holders(join(folder, "kept"), "normal");
  expect(again.find("t")!.clientId).toBe("first");
  again.close();
});
