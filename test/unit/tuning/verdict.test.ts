import { expect, test } from "bun:test";
import { connectionsMaxOfProcess } from "#broker/descriptor-limit.ts";
import { DESCRIPTOR_RESERVE } from "#tuning/figures.ts";
import { readMachine } from "#tuning/machine.ts";
import { assess, type Finding, type State } from "#tuning/verdict.ts";
import { AMPLE, type Files, limits, PlantedMachine } from "./planted-machine.ts";

function verdictOf(files: Files, connections: number, clientsHere = false) {
  using planted = new PlantedMachine(files);
  const verdict = assess(readMachine(planted), { connections, clientsHere });
  const names = (state: State) => verdict.findings.filter((at) => at.state === state).map(({ name }) => name);
  const finding = (name: string): Finding => verdict.findings.find((at) => at.name.includes(name))!;
  return { verdict, names, finding };
}

test("a machine that has enough fits, and nothing limits or slows it", () => {
  const { verdict, names } = verdictOf(AMPLE, 1_000_000);
  expect(verdict.isFit).toBe(true);
  expect([...names("limits"), ...names("slows"), ...names("unknown")]).toEqual([]);
  expect(verdict).toMatchObject({
    connectionsMax: 1_048_576 - DESCRIPTOR_RESERVE,
    limitedBy: "descriptors of the broker process",
    processesNeeded: 1,
  });
});

test("a small descriptor limit ends one process, and more would be needed", () => {
  const { verdict, finding } = verdictOf({}, 1_000_000);
  expect(verdict).toMatchObject({ isFit: false, connectionsMax: 19_744, processesNeeded: 51 });
  expect(finding("descriptors")).toMatchObject({ state: "limits", connectionsMax: 19_744 });
  expect(finding("descriptors").says).toContain("--workers 51");
  expect(finding("descriptors").advice).toContain("apply.sh 1000000");
});

test("exactly as many as there is room for fit, one more does not", () => {
  expect(verdictOf({}, 19_744).verdict.isFit).toBe(true);
  expect(verdictOf({}, 19_745).verdict.isFit).toBe(false);
});

test("no process gets more descriptors than nr_open", () => {
  const unlimited = { ...AMPLE, "proc/self/limits": limits("unlimited", "unlimited") };
  expect(verdictOf(unlimited, 1_048_320).verdict.isFit).toBe(true);
  expect(verdictOf(unlimited, 1_048_321).finding("descriptors").state).toBe("limits");
});

test("with the clients here, both ends count for files, watches and memory", () => {
  const files = { ...AMPLE, "proc/sys/fs/file-max": "1201000\n" };
  expect(verdictOf(files, 1_000_000).verdict.isFit).toBe(true);
  const { names, finding, verdict } = verdictOf(files, 1_000_000, true);
  expect(names("limits")).toEqual(["open files of the machine"]);
  expect(finding("open files").connectionsMax).toBe(600_000);
  expect(finding("watches").connectionsMax).toBe(1_800_000);
  expect(verdict.memoryNeededBytes).toBe(62_000_000 + 1_000_000 * 11_100);
  expect(finding("ports of the test clients")).toMatchObject({ state: "note" });
  expect(finding("ports of the test clients").says).toContain("36 source addresses");
});

test("memory: the machine's or the cgroup's, less a tenth", () => {
  const little = { ...AMPLE, "proc/meminfo": "MemTotal: 2000000 kB\nMemAvailable:  1000000 kB\n" };
  const room = Math.floor((1_024_000_000 * 0.9 - 62_000_000) / 6400);
  expect(verdictOf(little, room).finding("memory")).toMatchObject({ state: "ok", connectionsMax: room });
  expect(verdictOf(little, room + 1).verdict).toMatchObject({ isFit: false, limitedBy: "memory" });
  const group = { ...AMPLE, "sys/fs/cgroup/memory.max": "512000000\n", "sys/fs/cgroup/memory.current": "0\n" };
  expect(verdictOf(group, 1_000_000).finding("memory").advice).toContain("cgroup");
});

test("connection tracking limits only when it tracks", () => {
  const tracking = (count: string) => ({
    ...AMPLE,
    "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
    "proc/sys/net/netfilter/nf_conntrack_count": count,
  });
  expect(verdictOf(tracking("0"), 1_000_000).finding("tracking").state).toBe("note");
  expect(verdictOf(tracking("144"), 1_000_000).finding("tracking")).toMatchObject({
    state: "limits",
    connectionsMax: 262_000,
  });
  expect(verdictOf(tracking("144"), 262_000).finding("tracking").state).toBe("ok");
});

test("what only hurts under load slows and does not limit", () => {
  const { names, verdict } = verdictOf({ ...AMPLE, "proc/sys/net/ipv4/tcp_mem": "1 2 3\n" }, 1_000_000);
  expect(names("slows")).toEqual(["memory for TCP buffers"]);
  expect(verdict.isFit).toBe(true);
  expect(verdict.limitedBy).toBe("descriptors of the broker process");
  const backlog = verdictOf({ ...AMPLE, "proc/sys/net/core/netdev_max_backlog": "1000\n" }, 1_000_000);
  expect(backlog.names("slows")).toEqual(["packets waiting per core"]);
});

test("the queue of a listener is what somaxconn grants", () => {
  const ample = { ...AMPLE, "proc/sys/net/core/somaxconn": "32768\n" };
  expect(verdictOf(ample, 1_000_000).finding("accept").says).toContain("32,768 a listener");
  expect(verdictOf(AMPLE, 500).finding("accept").state).toBe("ok");
  const old = { ...AMPLE, "proc/sys/net/core/somaxconn": "128\n" };
  expect(verdictOf(old, 500).finding("accept").says).toContain("128 a listener");
});

test("settings that are odd are noted", () => {
  const odd = {
    ...AMPLE,
    "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
    "proc/sys/vm/overcommit_memory": "2\n",
    "proc/sys/net/ipv4/tcp_syncookies": "0\n",
    "sys/fs/cgroup/cpu.max": "50000 100000\n",
  };
  const { names } = verdictOf(odd, 1000);
  expect(names("note")).toContain("transparent huge pages");
  expect(names("note")).toContain("vm.overcommit_memory");
  expect(names("note")).toContain("net.ipv4.tcp_syncookies");
  expect(names("slows")).toEqual(["cores"]);
});

test("a machine that says nothing is not known to be unfit", () => {
  const verdict = assess(readMachine({ root: "/nonexistent" }), { connections: 1_000_000, clientsHere: true });
  expect(verdict.isFit).toBe(true);
  expect(verdict.connectionsMax).toBeUndefined();
  expect(verdict.findings.filter(({ state }) => state === "unknown").length).toBeGreaterThanOrEqual(5);
});

test("the reserve is the broker's", () => {
  expect(readMachine().descriptorsSoft! - connectionsMaxOfProcess()).toBe(DESCRIPTOR_RESERVE);
});
