/**
 * The load generator's commands: `conn`, `pub`, `sub` as emqtt_benchmark has them, and the closed or paced loops `pair`,
 * `fanin`, `fanout` and `rtt`. Progress and warnings go to stderr, the result to stdout.
 *
 * Exit codes: 0 fine, 1 clients failed or were dropped, 2 usage, 3 messages lost, doubled, reordered, foreign or damaged.
 */
import { readFileSync } from "node:fs";
import { runPlan } from "./coordinator.ts";
import { usageOf } from "./option-table.ts";
import { parsePlan, UsageError } from "./options.ts";
import type { Command, Plan } from "./plan.ts";
import { announce, reportOf } from "./report.ts";
import { connectionFaults, exitCodeOf, figuresOf, messageFaults, warningsOf } from "./result.ts";

/** Ports towards one listener from one address, by Linux' default range. */
const PORTS_PER_SOURCE = 28_000;
const SPARE_DESCRIPTORS = 100;

export async function runLoad(command: Command, args: readonly string[]): Promise<number> {
  let plan: Plan | undefined;
  try {
    plan = parsePlan(command, args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    print(`${error.message}\nbun run bench ${command} --help shows the options`);
    return 2;
  }
  if (plan === undefined) {
    process.stdout.write(usageOf(command));
    return 0;
  }
  print(announce(plan));
  for (const line of doubts(plan)) print(`note: ${line}`);
  const result = await runPlan(plan, print);
  const figures = figuresOf(result);
  (plan.isJson ? process.stderr : process.stdout).write(reportOf(plan, figures));
  for (const warning of warningsOf(figures)) print(`WARNING: ${warning}`);
  for (const [why, count] of Object.entries(figures.reasons)) print(`${count} × ${why}`);
  const faults = messageFaults(figures);
  if (faults.length > 0) print(`\n*** THIS RUN DOES NOT COUNT: ${faults.join(", ")} ***\n`);
  const failures = connectionFaults(figures);
  if (failures.length > 0) print(`FAILED: ${failures.join(", ")}${result.isAborted ? "; nothing was measured" : ""}`);
  if (plan.isJson) process.stdout.write(`${JSON.stringify(figures)}\n`);
  return exitCodeOf(figures, result.isAborted);
}

function descriptorsMax(): number {
  try {
    return Number(/^Max open files +\S+ +(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1] ?? Infinity);
  } catch {
    return Infinity; // no Linux: it will be seen
  }
}

function print(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** What is likely to go wrong, said beforehand. */
function doubts(plan: Plan): string[] {
  const notes: string[] = [];
  const clients = plan.idles + plan.pubs + plan.subs;
  const sources = Math.max(1, plan.sources.length);
  if (clients > sources * PORTS_PER_SOURCE) {
    const wanted = Math.ceil(clients / PORTS_PER_SOURCE);
    notes.push(
      `${clients} clients from ${sources} address(es) may run out of ports: --ifaddr 127.0.1.1-127.0.1.${wanted}`,
    );
  }
  const descriptors = descriptorsMax();
  if (clients / plan.processes > descriptors - SPARE_DESCRIPTORS) {
    const wanted = Math.ceil(clients / (descriptors - SPARE_DESCRIPTORS));
    notes.push(`a process may open ${descriptors} descriptors: --processes ${wanted}`);
  }
  if (plan.pubs > 0 && plan.payloadBytes < 24)
    notes.push("a payload below 24 bytes has no stamp: receivers cannot check it");
  if (plan.filter.startsWith("$share/")) notes.push("shared subscription: loss and order are not checked");
  if (!/^(127\.|localhost$|::1$)/.test(plan.host))
    notes.push(`${plan.host} is not this machine: make sure it is yours`);
  return notes;
}
