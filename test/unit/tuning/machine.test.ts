import { expect, test } from "bun:test";
import { readMachine } from "#tuning/machine.ts";
import { limits, PlantedMachine } from "./planted-machine.ts";

test("what /proc and /sys say", () => {
  using planted = new PlantedMachine({
    "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
    "proc/sys/net/netfilter/nf_conntrack_count": "77\n",
  });
  const { sysctls, ...machine } = readMachine(planted);
  expect(machine).toEqual({
    descriptorsSoft: 1024,
    descriptorsHard: 20_000,
    filesOpen: 1000,
    memoryTotalBytes: 16_000_000 * 1024,
    memoryAvailableBytes: 15_000_000 * 1024,
    memoryCgroup: undefined,
    cores: 4,
    coreQuota: undefined,
    conntrackCount: 77,
    socketsInUse: 12,
    packetsDropped: 12,
    hugePages: "madvise",
  });
  expect(sysctls.get("fs.file-max")).toEqual([1_600_000]);
  expect(sysctls.get("net.ipv4.tcp_mem")).toEqual([190_000, 250_000, 380_000]);
  expect(sysctls.get("net.ipv4.ip_local_port_range")).toEqual([32_768, 60_999]);
  expect(sysctls.get("net.netfilter.nf_conntrack_max")).toEqual([262_144]);
});

test("an empty folder is a machine that says nothing", () => {
  const { sysctls, ...machine } = readMachine({ root: "/nonexistent" });
  expect(sysctls.size).toBe(0);
  expect(Object.values(machine).filter((value) => value !== undefined)).toEqual([]);
});

test("no descriptor limit is Infinity, and the limits of another process are read", () => {
  using planted = new PlantedMachine({ "proc/42/limits": limits("1024", "unlimited") });
  expect(readMachine({ root: planted.root, pid: 42 }).descriptorsHard).toBe(Infinity);
  expect(readMachine(planted).descriptorsHard).toBe(20_000);
});

test("cores are counted over the pieces of the list", () => {
  using planted = new PlantedMachine({ "proc/self/status": "Cpus_allowed_list:\t0-1,4,6-7\n" });
  expect(readMachine(planted).cores).toBe(5);
});

test("cgroup v2: the tightest group above the process holds, without the file pages it can drop", () => {
  using planted = new PlantedMachine({
    "proc/self/cgroup": "0::/system.slice/mantou.service\n",
    "sys/fs/cgroup/system.slice/mantou.service/memory.max": "max\n",
    "sys/fs/cgroup/system.slice/mantou.service/memory.current": "500000000\n",
    "sys/fs/cgroup/system.slice/mantou.service/cpu.max": "max 100000\n",
    "sys/fs/cgroup/system.slice/memory.max": "4000000000\n",
    "sys/fs/cgroup/system.slice/memory.high": "3000000000\n",
    "sys/fs/cgroup/system.slice/memory.current": "1000000000\n",
    "sys/fs/cgroup/system.slice/memory.stat": "anon 1\nfile 9\ninactive_file 400000000\n",
    "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",
  });
  expect(readMachine(planted)).toMatchObject({
    memoryAvailableBytes: 3_000_000_000 - 600_000_000,
    memoryCgroup: "/sys/fs/cgroup/system.slice",
    coreQuota: 1.5,
  });
});

test("cgroup v1: a container sees its own group at the top, and a number near 2^63 is no limit", () => {
  using planted = new PlantedMachine({
    "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "700000000\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 200000000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
  });
  expect(readMachine(planted)).toMatchObject({ memoryAvailableBytes: 1_500_000_000, coreQuota: 0.5 });

  planted.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  planted.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  expect(readMachine(planted)).toMatchObject({
    memoryAvailableBytes: 15_000_000 * 1024,
    memoryCgroup: undefined,
    coreQuota: undefined,
  });
});

test("this machine can be read", () => {
  const machine = readMachine();
  expect(machine.descriptorsHard).toBeGreaterThan(0);
  expect(machine.memoryAvailableBytes).toBeGreaterThan(0);
});
