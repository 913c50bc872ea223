import { expect, test } from "bun:test";
import { Hooks } from "#core/hooks.ts";

test("listeners run in order of priority, then of arrival, until one answers false", () => {
  const { sessionEnded } = new Hooks();
  const calls: string[] = [];
  sessionEnded.add((id) => calls.push(`b${id}`));
  sessionEnded.add((id) => calls.push(`c${id}`));
  sessionEnded.add((id) => calls.push(`a${id}`), -5);
  const stop = sessionEnded.add(() => false, 10);
  sessionEnded.add(() => calls.push("after"), 11);
  expect(sessionEnded.run("1")).toBe(false);
  expect(calls).toEqual(["a1", "b1", "c1"]);
  stop();
  expect(sessionEnded.run("2")).toBe(true);
  expect(calls.slice(3)).toEqual(["a2", "b2", "c2", "after"]);
});

test("undefined, 0 and a promise are not false", () => {
  const { sessionEnded } = new Hooks();
  sessionEnded.add(() => undefined);
  sessionEnded.add(() => 0);
  sessionEnded.add(() => Promise.resolve(false));
  expect(sessionEnded.run("x")).toBe(true);
});

test("taking a listener off twice, or while the point runs, harms no other", () => {
  const { sessionEnded, sessionCreated } = new Hooks();
  const calls: string[] = [];
  const off = sessionEnded.add(() => {
    calls.push("first");
    off();
  });
  sessionEnded.add(() => calls.push("second"));
  sessionEnded.run("x");
  sessionEnded.run("x");
  off();
  expect(calls).toEqual(["first", "second", "second"]);
  expect([sessionEnded.isUsed, sessionCreated.isUsed]).toEqual([true, false]);
});
