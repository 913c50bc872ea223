/** apply.sh on planted machines: what it shows, what it writes, and that undo leaves no trace. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { limitLines } from "#tuning/conf.ts";
import { PlantedMachine } from "./planted-machine.ts";

const SCRIPT = resolve(import.meta.dir, "../../../tuning/apply.sh");
const SYSCTL_FILE = "etc/sysctl.d/90-mantou.conf";
const LIMITS_FILE = "etc/security/limits.d/90-mantou.conf";

function apply(planted: PlantedMachine, ...args: string[]) {
  const done = Bun.spawnSync(["sh", SCRIPT, ...args, "--root", planted.root], {
    stdin: "ignore",
    env: { ...process.env, BUN: process.execPath },
  });
  return { exitCode: done.exitCode, out: done.stdout.toString(), err: done.stderr.toString() };
}

/** Every file of the machine with its text. */
function snapshot({ root }: PlantedMachine): Record<string, string> {
  const paths = readdirSync(root, { recursive: true, encoding: "utf8" }).toSorted();
  const files = paths.filter((path) => statSync(join(root, path)).isFile());
  return Object.fromEntries(files.map((path) => [path, readFileSync(join(root, path), "utf8").replaceAll("\t", " ")]));
}

function value({ root }: PlantedMachine, path: string): string {
  return readFileSync(join(root, path), "utf8").trim();
}

test("when nobody can be asked it only shows", () => {
  using planted = new PlantedMachine();
  const before = snapshot(planted);
  for (const args of [["1000000"], ["1000000", "--dry-run"], ["1000000", "--yes", "--dry-run"]]) {
    const { exitCode, out } = apply(planted, ...args);
    expect(exitCode).toBe(0);
    expect(out).toMatch(/^ {2}set {3}fs\.file-max +1600000 -> 2065536$/m);
    expect(out).toMatch(/^ {2}set {3}net\.ipv4\.tcp_mem +190000 250000 380000 -> 500000 750000 1000000$/m);
    expect(out).toMatch(/^ {2}keep {2}fs\.nr_open +1048576$/m);
    expect(out).toMatch(/^ {2}skip {2}net\.netfilter\.nf_conntrack_max +not here$/m);
    expect(out).toContain("Nothing was changed");
  }
  expect(snapshot(planted)).toEqual(before);
});

test("--yes sets the values, and writes them for the next boot and login", () => {
  using planted = new PlantedMachine();
  expect(apply(planted, "1000000", "--yes").exitCode).toBe(0);
  expect(value(planted, "proc/sys/fs/file-max")).toBe("2065536");
  expect(value(planted, "proc/sys/net/ipv4/tcp_mem")).toBe("500000 750000 1000000");
  expect(value(planted, "proc/sys/net/ipv4/ip_local_port_range")).toBe("32768\t60999");
  const lines = value(planted, SYSCTL_FILE).split("\n");
  expect(lines.filter((line) => !line.startsWith("#"))).toEqual([
    "fs.file-max = 2065536",
    "net.core.somaxconn = 32768",
    "net.ipv4.tcp_max_syn_backlog = 32768",
    "net.core.netdev_max_backlog = 16384",
    "net.ipv4.tcp_mem = 500000 750000 1000000",
  ]);
  expect(readFileSync(join(planted.root, LIMITS_FILE), "utf8")).toEndWith(`\n${limitLines(1_048_576)}`);
});

test("--undo leaves the machine as it was, also after two runs", () => {
  using planted = new PlantedMachine({ [LIMITS_FILE]: "# somebody's own\n", etc: undefined });
  const before = snapshot(planted);
  apply(planted, "100000", "--yes");
  apply(planted, "1000000", "--yes", "--clients");
  expect(value(planted, "proc/sys/net/ipv4/ip_local_port_range")).toBe("1024 65535");
  expect(value(planted, LIMITS_FILE)).toContain("1048576");
  expect(snapshot(planted)).not.toEqual(before);

  expect(apply(planted, "--undo").out).toContain("Nothing was changed");
  expect(existsSync(join(planted.root, SYSCTL_FILE))).toBe(true);
  const { exitCode, out } = apply(planted, "--undo", "--yes");
  expect(exitCode).toBe(0);
  expect(out).toMatch(/^ {2}fs\.file-max +2065536 -> 1600000$/m);
  expect(snapshot(planted)).toEqual(before);
  expect(apply(planted, "--undo", "--yes")).toMatchObject({
    exitCode: 0,
    err: expect.stringContaining("nothing to undo"),
  });
});

test("nothing to do is said", () => {
  using planted = new PlantedMachine();
  expect(apply(planted, "1000", "--yes").out).toContain("Nothing to do.");
  expect(existsSync(join(planted.root, "var"))).toBe(false);
});

// Read-only for root too, and a number smaller than is wanted.
const REFUSING = "/proc/sys/kernel/ngroups_max";
test.skipIf(!existsSync(REFUSING))(
  "a value the kernel does not take fails, and then no login limit is above nr_open",
  () => {
    using planted = new PlantedMachine();
    const nrOpen = join(planted.root, "proc/sys/fs/nr_open");
    rmSync(nrOpen);
    symlinkSync(REFUSING, nrOpen);
    const { exitCode, err } = apply(planted, "1000000", "--yes");
    expect(exitCode).toBe(1);
    expect(err).toContain("not taken by the kernel: fs.nr_open = 1048576");
    expect(err).toContain("logins would fail");
    expect(existsSync(join(planted.root, LIMITS_FILE))).toBe(false);
    expect(value(planted, SYSCTL_FILE)).not.toContain("fs.nr_open");
    expect(value(planted, "proc/sys/fs/file-max")).toBe("2065536");
    expect(apply(planted, "--undo", "--yes").exitCode).toBe(0);
    expect(value(planted, "proc/sys/fs/file-max")).toBe("1600000");
  },
);

test("tracking is written so that a boot without the module does not fail", () => {
  using planted = new PlantedMachine({ "proc/sys/net/netfilter/nf_conntrack_max": "262144\n" });
  apply(planted, "1000000", "--yes");
  expect(value(planted, SYSCTL_FILE)).toContain("\n-net.netfilter.nf_conntrack_max = 1250000");
});

test.each([[], ["0"], ["many"], ["1", "2"], ["1", "--nonsense"]])("%p is not how to ask", (...args) => {
  using planted = new PlantedMachine();
  mkdirSync(join(planted.root, "etc"));
  const before = snapshot(planted);
  expect(apply(planted, ...args, "--yes").exitCode).toBe(2);
  expect(snapshot(planted)).toEqual(before);
});
