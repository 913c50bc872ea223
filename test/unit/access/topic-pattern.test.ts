import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isPatternMatch, parsePattern, patternFault, plainPattern } from "#access/topic-pattern.ts";

const matches = (pattern: string, effect: "allow" | "deny", wanted: string, values = {}): boolean =>
  isPatternMatch(parsePattern(pattern)!, effect, wanted, values);

test.each([
  ["a/b", ["a/b"], ["a", "a/b/c", "a/+", "a/#", "+/b", "#"]],
  ["a/+", ["a/b", "a/+", "a/"], ["a", "a/b/c", "a/#", "#"]],
  ["a/#", ["a", "a/b", "a/b/c", "a/#", "a/+/#", "a/+"], ["b", "+", "+/b", "#"]],
  ["#", ["a", "a/b", "#", "+/a", "+/#"], ["$SYS", "$SYS/#", "$x"]],
  ["+/x", ["a/x", "+/x"], ["$SYS/x", "#", "+/+"]],
  ["$SYS/#", ["$SYS/a", "$SYS/#", "$SYS"], ["#", "a"]],
  ["a/+/c", ["a/b/c", "a/+/c"], ["a/#", "a/b/+", "a/b/#"]],
])("allow %s covers what lies within it, wildcards included", (pattern, inside, outside) => {
  for (const wanted of inside) expect({ wanted, is: matches(pattern, "allow", wanted) }).toEqual({ wanted, is: true });
  for (const wanted of outside)
    expect({ wanted, is: matches(pattern, "allow", wanted) }).toEqual({ wanted, is: false });
});

test.each([
  ["a/b", ["a/b", "a/+", "+/b", "a/#", "#", "+/+", "a/b/#"], ["a", "a/c", "a/b/c", "+", "a/b/+"]],
  ["a/#", ["a", "#", "+", "a/b", "+/b", "a/+/c"], ["b", "b/#", "$SYS/#"]],
  ["$SYS/#", ["$SYS/a", "$SYS/+", "$SYS"], ["#", "+/a", "a"]],
  ["+/x", ["a/x", "+/+", "#", "a/#"], ["$SYS/x", "$SYS/#", "a/y"]],
])("deny %s touches whatever shares a topic with it", (pattern, touched, apart) => {
  for (const wanted of touched) expect({ wanted, is: matches(pattern, "deny", wanted) }).toEqual({ wanted, is: true });
  for (const wanted of apart) expect({ wanted, is: matches(pattern, "deny", wanted) }).toEqual({ wanted, is: false });
});

test("against a naive twin: covered means every topic is within, touched means one is", () => {
  const level = fc.constantFrom("a", "b", "+", "$x");
  const filter = fc
    .tuple(fc.array(level, { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([levels, isOpen]) => [...levels, ...(isOpen ? ["#"] : [])].join("/"));
  // Every topic of up to five levels over these words; "z" stands for any other word.
  const words = ["a", "b", "$x", "z"];
  let topics = words;
  for (let round = 0, last = words; round < 3; round++)
    topics = [...topics, ...(last = last.flatMap((t) => words.map((w) => `${t}/${w}`)))];
  const holds = (of: string, topic: string): boolean => {
    const [own, level] = [of.split("/"), topic.split("/")];
    if (topic.startsWith("$") && (own[0] === "+" || own[0] === "#")) return false;
    for (let at = 0; ; at++) {
      if (own[at] === "#") return true;
      if (at >= own.length || at >= level.length)
        return own.length === level.length || (at === level.length && own[at] === "#");
      if (own[at] !== "+" && own[at] !== level[at]) return false;
    }
  };
  fc.assert(
    fc.property(filter, filter, (rule, wanted) => {
      const within = topics.filter((topic) => holds(wanted, topic));
      const common = within.filter((topic) => holds(rule, topic));
      expect({ rule, wanted, is: matches(rule, "deny", wanted) }).toEqual({ rule, wanted, is: common.length > 0 });
      // A rule that covers says so unless it is merely covered by accident of the few words: never the other way round.
      if (matches(rule, "allow", wanted)) expect(common.length).toBe(within.length);
    }),
    { numRuns: 500 },
  );
});

describe("variables", () => {
  const values = { username: "u", clientid: "c" };

  test("stand for whole levels or parts of them", () => {
    expect(matches("x/%u/#", "allow", "x/u/y", values)).toBe(true);
    expect(matches("x/$u/#", "allow", "x/u/y", values)).toBe(true);
    expect(matches("x/dev-%c", "allow", "x/dev-c", values)).toBe(true);
    expect(matches("x/${clientid}", "allow", "x/c", values)).toBe(true);
    expect(matches("x/a$u", "allow", "x/a$u", values)).toBe(true);
  });

  test("a value with / + # or nothing allows nothing", () => {
    for (const username of ["#", "+", "a/b", "", "u\u0000", undefined, "/", "+/#"])
      for (const wanted of ["x/u", "x/#", "x/+", `x/${username}`, "x/a/b", "x/a/b/#", "#", "x"])
        expect({ username, wanted, is: matches("x/%u/#", "allow", wanted, { username }) }).toEqual({
          username,
          wanted,
          is: false,
        });
  });

  test("and denies everything from there on", () => {
    for (const username of ["#", "a/b", undefined]) {
      expect(matches("x/%u/z", "deny", "x/q", { username })).toBe(true);
      expect(matches("x/pre-%u", "deny", "x/y/z", { username })).toBe(true);
      expect(matches("x/%u", "deny", "y/q", { username })).toBe(false);
    }
  });
});

test("eq is the text itself", () => {
  const pattern = parsePattern("#", true)!;
  expect(isPatternMatch(pattern, "deny", "#", {})).toBe(true);
  expect(isPatternMatch(pattern, "deny", "a", {})).toBe(false);
  const own = parsePattern("a/%c/#", true)!;
  expect(isPatternMatch(own, "allow", "a/c/#", { clientid: "c" })).toBe(true);
  expect(isPatternMatch(own, "allow", "a/c/d", { clientid: "c" })).toBe(false);
  for (const clientid of ["+", "#", "c/d", ""]) {
    expect(isPatternMatch(own, "allow", `a/${clientid}/#`, { clientid })).toBe(false);
    expect(isPatternMatch(own, "deny", `a/${clientid}/#`, { clientid })).toBe(true);
  }
});

test("what is no filter is none, and says why", () => {
  for (const text of ["", "a#", "#/a", "a/#/b", "a+", "a/+b", "${x}", "a\u0000"]) {
    expect(parsePattern(text)).toBeUndefined();
    expect(patternFault(text)).toBeString();
  }
  expect(plainPattern("%u/$c")).toMatchObject({ levels: ["%u", "$c"] });
  expect(plainPattern("a#")).toBeUndefined();
});
