/**
 * The tables of clauses are whole, and the tests of v5/ and v3/ keep what the tables promise.
 *
 * Each rule is also shown small sources and tables that must fail. The ids in them are put together, because the tidy
 * test lets no unknown id stand in square brackets.
 */
import { describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import { type Clause, clientOnly, covered, untestable } from "./clause.ts";
import { bySection, clauses3, clauses5, findGaps, tableProblems, titleIds } from "./clauses.ts";

const TESTS = resolve(import.meta.dir, "..");
const all = [...clauses5, ...clauses3];

/** Ids by the file that has them in a title. */
async function readTitles(): Promise<Map<string, string[]>> {
  const titles = new Map<string, string[]>();
  // Those of chapter 6 stand with the WebSocket listeners.
  for (const pattern of ["conformance/v{3,5}/**/*.test.ts", "unit/transport/*.test.ts", "e2e/listeners/*.test.ts"]) {
    for (const path of new Bun.Glob(pattern).scanSync({ cwd: TESTS })) {
      titles.set(path, titleIds(path, await Bun.file(`${TESTS}/${path}`).text()));
    }
  }
  return titles;
}

/** Fails with the ids by section: easier to read than a difference of lists. */
function expectNone(ids: readonly string[], what: string): void {
  if (ids.length > 0) throw new Error(`${ids.length} ${what}:\n${bySection(ids)}`);
}

describe("tables", () => {
  test("ids are well-formed, unique and in order, and every exception has its reason", () => {
    expect([...tableProblems(clauses5, "MQTT-"), ...tableProblems(clauses3, "MQTT3-")]).toEqual([]);
  });

  test("each appendix is there to the last statement", () => {
    const perChapter = (clauses: readonly Clause[]) => {
      const counts: Record<string, number> = {};
      for (const { id } of clauses) {
        const chapter = /-(\d)\./.exec(id)?.[1] ?? "";
        counts[chapter] = (counts[chapter] ?? 0) + 1;
      }
      return counts;
    };
    expect(clauses5).toHaveLength(251);
    expect(perChapter(clauses5)).toEqual({ 1: 5, 2: 7, 3: 175, 4: 60, 6: 4 });
    expect(clauses3).toHaveLength(141);
    expect(perChapter(clauses3)).toEqual({ 1: 3, 2: 9, 3: 95, 4: 26, 6: 4, 7: 4 });
  });

  test("a faulty table is noticed", () => {
    const says = (...clauses: Clause[]) =>
      tableProblems(clauses, "MQTT-").map((problem) => problem.replace(/^\S+ /, ""));
    expect(says(covered("MQTT-1.1.1-9", "a"), covered("MQTT-1.1.1-10", "b"), covered("MQTT-1.1.2-1", "c"))).toEqual([]);
    expect(says(covered("MQTT-1.1.1-1", "a"), covered("MQTT-1.1.1-1", "b"))).toEqual(["is repeated or out of order"]);
    expect(says(covered("MQTT-3.10.1-1", "a"), covered("MQTT-3.9.1-1", "b"))).toEqual(["is repeated or out of order"]);
    for (const id of ["MQTT3-1.1.1-1", "MQTT-1.1-1", "MQTT-1.1.1.1", "MQTT-1.1.1-0", "MQTT-1.1.1-1x"]) {
      expect(says(covered(id, "a"))).toEqual(["is not a well-formed id"]);
    }
    expect(says(covered("MQTT-1.1.1-1", "")).concat(says(covered("MQTT-1.1.1-1", "x".repeat(101))))).toHaveLength(2);
    expect(says(clientOnly("MQTT-1.1.1-1", "a", ""))).toEqual(["is client-only without a reason"]);
    expect(says({ id: "MQTT-1.1.1-1", says: "a", status: "untestable" })).toEqual(["is untestable without a reason"]);
    expect(says({ ...covered("MQTT-1.1.1-1", "a"), why: "b" })).toEqual(["is covered and needs no reason"]);
  });
});

describe("tests", async () => {
  const titles = await readTitles();
  const gaps = findGaps(all, [...titles.values()].flat());

  test("every covered clause has a test", () => {
    expectNone(gaps.missing, "covered clauses have no test");
  });

  test("titles name known clauses only", () => {
    const where = [...titles].flatMap(([path, ids]) => {
      return ids.filter((id) => gaps.unknown.includes(id)).map((id) => `${path}: ${id}`);
    });
    expect(where).toEqual([]);
  });

  test("no clause that is client-only or untestable has a test", () => {
    expectNone(gaps.wrongStatus, "clauses have a test and should be covered");
  });
});

describe("the scan", () => {
  const tag = (...ids: string[]) => ids.map((id) => `[${id}]`).join(" ");
  const a = tag("MQTT-1.1.1-1");
  const found = (text: string) => titleIds("planted.test.ts", text);

  test.each([
    `test("${a} says", () => {});`,
    `test('${a} says', async () => {});`,
    `test(\`${a} \${name}\`, () => {});`,
    `test(\n  "${a} says", // why\n  () => {},\n);`,
    `it("${a}", () => {});`,
    `test.serial("${a} says", () => {});`,
    `test.each([[1, ")("]])("${a} %s", () => {});`,
    `describe("${tag("MQTT-2.2.2-2")}", () => { for (const x of y) test(\`${a} \${x}\`, () => {}); });`,
    `const url = "mqtt://x"; test("${a} says", () => {}); // "`,
  ])("%s counts", (text) => {
    expect(found(text)).toEqual(["MQTT-1.1.1-1"]);
  });

  test.each([
    `// test("${a} says", () => {});`,
    `/* test("${a} says", () => {}); */`,
    `const text = 'test("${a} says", () => {})';`,
    `test.skip("${a} says", () => {});`,
    `test.todo("${a} says");`,
    `it.skip("${a} says", () => {});`,
    `test.skipIf(slow)("${a} says", () => {});`,
    `test.if(slow)("${a} says", () => {});`,
    `test.skip.each([1])("${a} says", () => {});`,
    `describe.skip("all", () => { test("${a} says", () => {}); });`,
    `describe.todo("all", () => { test("${a} says", () => {}); });`,
    `test("says ${a}", () => {});`,
    `expect("${a} says");`,
    `describe("${a} says", () => {});`,
  ])("%s does not count", (text) => {
    expect(found(text)).toEqual([]);
  });

  test("several ids in front, and ids that are none", () => {
    const several = tag("MQTT-1.1.1-1", "MQTT3-1.1.1-2");
    expect(found(`test("${several} says ${tag("MQTT-1.1.1-3")}", f);`)).toEqual(["MQTT-1.1.1-1", "MQTT3-1.1.1-2"]);
    expect(found(`test("${tag("MQTT 1.1", "MQTT-1.1.1-1, MQTT-1.1.1-2")} says", f);`)).toHaveLength(2);
    expect(() => found("test(")).toThrow("planted.test.ts");
  });

  test("gaps are found", () => {
    const table = [covered("A", "a"), covered("B", "b"), clientOnly("C", "c", "x"), untestable("D", "d", "x")];
    expect(findGaps(table, ["A", "B", "B"])).toEqual({ missing: [], unknown: [], wrongStatus: [] });
    expect(findGaps(table, ["B", "C", "D", "E"])).toEqual({ missing: ["A"], unknown: ["E"], wrongStatus: ["C", "D"] });
    expect(findGaps(all, []).missing).toHaveLength(all.filter(({ status }) => status === "covered").length);
  });

  test("the report is by section", () => {
    const ids = ["MQTT-3.1.2-1", "MQTT-3.1.2-14", "MQTT-3.10.1-1"];
    expect(bySection(ids)).toBe("MQTT-3.1.2    -1 -14\nMQTT-3.10.1   -1");
    expect(() => expectNone(ids, "are missing")).toThrow(`3 are missing:\n${bySection(ids)}`);
  });
});
