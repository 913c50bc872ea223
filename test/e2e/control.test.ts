// What may be asked of a running broker, asked of one process and of two as if they were one.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Control, operations, spreadControl } from "#broker/control.ts";
import { awayFault } from "#broker/operation.ts";
import { type BrokerInProcess, startInProcess as startAsShipped } from "./broker-in-process.ts";

setDefaultTimeout(60_000);

/** Without what modules publish. */
const startInProcess = () => startAsShipped(["modules.sys.intervalSec=0", "modules.presence.enabled=false"]);

const homeOf = (clientId: string): number => (clientId.charCodeAt(clientId.length - 1) % 2 === 0 ? 0 : 1);

/** Two brokers, each with the clients that are its own, behind one control over a channel of text. */
async function startPair(): Promise<AsyncDisposable & { sites: [BrokerInProcess, BrokerInProcess]; control: Control }> {
  const sites: [BrokerInProcess, BrokerInProcess] = [await startInProcess(), await startInProcess()];
  const overText = (site: BrokerInProcess): Control =>
    (async (name: never, params: never) => {
      const asked = JSON.parse(JSON.stringify({ name, params }));
      return JSON.parse(JSON.stringify(await site.broker.control(asked.name as never, asked.params as never)));
    }) as unknown as Control;
  return {
    sites,
    control: spreadControl(sites.map(overText), homeOf),
    async [Symbol.asyncDispose]() {
      for (const site of sites) await site[Symbol.asyncDispose]();
    },
  };
}

async function walkAll<T>(
  page: (cursor?: string) => Promise<{ items: T[]; cursor?: string | undefined }>,
): Promise<T[]> {
  const all: T[] = [];
  let cursor: string | undefined;
  do {
    const next = await page(cursor);
    all.push(...next.items);
    cursor = next.cursor;
  } while (cursor !== undefined);
  return all;
}

