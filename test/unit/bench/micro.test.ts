/** Every micro bench still runs: its bodies are called twice at small sizes and nothing is timed. */
import { describe, expect, test } from "bun:test";
import { Smoke } from "#bench/micro/recorder.ts";
import { suites } from "#bench/micro/suites.ts";

describe("micro benches", () => {
  test.each(Object.keys(suites))("%s", async (name) => {
    const recorder = new Smoke(name);
    await (await suites[name]()).run(recorder);
    const names = recorder.rows.map((row) => row.name);
    expect(names.length).toBeGreaterThan(0);
    expect(new Set(names).size).toBe(names.length); // the two passes are joined by name
  });

  test("a body that returns nothing could be optimized away, and is refused", async () => {
    await expect(new Smoke("x").time("empty", 1, () => {})).rejects.toThrow("returns nothing");
  });
});
