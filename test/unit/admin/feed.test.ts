/** The live feed: one question a second whoever listens, and what changes is told once. */
import { expect, test } from "bun:test";
import { Feed } from "#admin/feed.ts";
import { MantouError } from "#base/error.ts";
import type { Control } from "#broker/control.ts";

interface Told {
  readonly event: string;
  readonly data: Record<string, unknown>;
}

/** Reads events until one is as it should be. */
async function until(stream: ReadableStream<string>, isLast: (told: Told) => boolean): Promise<Told[]> {
  const told: Told[] = [];
  let text = "";
  for await (const chunk of stream) {
    text += chunk;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const [, event, data] = /^event: (\w+)\ndata: (.*)$/s.exec(text.slice(0, end)) ?? [];
      text = text.slice(end + 2);
      if (event === undefined) continue;
      told.push({ event, data: JSON.parse(data!) });
      if (isLast(told.at(-1)!)) return told;
    }
  }
  return told;
}

test("alarms are told when they change, traces until they are over, and the broker is asked once for all", async () => {
  const asked: string[] = [];
  const batches = [[{ n: 1 }, { n: 2 }], [], undefined];
  let isSet = false;
  const control = (async (name: string) => {
    asked.push(name);
    if (name === "overview.read") return { nowMs: asked.length };
    if (name === "alarms.list") {
      const alarm = { id: "lag", severity: "warning", setMs: 5 };
      const active = isSet ? [alarm] : [];
      isSet = true;
      return { active, history: [] };
    }
    const events = batches.shift();
    if (!events) throw new MantouError("not_found", "trace");
    return { events };
  }) as unknown as Control;
  const feed = new Feed(control, (error) => {
    throw error;
  });
  const [plain, tracing] = [feed.open(), feed.open({ trace: "t" })];
  const isOver = ({ event, data }: Told): boolean => event === "trace" && data["isOver"] === true;
  const [all] = await Promise.all([until(tracing, isOver), until(plain, ({ event }) => event === "alarm")]);
  expect(all.filter(({ event }) => event === "trace").map(({ data }) => data)).toEqual([
    { name: "t", events: [{ n: 1 }, { n: 2 }] },
    { name: "t", isOver: true },
  ]);
  expect(all.filter(({ event }) => event === "alarm").map(({ data }) => data["id"])).toEqual(["lag"]);
  const count = (name: string): number => asked.filter((each) => each === name).length;
  expect(count("traces.read")).toBeLessThanOrEqual(count("overview.read"));
  const [looks, others] = [count("overview.read"), asked.length - count("overview.read")];
  // Nobody listens any more: figures alone are asked for, to be kept.
  while (count("overview.read") < looks + 1) await Bun.sleep(100);
  expect(asked.length - count("overview.read")).toBe(others);
  feed.stop();
}, 60_000);

test("who asks for what was gets the overviews that are kept, five seconds apart, in order, before the first new one", async () => {
  let nowMs = 0;
  const control = (async (name: string) =>
    name === "overview.read" ? { nowMs: (nowMs += 2500) } : { active: [], history: [] }) as unknown as Control;
  const feed = new Feed(control, (error) => {
    throw error;
  });
  await until(feed.open(), ({ data }) => data["nowMs"] === 12_500);
  const told = await until(feed.open({ sinceMs: 2500 }), ({ event }) => event === "overview");
  expect(told[0]!.event).toBe("history");
  expect([told[0]!.data].flat()).toEqual([{ nowMs: 7500 }, { nowMs: 12_500 }]);
  expect(told[1]!.event).toBe("overview");
  const all = await until(feed.open({ sinceMs: 0 }), () => true);
  expect([all[0]!.data].flat()).toContainEqual({ nowMs: 2500 });
  feed.stop();
}, 60_000);
