import { describe, expect, test } from "bun:test";
import { checkTemplate, fill, splitBrokers, splitWords } from "#bench/compare/command-template.ts";

describe("words", () => {
  const cases: [string, string[]][] = [
    ["broker --port 1", ["broker", "--port", "1"]],
    ["  a \t b  ", ["a", "b"]],
    [`a 'b c' "d e"`, ["a", "b c", "d e"]],
    [`a "say \\"x\\"" 'no \\ escape'`, ["a", `say "x"`, "no \\ escape"]],
    ["a\\ b c", ["a b", "c"]],
    [`--x=''`, ["--x="]],
    [`'' b`, ["", "b"]],
    [`$(rm) ; a|b`, ["$(rm)", ";", "a|b"]],
  ];
  test.each(cases)("%s", (text, words) => {
    expect(splitWords(text)).toEqual(words);
  });

  test("an open quote is an error", () => {
    expect(() => splitWords("a 'b")).toThrow("is not closed");
  });
});

describe("templates", () => {
  test("places are filled in wherever they stand, values are never split or filled again", () => {
    const words = checkTemplate("run --listen=127.0.0.1:{port} {dir}/conf '{nodelay}' {port}");
    expect(fill(words, { port: 42, dir: "/tmp/a b{port}", nodelay: true })).toEqual([
      "run",
      "--listen=127.0.0.1:42",
      "/tmp/a b{port}/conf",
      "true",
      "42",
    ]);
  });

  test("what could not work is said before anything starts", () => {
    expect(() => checkTemplate("broker")).toThrow("{port} must say");
    expect(() => checkTemplate("broker {port} {prot}")).toThrow("{prot} is not");
    expect(() => checkTemplate(" ")).toThrow("empty");
  });
});

describe("lists of brokers", () => {
  const known = ["mantou", "mosquitto"];

  test("known names and commands; a comma inside a command stays in it", () => {
    expect(splitBrokers("mantou, mosquitto,x=run a,b {port},y=other", known)).toEqual([
      { name: "mantou" },
      { name: "mosquitto" },
      { name: "x", command: "run a,b {port}" },
      { name: "y", command: "other" },
    ]);
  });

  test("only the first = divides", () => {
    expect(splitBrokers("x=run --port={port}", known)).toEqual([{ name: "x", command: "run --port={port}" }]);
  });

  test("an unknown name is an error", () => {
    expect(() => splitBrokers("emqx", known)).toThrow("neither mantou, mosquitto nor NAME=COMMAND");
    expect(() => splitBrokers("mantou,emqx", known)).toThrow("emqx");
  });
});
