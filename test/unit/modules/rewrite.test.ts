import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { filterFor } from "#modules/client-filter.ts";
import { rewriteOptions } from "#modules/options.ts";
import { Rewriter } from "#modules/rewrite.ts";
import { topicMatcher } from "#plugins/plugin.ts";
import { matches } from "#test/support/topic-match.ts";

describe("rewriting", () => {
  test("the first rule whose filter fits is taken, then its first pattern that is found", () => {
    const { rewrite } = bound([
      {
        filter: "x/#",
        steps: [
          { pattern: "^x/y/(.+)$", to: "z/y/$1" },
          { pattern: "^x/(.+)$", to: "e/$1" },
        ],
      },
      { filter: "x/y/#", steps: [{ pattern: ".*", to: "never" }] },
      { filter: "y/+/z", steps: [{ pattern: "^y/([^/]+)/z$", to: "y/z/$1" }] },
    ]);
    expect(["x/y/2", "x/2", "x", "y/1/z", "y/1/2", "other"].map(rewrite)).toEqual([
      "z/y/2",
      "e/2",
      "x",
      "y/z/1",
      "y/1/2",
      "other",
    ]);
  });

  test("$1 to $9 fill from the groups; a group that is not there stays as it is written, one that matched nothing is empty", () => {
    const { rewrite } = bound([{ filter: "#", steps: [{ pattern: "^(a)/(b)?/(c)", to: "$3-$2-$1-$4-$" }] }]);
    expect(rewrite("a//c")).toBe("c--a-$4-$");
  });

  test("a filter is matched as if it were a topic", () => {
    const { rewrite } = bound([{ filter: "x/#", steps: [{ pattern: "^x/(.+)$", to: "z/$1" }] }]);
    expect(["x/#", "x/+/a", "+/x"].map(rewrite)).toEqual(["z/#", "z/+/a", "+/x"]);
  });

  test("a pattern that would hold a backtracking engine for ever does not", () => {
    const evil = ["^(a+)+$", "^(a|aa)+$", "^([a-z]+)*$", "(.*a){20}$"];
    const topic = `x/${"a".repeat(4000)}!`;
    for (const pattern of evil) {
      const { rewrite } = bound([{ filter: "#", steps: [{ pattern, to: "y" }] }]);
      expect(typeof rewrite(topic.slice(2))).toBe("string");
    }
  });

  test.each(["(a", "a**", "(?=a)", "(a)\\1", "[z-a]"])("a pattern that RE2 does not know is refused: %s", (pattern) => {
    const { error } = rewriteOptions.safeParse({ rules: [{ filter: "#", steps: [{ pattern, to: "y" }] }] });
    expect(error?.issues).toMatchObject([
      {
        path: ["rules", 0, "steps", 0, "pattern"],
        message: expect.stringMatching(/^a regular expression as RE2 reads it \(.+\)$/s),
      },
    ]);
  });

  test("what is remembered is bounded, and the answer the same", () => {
    const { rewrite } = bound([{ filter: "#", steps: [{ pattern: "^(.)(.*)$", to: "$2$1" }] }]);
    for (let round = 0; round < 2; round++) for (let i = 0; i < 5000; i++) expect(rewrite(`t${i}`)).toBe(`${i}t`);
  });
});

function bound(rules: ConstructorParameters<typeof Rewriter>[0]): { rewrite: (topic: string) => string } {
  const rewriter = new Rewriter(rules);
  return { rewrite: (topic) => rewriter.rewrite(topic) };
}

describe("filters with variables", () => {
  const client = { clientId: "c1", username: "ann" };

  test.each([
    ["$queue/clients/$c", "$queue/clients/c1"],
    ["users/$u/+", "users/ann/+"],
    ["a/$client", "a/$client"],
    ["a/x$c", "a/x$c"],
    ["a/%c/b-%u", "a/c1/b-ann"],
    ["$c", "c1"],
  ])("%s is %s", (filter, filled) => {
    expect(filterFor(filter, client)).toBe(filled);
  });

  test("a client gets nothing that its id or name would make wider, or that it has no name for", () => {
    for (const clientId of ["#", "+", "a/+", "a#"])
      expect(filterFor("clients/$c", { ...client, clientId })).toBeUndefined();
    expect(filterFor("users/%u", { clientId: "c", username: undefined })).toBeUndefined();
    expect(filterFor("users/%u", { clientId: "c", username: "" })).toBeUndefined();
    expect(filterFor("clients/$c", { clientId: "#", username: undefined })).toBeUndefined();
    expect(filterFor("plain/#", { clientId: "#", username: undefined })).toBe("plain/#");
  });

  test("whatever the id, the filter matches no more than with a harmless one", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 8 }), (clientId) => {
        const filled = filterFor("clients/$c/%c", { clientId, username: undefined });
        return filled === undefined || !/[+#]/.test(filled);
      }),
    );
  });
});

test("a compiled filter matches what the index matches", () => {
  const level = fc.constantFrom("a", "b", "", "$x", "aa");
  const topics = fc.array(level, { minLength: 1, maxLength: 4 }).map((levels) => levels.join("/"));
  const filters = fc
    .tuple(fc.array(fc.constantFrom("a", "b", "", "$x", "+"), { minLength: 1, maxLength: 3 }), fc.boolean())
    .map(([levels, isOpen]) => [...levels, ...(isOpen ? ["#"] : [])].join("/"));
  fc.assert(
    fc.property(fc.oneof(filters, fc.constant("#")), topics, (filter, topic) => {
      fc.pre(topic !== "" && filter !== "");
      return topicMatcher(filter)(topic) === matches(filter, topic);
    }),
    { numRuns: 2000 },
  );
});
