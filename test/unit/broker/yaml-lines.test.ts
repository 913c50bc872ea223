import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { findSyntaxError, readYamlLines } from "#broker/yaml-lines.ts";

const linesOf = (text: string) => Object.fromEntries(readYamlLines(text).lines);

describe("lines of a YAML text", () => {
  test("keys of nested mappings", () => {
    expect(linesOf("# head\na:\n  b: 1\n\n  'c': 2 # x\nd:\n    \"e\": {f: 1}\n")).toEqual({
      a: 2,
      "a.b": 3,
      "a.c": 5,
      d: 6,
      "d.e": 7,
    });
  });

  test("lists, indented and not, also of flow mappings", () => {
    const text =
      "l:\n- name: a\n  bind: x:1\n-\n  name: b\nm:\n  - { name: c,\n      bind: d }\n  - - 1\n    - 2\nn: 1\n";
    expect(linesOf(text)).toEqual({
      l: 1,
      "l.0": 2,
      "l.0.name": 2,
      "l.0.bind": 3,
      "l.1": 4,
      "l.1.name": 5,
      m: 6,
      "m.0": 7,
      "m.1": 9,
      "m.1.0": 9,
      "m.1.1": 10,
      n: 11,
    });
  });

  test("what spans lines holds no keys", () => {
    expect(
      linesOf(
        'a: |\n  x: 1\n  y: 2\nb: >-\n\n  z: 1\nc: "q\n  r: 1\\"\n  s: 1"\nd: [1,\n  e: 2] # ]\nf: it\'s\ng: 1\r\nh: 2',
      ),
    ).toEqual({
      a: 1,
      b: 4,
      c: 7,
      d: 10,
      f: 12,
      g: 13,
      h: 14,
    });
  });

  test("an equal key is found, the same name elsewhere is not", () => {
    const text = "a:\n  x: 1\nb:\n  x: 2\n  x: 3\na:\n  y: 1\nl:\n  - x: 1\n  - x: 2\n";
    expect(readYamlLines(text).duplicates).toEqual([
      { path: "b.x", line: 5, firstLine: 4 },
      { path: "a", line: 6, firstLine: 1 },
    ]);
  });

  test("any text is survived, and lines stay inside it", () => {
    const line = fc.string({
      unit: fc.constantFrom("a", "b", ":", " ", "-", "[", "}", "'", '"', "#", "|", "\t"),
      maxLength: 12,
    });
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
        for (const number of readYamlLines(lines.join("\n")).lines.values())
          expect(number >= 1 && number <= lines.length).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe("place of a syntax error", () => {
  test.each([
    ["a: 1\n b: 2\n", 2, 3],
    ["a: 1\nb:\n\tc: 1\nd: 2\n", 3, 1],
    ["ok: 1\nb: @x\nc: 1", 2, 4],
    ["session:\n  a: 1\n b: 2\n  c: 3\n", 3, 2],
    ["a: [::1]:1883\nb: 1\n", 1, 4],
  ])("%j: line %d, column %d", (text, line, column) => {
    expect(findSyntaxError(text, Bun.YAML.parse)).toEqual({ line, column });
  });
});
