/**
 * What apply.sh has to do, one line a setting:
 *
 *   set|sysctl|net.core.somaxconn|4096|32768|                  present and new value
 *   set|nofile|nofile|20000|1048576|
 *   keep|sysctl|fs.nr_open|1048576|1048576|                    enough as it is
 *   skip|sysctl|net.netfilter.nf_conntrack_max||1250000|not here   or not wise here
 *
 * In the order of the knobs: fs.nr_open comes before the limit that must not be above it.
 */
import { type Knob, knobs, roomiest } from "./knobs.ts";
import { type Machine, readMachine } from "./machine.ts";

export interface Step {
  readonly action: "set" | "keep" | "skip";
  readonly knob: Knob;
  readonly present: readonly number[];
  readonly wanted: readonly number[];
  readonly reason?: string;
}

const PAGE_BYTES = 4096;

export function plan(machine: Machine, connections: number, withClients: boolean): Step[] {
  return knobs
    .filter(({ side }) => withClients || side === "broker")
    .map((knob) => stepOf(knob, machine, knob.recommended(connections)));
}

function stepOf(knob: Knob, machine: Machine, recommended: readonly number[]): Step {
  const present = presentValue(knob, machine);
  if (present === undefined) return { action: "skip", knob, present: [], wanted: recommended, reason: "not here" };
  const wanted = roomiest(knob, present, recommended);
  const step = { knob, present, wanted };
  if (wanted.every((value, field) => value === present[field])) return { action: "keep", ...step };
  if (knob.name === "net.ipv4.tcp_mem" && wanted[2]! * PAGE_BYTES > (machine.memoryTotalBytes ?? Infinity) / 2) {
    return { action: "skip", ...step, reason: "more than half of the memory" };
  }
  return { action: "set", ...step };
}

function presentValue({ where, name }: Knob, machine: Machine): readonly number[] | undefined {
  if (where === "sysctl") return machine.sysctls.get(name);
  return machine.descriptorsHard === undefined ? undefined : [machine.descriptorsHard];
}

export function planLine({ action, knob, present, wanted, reason = "" }: Step): string {
  return [action, knob.where, knob.name, present.join(" "), wanted.join(" "), reason].join("|");
}

if (import.meta.main) {
  const [connections = "", side = "", root = "/"] = process.argv.slice(2);
  if (!/^[1-9]\d{0,8}$/.test(connections) || !/^(broker|clients)$/.test(side)) {
    process.stderr.write("Usage: bun tuning/plan.ts CONNECTIONS broker|clients [ROOT]\n");
    process.exit(2);
  }
  const steps = plan(readMachine({ root }), Number(connections), side === "clients");
  process.stdout.write(steps.map((step) => `${planLine(step)}\n`).join(""));
}
