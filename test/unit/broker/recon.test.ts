import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Recon } from "#broker/recon.ts";
import { TestBroker } from "#test/support/test-broker.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "mantou-recon-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test("memory: the largest queues of all sessions, and what holds the rest", async () => {
  const broker = new TestBroker();
  const sizes = [5, 900, 0, 70, 8000, 30];
  for (const [i, size] of sizes.entries()) {
    const sink = broker.open(`c${i}`, { expirySec: 1000 });
    broker.subscribe(sink, `t${i}`, 1);
    broker.close(sink);
    if (size > 0) broker.publish(`t${i}`, "x".repeat(size), { qos: 1 });
  }
  const { queues, bytes, objects } = await new Recon(broker.engine, dir).memory(3);
  expect(queues.map(({ clientId, queuedCount }) => [clientId, queuedCount])).toEqual([
    ["c4", 1],
    ["c1", 1],
    ["c3", 1],
  ]);
  expect(queues[0]!.queuedBytes).toBeGreaterThanOrEqual(8000);
  expect(bytes["messageBodies"]).toBeGreaterThanOrEqual(9005);
  expect(bytes["resident"]).toBeGreaterThan(bytes["heapUsed"]!);
  expect(objects[0]!.count).toBeGreaterThanOrEqual(objects[1]!.count);
});

test("a heap snapshot and a profile are files that tools read, for the owner alone, one at a time, a few of each", async () => {
  const data = join(dir, "recon");
  const recon = new Recon(new TestBroker().engine, data);
  mkdirSync(data);
  for (let i = 0; i < 7; i++) writeFileSync(join(data, `2020-${i}.heapsnapshot`), "");
  writeFileSync(join(data, "notes.txt"), "");
  const profile = recon.cpuProfile(1);
  expect(recon.heapSnapshot()).rejects.toThrow("is under way");
  const { path, bytes } = await profile;
  expect(statSync(path).size).toBe(bytes);
  expect(JSON.parse(readFileSync(path, "utf8")) as object).toContainKeys(["nodes", "samples", "timeDeltas"]);
  const snapshot = await recon.heapSnapshot();
  expect(statSync(snapshot.path).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(snapshot.path, "utf8")) as object).toContainKeys(["snapshot", "nodes", "edges"]);
  const names = readdirSync(data);
  expect(names.filter((name) => name.endsWith(".heapsnapshot"))).toHaveLength(5);
  expect(names).toContain("notes.txt");
  expect(names).not.toContain("2020-2.heapsnapshot");
});

test("a directory that cannot be written is said, and the next attempt is free", async () => {
  writeFileSync(join(dir, "recon"), "in the way");
  const recon = new Recon(new TestBroker().engine, join(dir, "recon"));
  expect(recon.heapSnapshot()).rejects.toThrow("recon: cannot be written: EEXIST");
  await Bun.sleep(0);
  expect(recon.heapSnapshot()).rejects.toThrow("recon: cannot be written: EEXIST");
});
