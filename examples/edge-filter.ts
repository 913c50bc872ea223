/**
 * A filter at the edge: sensors send all they have, and only what has changed goes on.
 *
 *   raw/boiler/temperature 21.50 21.51 21.52 22.10 ─► clean/boiler/temperature 21.50 22.10
 *
 *   bun examples/edge-filter.ts
 */
import { Broker } from "mantou";

export interface Filtering {
  /** A value goes on when it differs from the last one that did by this much. */
  readonly deltaMin: number;
  /** Or when that was so long ago. */
  readonly silenceMsMax: number;
  readonly nowMs?: () => number;
}

/** Topics that are remembered; the one heard of longest ago is forgotten first, and its next value goes on. */
const TOPICS_MAX = 10_000;

/** Returns what ends it. */
export function filterEdge(broker: Broker, { deltaMin, silenceMsMax, nowMs = Date.now }: Filtering): () => void {
  const last = new Map<string, { value: number; atMs: number }>();
  return broker.subscribe("raw/#", ({ topic, payload }) => {
    const value = Number.parseFloat(payload.toString());
    if (Number.isNaN(value)) return;
    const before = last.get(topic);
    const isNews = !before || Math.abs(value - before.value) >= deltaMin || nowMs() - before.atMs >= silenceMsMax;
    last.delete(topic); // so that it becomes the youngest
    last.set(topic, isNews ? { value, atMs: nowMs() } : before!);
    if (last.size > TOPICS_MAX) last.delete(last.keys().next().value!);
    if (isNews) broker.publish(topic.replace(/^raw/, "clean"), payload, { qos: 1, isRetain: true });
  });
}

if (import.meta.main) {
  const broker = await Broker.start({
    listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:1883" }],
    node: { data: "./edge-data" },
    log: { level: "info" },
  });
  filterEdge(broker, { deltaMin: 0.5, silenceMsMax: 60_000 });
  process.once("SIGINT", () => void broker.close());
}
