import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { alarmSchema } from "#broker/alarm-schema.ts";
import { AlarmWatch, type Readings } from "#broker/alarm-watch.ts";
import { type Alarm, Alarms } from "#broker/alarms.ts";
import type { ListenerConfig } from "#broker/listener-schema.ts";
import { QueueWatch } from "#broker/queue-watch.ts";
import { TestBroker } from "#test/support/test-broker.ts";

const config = alarmSchema.parse({});
const fields = (id: string) => ({ id, severity: "warning", title: "t", summary: "s" }) as const;

describe("the table", () => {
  test("whatever happens, it holds what was set and not cleared, and a bounded history", () => {
    const step = fc.record({ isSet: fc.boolean(), id: fc.constantFrom("a", "b", "c", "d") });
    fc.assert(
      fc.property(fc.array(step), fc.integer({ min: 0, max: 3 }), (steps, historyCountMax) => {
        let nowMs = 0;
        const alarms = new Alarms({ activeCountMax: 3, historyCountMax, nowMs: () => ++nowMs });
        const told: Alarm[] = [];
        alarms.listen((alarm) => void told.push(alarm));
        const active = new Set<string>();
        const over: string[] = [];
        for (const { isSet, id } of steps) {
          const toldBefore = told.length;
          const changes = isSet ? !active.has(id) && active.size < 3 : active.has(id);
          if (isSet) expect(alarms.set(fields(id))).toBe(active.has(id) || active.size < 3);
          else alarms.clear(id);
          if (changes && isSet) active.add(id);
          if (changes && !isSet) {
            active.delete(id);
            over.unshift(id);
          }
          expect(told.length - toldBefore).toBe(changes ? 1 : 0);
          if (changes) expect(told.at(-1)!.clearedMs === undefined).toBe(isSet);
        }
        expect(alarms.active.map(({ id }) => id)).toEqual([...active]);
        expect(alarms.history.map(({ id }) => id)).toEqual(over.slice(0, historyCountMax));
        for (const { setMs, clearedMs } of alarms.history) expect(clearedMs!).toBeGreaterThan(setMs);
      }),
    );
  });

  test("a repeat brings the figures up to date and tells nobody; a change of severity does", () => {
    const alarms = new Alarms({ historyCountMax: 1, nowMs: () => 5 });
    let toldCount = 0;
    const off = alarms.listen(() => void toldCount++);
    alarms.set(fields("a"));
    alarms.set({ ...fields("a"), summary: "more" });
    expect(toldCount).toBe(1);
    expect(alarms.active).toEqual([{ ...fields("a"), summary: "more", setMs: 5 }]);
    alarms.set({ ...fields("a"), severity: "critical" });
    expect(toldCount).toBe(2);
    off();
    alarms.clear("a");
    expect(toldCount).toBe(2);
  });
});

describe("the broker as a whole", () => {
  const well: Readings = {
    nowMs: 0,
    lagMs: 0,
    memoryBytes: 10,
    memoryBytesMax: 100,
    connectionCount: 0,
    connectionsMax: 100,
    isStoreWritable: true,
    backends: [
      { name: "sql", health: { state: "up", counts: {} } },
      { name: "quiet", health: undefined },
    ],
  };

  function watch() {
    const alarms = new Alarms({ historyCountMax: 10, nowMs: () => 0 });
    const watch = new AlarmWatch(alarms, config);
    return { alarms, watch, after: (change: Partial<Readings>) => (watch.look({ ...well, ...change }), ids(alarms)) };
  }
  const ids = (alarms: Alarms): string[] => alarms.active.map(({ id, severity }) => `${id} ${severity}`);

  test("all is well: no alarm", () => expect(watch().after({})).toEqual([]));

  test("lag ends after 10 s without", () => {
    const { after } = watch();
    expect(after({ nowMs: 1000, lagMs: 240 })).toEqual(["event_loop_lag warning"]);
    expect(after({ nowMs: 10_900, lagMs: 239 })).toEqual(["event_loop_lag warning"]);
    expect(after({ nowMs: 11_000 })).toEqual([]);
  });

  test.each([
    ["memory_high", "memoryBytes"],
    ["descriptors_high", "connectionCount"],
  ] as const)("%s does not flicker around its mark", (id, key) => {
    const { after } = watch();
    expect(after({ [key]: 79 })).toEqual([]);
    expect(after({ [key]: 80 })).toEqual([`${id} warning`]);
    expect(after({ [key]: 76 })).toEqual([`${id} warning`]);
    expect(after({ [key]: 96 })).toEqual([`${id} critical`]);
    expect(after({ [key]: 74 })).toEqual([]);
    expect(after({ [key]: 76 })).toEqual([]);
  });

  test("the store and the backends, by name and with their reason", () => {
    const { alarms, after } = watch();
    const backends = [{ name: "sql", health: { state: "down", detail: "refused", counts: {} } }] as const;
    expect(after({ isStoreWritable: false, backends })).toEqual([
      "store_not_writable critical",
      "access_backend_down.sql error",
    ]);
    expect(alarms.active[1]!.summary).toBe("sql: refused");
    expect(after({ backends })).toEqual(["access_backend_down.sql error"]);
    expect(after({ backends: [] })).toEqual([]); // taken out of the configuration
  });

  test("certificates that end soon, or have ended, or are replaced", async () => {
    const { alarms, watch: certificates } = watch();
    const cert = join(import.meta.dir, "../transport/pem/server.pem");
    const { X509Certificate } = await import("node:crypto");
    const endMs = new X509Certificate(await Bun.file(cert).text()).validToDate.getTime();
    const DAY_MS = 86_400_000;
    const listeners = [{ cert, moreCertificates: [{ cert: "/none.pem", key: "" }] }] as unknown as ListenerConfig[];
    const at = async (wallMs: number, of = listeners) => (
      await certificates.lookAtCertificates(of, wallMs),
      ids(alarms)
    );
    expect(await at(endMs - 31 * DAY_MS)).toEqual([]);
    expect(await at(endMs - 29 * DAY_MS)).toEqual([`certificate_expiring.${cert} warning`]);
    expect(await at(endMs + 1)).toEqual([`certificate_expiring.${cert} critical`]);
    expect(await at(endMs + 1, [])).toEqual([]);
  });
});