describe("one process", () => {
  test("a connected client is shown as it came in, and is gone when it is kicked", async () => {
    await using site = await startInProcess();
    const { control } = site.broker;
    const nowSec = Math.floor(Date.now() / 1000);
    const client = await site.harness.connect({
      clientId: "lamp-7",
      keepAliveSec: 30,
      cleanStart: false,
      username: "ann",
    });
    await client.subscribe("a/+", { qos: 1 });
    const shown = await control("clients.show", { clientId: "lamp-7" });
    expect(shown).toMatchObject({
      clientId: "lamp-7",
      username: "ann",
      address: "127.0.0.1",
      version: 5,
      listener: "tcp",
      keepAliveSec: 30,
      isCleanStart: false,
      subscriptionCount: 1,
    });
    expect(Math.abs(shown.connectedAtSec - nowSec)).toBeLessThan(30);
    expect(await control("clients.kick", { clientId: "lamp-7" })).toEqual({ count: 1 });
    await client.expect("disconnect", { reasonCode: 0x98 });
    expect(control("clients.show", { clientId: "lamp-7" })).rejects.toMatchObject({ code: "not_found" });
  });

  test("filters of clients are conditions that must all hold", async () => {
    await using site = await startInProcess();
    const { control } = site.broker;
    for (const clientId of ["a-1", "a-2", "b-1"])
      await site.harness.connect({ clientId, version: clientId === "a-2" ? 4 : 5 });
    const ids = async (params: Parameters<typeof control<"clients.list">>[1]) =>
      (await control("clients.list", params)).items.map(({ clientId }) => clientId).toSorted();
    expect(await ids({})).toEqual(["a-1", "a-2", "b-1"]);
    expect(await ids({ clientIdPrefix: "a-" })).toEqual(["a-1", "a-2"]);
    expect(await ids({ clientIdContains: "-1", version: 5 })).toEqual(["a-1", "b-1"]);
    expect(await ids({ username: "nobody" })).toEqual([]);
    expect(await ids({ connectedBeforeSec: 1 })).toEqual([]);
    expect(await control("clients.kickWhere", {})).toEqual({ count: 0 });
    expect(await control("clients.kickWhere", { clientIdPrefix: "a-" })).toEqual({ count: 2 });
    expect(await ids({})).toEqual(["b-1"]);
  });

  test("a session of an absent client holds its queue, and ends with all of it", async () => {
    await using site = await startInProcess();
    const { control } = site.broker;
    const client = await site.harness.connect({ clientId: "away", properties: [["sessionExpiryIntervalSec", 1000]] });
    await client.subscribe("q/#", { qos: 1 });
    client.kill();
    await until(async () => !(await control("sessions.show", { clientId: "away" })).isConnected);
    for (const payload of ["1", "22", "333"]) await control("publish", { topic: "q/x", payload, qos: 1 });
    const session = await control("sessions.show", { clientId: "away" });
    expect(session).toMatchObject({ expirySec: 1000, queuedCount: 3, subscriptionCount: 1 });
    expect((await control("sessions.list", { isConnected: "false", queuedCountMin: "3" })).items).toHaveLength(1);
    expect((await control("sessions.list", { queuedCountMin: 4 })).items).toEqual([]);
    expect((await control("stats.read", {})).sessions).toEqual({ value: 1, max: 1 });
    expect(await control("sessions.end", { clientId: "away" })).toEqual({ count: 1 });
    expect((await control("stats.read", {})).sessions).toEqual({ value: 0, max: 1 });
    expect((await control("topics.list", {})).items).toEqual([]);
  });

  test("subscriptions are made and taken away on behalf of a client, and topics follow", async () => {
    await using site = await startInProcess();
    const { control } = site.broker;
    const client = await site.harness.connect({ clientId: "c" });
    const filters = ["exact/topic", "wild/+/x", "wild/#", "$share/g/s/1"];
    const wish = { clientId: "c", subscriptions: [...filters, "bad/#/x"].map((filter) => ({ filter, qos: 1 })) };
    const { results } = await control("clients.subscribe", wish);
    expect(results.map(({ reasonCode }) => reasonCode)).toEqual([1, 1, 1, 1, 0x8f]);
    const rows = (await control("subscriptions.of", { clientId: "c" })).items;
    expect(rows.map(({ filter }) => filter).toSorted()).toEqual(filters.toSorted());
    expect((await control("subscriptions.list", { filterContains: "wild" })).items).toHaveLength(2);
    const topics = (await control("topics.list", {})).items.map(({ filter }) => filter).toSorted();
    expect(topics).toEqual(["exact/topic", "s/1", "wild/#", "wild/+/x"]);
    await control("publish", {
      topic: "exact/topic",
      payload: Buffer.from("hi").toString("base64"),
      payloadEncoding: "base64",
    });
    await client.expect("publish", { topic: "exact/topic", payload: "hi" });
    const taken = await control("clients.unsubscribe", { clientId: "c", filters: ["wild/#", "never"] });
    expect(taken.results.map(({ reasonCode }) => reasonCode)).toEqual([0, 0x11]);
    expect((await control("topics.list", {})).items.map(({ filter }) => filter)).not.toContain("wild/#");
  });

  test("retained messages are listed, read and forgotten", async () => {
    await using site = await startInProcess();
    const { control } = site.broker;
    const topics = ["site/1/t", "site/2/t", "site/2/h", "$own/x"];
    const messages = topics.map((topic) => ({ topic, payload: "\u00e9", isRetain: true }));
    await control("publish.bulk", {
      messages: [...messages, { topic: "bin", payload: "/w==", payloadEncoding: "base64", isRetain: true }],
    });
    const list = async (filter?: string) =>
      (await control("retained.list", filter === undefined ? {} : { filter })).items
        .map(({ topic }) => topic)
        .toSorted();
    expect(await list()).toEqual([...topics, "bin"].toSorted());
    expect(await list("#")).toEqual(["bin", "site/1/t", "site/2/h", "site/2/t"]);
    expect(await list("site/+/t")).toEqual(["site/1/t", "site/2/t"]);
    expect(await list("$own/#")).toEqual(["$own/x"]);
    expect(await control("retained.read", { topic: "site/1/t" })).toMatchObject({
      payload: "\u00e9",
      payloadEncoding: "utf8",
      payloadBytes: 2,
    });
    expect(await control("retained.read", { topic: "bin" })).toMatchObject({
      payload: "/w==",
      payloadEncoding: "base64",
    });
    expect(await control("retained.delete", { topic: "bin" })).toEqual({ count: 1 });
    expect(await control("retained.delete", { topic: "bin" })).toEqual({ count: 0 });
    expect(control("retained.read", { topic: "bin" })).rejects.toMatchObject({ code: "not_found" });
    expect(control("retained.list", { filter: "a/#/b" })).rejects.toMatchObject({ code: "filter_invalid" });
  });

  test("what cannot be published is refused by itself", async () => {
    await using site = await startInProcess();
    const { control } = site.broker;
    const { results } = await control("publish.bulk", {
      messages: [{ topic: "a/+" }, { topic: "ok" }, { topic: "x", qos: 2 }],
    });
    expect(results).toEqual([
      expect.objectContaining({ error: "topic_invalid" }),
      { reachedCount: 0 },
      { reachedCount: 0 },
    ]);
    expect(control("publish", { topic: "x", qos: 3 })).rejects.toMatchObject({ code: "params_invalid" });
  });

  test("a listener is stopped and started; its clients stay", async () => {
    await using site = await startInProcess();
    const { control } = site.broker;
    const client = await site.harness.connect({ clientId: "stays" });
    await control("listeners.stop", { name: "tcp" });
    expect(await control("listeners.list", {})).toMatchObject([{ name: "tcp", isOpen: false, connectionCount: 1 }]);
    client.send({ type: "pingreq" });
    await client.expect("pingresp");
    await control("listeners.start", { name: "tcp" });
    expect(await control("listeners.list", {})).toMatchObject([{ name: "tcp", isOpen: true, connectionCount: 1 }]);
    expect(control("listeners.stop", { name: "other" })).rejects.toMatchObject({ code: "not_found" });
  });

  test("some values change while the broker runs, all of a wish or none of it", async () => {
    await using site = await startInProcess();
    const { control } = site.broker;
    const inEffect = async (path: string) => (await control("config.show", {})).find((row) => row.path === path);
    expect(
      control("config.set", { values: { "session.inflightCountMax": 7, "mqtt.qosMax": 9 } }),
    ).rejects.toMatchObject({ code: "config_invalid" });
    expect((await inEffect("session.inflightCountMax"))?.value).toBe(1024);
    await control("config.set", { values: { "session.inflightCountMax": 7, "log.level": "warn" } });
    expect(await inEffect("session.inflightCountMax")).toEqual({
      path: "session.inflightCountMax",
      value: 7,
      origin: "changed while running",
      isLive: true,
      isReloaded: true,
    });
    expect(site.engine.limits.session.inflightCountMax).toBe(7);
    for (const path of ["store.type", "mqtt.packetBytesMax", "session.no", "__proto__.x", "session"])
      expect(control("config.set", { values: { [path]: 1 } })).rejects.toMatchObject({ code: "config_invalid" });
    expect(control("config.set", { values: { "no.such": 1 } })).rejects.toThrow(
      /^no\.such: .*a key of the configuration/,
    );
    expect((await control("config.check", { text: "mqtt:\n  qosMax: 7\n" })).problems).toEqual([
      expect.stringContaining("mqtt.qosMax: found 7"),
    ]);
    expect((await control("config.check", { text: "mqtt: { qosMax: 1 }" })).problems).toEqual([]);
  });
});

