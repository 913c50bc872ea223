import { expect, test } from "bun:test";
import { runCheck } from "#tuning/check.ts";
import type { Verdict } from "#tuning/verdict.ts";
import { AMPLE, limits, PlantedMachine } from "./planted-machine.ts";

function check(...args: string[]) {
  let out = "";
  let err = "";
  const exitCode = runCheck(
    args,
    (text) => (out += text),
    (text) => (err += text),
  );
  return { exitCode, out, err };
}

test("exit code 0 and a last line that says so when they fit", () => {
  using planted = new PlantedMachine(AMPLE);
  const { exitCode, out } = check("1000000", "--root", planted.root);
  expect(exitCode).toBe(0);
  expect(out.trim().split("\n").at(-1)).toBe("Fit for 1,000,000 connections (about 6.5 GB of memory).");
});

test("exit code 1, the limit in connections, and one process said when they do not", () => {
  using planted = new PlantedMachine();
  const { exitCode, out } = check("1000000", "--root", planted.root);
  expect(exitCode).toBe(1);
  expect(out).toContain("limits   descriptors of the broker process  19,744 connections");
  expect(out.replaceAll(/\s+/g, " ")).toContain("each worker has such a limit of its own");
  expect(out.split("\n").every((line) => line.length <= 130)).toBe(true);
});

test("what is slow or not known is said beside a good verdict", () => {
  using planted = new PlantedMachine({
    ...AMPLE,
    "proc/sys/net/ipv4/tcp_mem": "1 2 3\n",
    "proc/sys/fs/epoll/max_user_watches": undefined,
  });
  const { exitCode, out } = check("1000000", "--root", planted.root);
  expect(exitCode).toBe(0);
  expect(out).toContain("But slow under load: memory for TCP buffers; not known: epoll watches of a user.");
});

test("--json is the verdict, --clients-here counts both ends, --pid reads that process", () => {
  using planted = new PlantedMachine({ ...AMPLE, "proc/42/limits": limits("1024", "4352") });
  const verdict = JSON.parse(check("4096", "--json", "--pid", "42", "--root", planted.root).out) as Verdict;
  expect(verdict).toMatchObject({ connections: 4096, isFit: true, connectionsMax: 4096, processesNeeded: 1 });
  const both = check("4097", "--json", "--pid", "42", "--clients-here", "--root", planted.root);
  expect(both.exitCode).toBe(1);
  expect((JSON.parse(both.out) as Verdict).memoryNeededBytes).toBe(2 * 62_000_000 + 4097 * 11_100);
});

test.each([[], ["0"], ["-5"], ["1e6"], ["1", "2"], ["1", "--pid", "x"], ["1", "--nonsense"]])(
  "%p is not how to ask",
  (...args) => {
    const { exitCode, out, err } = check(...args);
    expect(exitCode).toBe(2);
    expect(out).toBe("");
    expect(err).toContain("Usage: bun run tuning:check");
  },
);

test("a process that is not there is said", () => {
  using planted = new PlantedMachine();
  expect(check("1", "--pid", "7", "--root", planted.root)).toMatchObject({ exitCode: 2, out: "" });
});
