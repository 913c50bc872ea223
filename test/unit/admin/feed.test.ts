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
  const [plain, tracing] = [feed.open(), feed.open("t")];
  const isOver = ({ event, data }: Told): boolean => event === "trace" && data["isOver"] === true;
  const [all] = await Promise.all([until(tracing, isOver), until(plain, ({ event }) => event === "alarm")]);
  expect(all.filter(({ event }) => event === "trace").map(({ data }) => data)).toEqual([
    { name: "t", events: [{ n: 1 }, { n: 2 }] },
    { name: "t", isOver: true },
  ]);
  expect(all.filter(({ event }) => event === "alarm").map(({ data }) => data["id"])).toEqual(["lag"]);
  const looks = asked.filter((name) => name === "overview.read").length;
  expect(asked.filter((name) => name === "traces.read").length).toBeLessThanOrEqual(looks);
  await Bun.sleep(1200); // nobody listens any more
  expect(asked.filter((name) => name === "overview.read")).toHaveLength(looks);
  feed.stop();
});