describe("two processes as one", () => {
  test("lists go through both, page by page, and say everything once", async () => {
    await using pair = await startPair();
    const { sites, control } = pair;
    const ids = Array.from({ length: 23 }, (_, i) => `client-${i}`);
    for (const clientId of ids) await sites[homeOf(clientId)].harness.connect({ clientId });
    for (const limit of [1, 5, 11, 12, 23, 100]) {
      const rows = await walkAll((cursor) =>
        control("clients.list", { limit, ...(cursor !== undefined && { cursor }) }),
      );
      expect(rows.map(({ clientId }) => clientId).toSorted()).toEqual(ids.toSorted());
    }
    expect((await control("clients.show", { clientId: "client-4" })).clientId).toBe("client-4");
    expect((await control("stats.read", {})).sessions.value).toBe(23);
    expect((await control("broker.info", {})).processes).toHaveLength(2);
    expect((await control("listeners.list", {}))[0].connectionCount).toBe(23);
    expect(await control("clients.kickWhere", { clientIdPrefix: "client-1" })).toEqual({ count: 11 });
  });

  test("the sessions and clients with most of something are those of both, the greatest first", async () => {
    await using pair = await startPair();
    const { sites, control } = pair;
    const ids = ["c-0", "c-1", "c-2", "c-3", "c-4"];
    for (const [i, clientId] of ids.entries()) {
      const client = await sites[homeOf(clientId)]!.harness.connect({ clientId });
      for (let n = 0; n <= i; n++) await client.subscribe(`t/${n}`, { qos: 1 });
    }
    const by = "subscriptionCount";
    const idsOf = (rows: { items: { clientId: string }[] }): string[] => rows.items.map(({ clientId }) => clientId);
    expect(idsOf(await control("sessions.top", { by, limit: 3 }))).toEqual(["c-4", "c-3", "c-2"]);
    expect(idsOf(await control("clients.top", { by }))).toEqual(ids.toReversed());
    expect(idsOf(await control("clients.top", { by, clientIdPrefix: "c-1" }))).toEqual(["c-1"]);
    expect((await control("clients.top", { by: "connectedAtSec", limit: 1 })).items).toHaveLength(1);
    expect(control("sessions.top", { by: "unsentBytes" as never })).rejects.toThrow("by: ");
  });

  test("what is merged is the sum or the worst", async () => {
    await using pair = await startPair();
    const { sites, control } = pair;
    for (const [i, site] of sites.entries())
      site.broker.engine.publishText(`r/${i}`, Buffer.from("x"), { isRetain: true });
    // Workers have all retained messages in common; these two know nothing of each other.
    expect((await control("stats.read", {})).retained.value).toBe(1);
    expect(await control("retained.read", { topic: "r/0" })).toMatchObject({ topic: "r/0", payload: "x" });
    expect(await control("retained.delete", { topic: "r/1" })).toEqual({ count: 1 });
    expect((await control("access.show", {})).backends).toMatchObject([{ name: "anonymous" }]);
    expect((await control("metrics.read", {}))["bytes.received"]).toBe(0);
    expect(await control("store.show", {})).toMatchObject({ type: "memory", isWritable: true });
  });

  test("while one is away, lists and counts lack its part and say so", async () => {
    await using pair = await startPair();
    const { sites } = pair;
    for (const [i, clientId] of ["at-0", "at-1", "too-1"].entries())
      await sites[i === 0 ? 0 : 1].harness.connect({ clientId });
    const away = (() => Promise.reject(awayFault(0))) as Control;
    const control = spreadControl([away, sites[1].broker.control], homeOf, (index) => index === 0);
    const missing: number[] = [];
    const onMissing = (node: number): void => void missing.push(node);
    const { items } = await control("clients.list", {}, onMissing);
    expect(items.map(({ clientId }) => clientId).toSorted()).toEqual(["at-1", "too-1"]);
    expect(missing.splice(0)).toEqual([0]);
    expect((await control("stats.read", {}, onMissing)).sessions.value).toBe(2);
    expect(missing).toEqual([0]);
    expect(await control("broker.info", {})).toMatchObject({ processes: [{}], missingWorkers: [0] });
    expect((await control("overview.read", {})).info.missingWorkers).toEqual([0]);
    const { isReady, problems } = await control("health.read", {});
    expect([isReady, problems]).toEqual([true, ["worker 0 is being started again, or stands still"]]);

    expect(await control("publish", { topic: "t" })).toEqual({ reachedCount: 0 });
    expect((await control("clients.show", { clientId: "at-1" })).clientId).toBe("at-1");
    expect(control("clients.show", { clientId: "at-0" })).rejects.toMatchObject({ code: "worker_away" });
    expect(control("listeners.stop", { name: "tcp" })).rejects.toMatchObject({ code: "worker_away" });
    expect(await sites[1].broker.control("listeners.list", {})).toMatchObject([{ isOpen: true }]);
    const nobody = spreadControl([away, away], homeOf, () => true);
    expect(nobody("stats.read", {})).rejects.toMatchObject({ code: "worker_away" });
    expect(nobody("publish", { topic: "t" })).rejects.toMatchObject({ code: "worker_away" });
  });

  test("a trace that one process does not know any more is read and stopped at the other", async () => {
    await using pair = await startPair();
    const { sites, control } = pair;
    await control("traces.start", { name: "seen", kind: "topic", value: "#" });
    await sites[0].broker.control("traces.stop", { name: "seen" });
    const publisher = await sites[1].harness.connect({ clientId: "a-1" });
    await publisher.publish("t", "x", { qos: 1 });
    const { events } = await control("traces.read", { name: "seen" });
    expect(events).toContainEqual(expect.objectContaining({ topic: "t" }));
    expect(await control("traces.stop", { name: "seen" })).toEqual({ count: 1 });
    expect(control("traces.read", { name: "other" })).rejects.toMatchObject({ code: "not_found" });
  });

  test("every operation that is asked everywhere says how its answers become one", () => {
    const missing = Object.entries(operations).filter(
      ([, { spread, merge }]) => (spread === "all" || spread === "each") !== (merge !== undefined),
    );
    expect(missing.map(([name]) => name)).toEqual([]);
  });
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let left = 500; left > 0; left--) {
    if (await isSo()) return;
    await Bun.sleep(10);
  }
  throw new Error("it never came to that");
}