describe("queues", () => {
  function withQueue(limits: { outboxCountMax?: number; outboxBytesMax?: number }) {
    const broker = new TestBroker({ limits: { session: limits } });
    const alarms = new Alarms({ historyCountMax: 10, nowMs: () => 0 });
    const watch = new QueueWatch(broker.engine, alarms, config);
    const sink = broker.open("a", { expirySec: 1000 });
    broker.subscribe(sink, "t", 1);
    broker.close(sink);
    const fill = (count: number, size = 10) => {
      for (let i = 0; i < count; i++) broker.publish("t", "x".repeat(size), { qos: 1 });
      watch.look();
      return alarms.active.map(({ id }) => id);
    };
    return { broker, alarms, watch, fill };
  }

  test("the alarm comes at the high mark, stays until the low one, and comes again", () => {
    const { broker, alarms, watch, fill } = withQueue({ outboxCountMax: 100 });
    expect(fill(59)).toEqual([]);
    expect(fill(1)).toEqual(["queue_high_watermark.a"]);
    expect(alarms.active[0]!.summary).toMatch(/^60 of 100 messages, \d+ of \d+ bytes wait for a$/);
    expect(fill(200)).toEqual(["queue_high_watermark.a"]); // full: the oldest are dropped
    const sink = broker.open("a", { expirySec: 1000 });
    broker.ackAll(sink);
    watch.look();
    expect(alarms.active).toEqual([]);
    expect(alarms.history.map(({ id }) => id)).toEqual(["queue_high_watermark.a"]);
    broker.close(sink);
    expect(fill(60)).toEqual(["queue_high_watermark.a"]);
  });

  test("by bytes as well", () => {
    const { fill } = withQueue({ outboxBytesMax: 10_000 });
    expect(fill(5, 1000)).toEqual([]);
    expect(fill(1, 1000)).toEqual(["queue_high_watermark.a"]);
  });

  test("a session that ends takes its alarm with it, whoever gets its number", () => {
    const { broker, alarms, watch, fill } = withQueue({ outboxCountMax: 100 });
    fill(60);
    broker.close(broker.open("a", { isCleanStart: true }));
    const b = broker.open("b", { expirySec: 1000 });
    broker.subscribe(b, "t", 1);
    broker.close(b);
    expect(fill(60)).toEqual(["queue_high_watermark.b"]);
    expect(alarms.history.map(({ id }) => id)).toEqual(["queue_high_watermark.a"]);
    watch.look();
    expect(alarms.active).toHaveLength(1);
  });

  test("what a restart brought back is found by the scan", () => {
    const { broker, alarms, fill } = withQueue({ outboxCountMax: 100 });
    fill(60);
    const later = new QueueWatch(broker.engine, alarms, config);
    alarms.clear("queue_high_watermark.a");
    later.look();
    expect(alarms.active).toEqual([]);
    later.scan();
    later.look();
    expect(alarms.active.map(({ id }) => id)).toEqual(["queue_high_watermark.a"]);
  });

  test("no more are noted than there is room for; the rest are counted", () => {
    const broker = new TestBroker({ limits: { session: { outboxCountMax: 1 } } });
    const alarms = new Alarms({ historyCountMax: 10, nowMs: () => 0 });
    const watch = new QueueWatch(broker.engine, alarms, config);
    for (let i = 0; i < 1200; i++) {
      const sink = broker.open(`c${i}`, { expirySec: 1000 });
      broker.subscribe(sink, "t", 1);
      broker.close(sink);
    }
    broker.publish("t", "x", { qos: 1 });
    watch.look();
    expect(alarms.active).toHaveLength(1000);
    expect(watch.overflowCount).toBe(200);
  });
});
