/** `status`, `broker`, `cluster`, `listeners`, `vm`, `alarms`, `slow`, `log`, and what emqttd had and is not here. */
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { type Answer, type CtlCommand, type CtlContext, record, Refusal, rows, slashed } from "./ctl.ts";

const GAUGES: Readonly<Record<string, string>> = { connections: "clients" };

export const status: CtlCommand = {
  name: "status",
  usage: [["", "Show broker status"]],
  async run({ control }, words) {
    if (words.length > 0) return undefined;
    const info = await control("broker.info", {});
    return { json: info, lines: [`Node '${info.node}' is started`, `mantou ${info.version} is running`] };
  },
};

export const broker: CtlCommand = {
  name: "broker",
  usage: [
    ["", "Show broker version, uptime and description"],
    ["pubsub", "Show the processes of the broker"],
    ["stats", "Show broker statistics of clients, topics, subscribers"],
    ["metrics", "Show broker metrics"],
  ],
  async run(context, [what = "info", ...more]) {
    const part = { info: brokerInfo, pubsub: brokerProcesses, stats: brokerStats, metrics: brokerMetrics }[what];
    return more.length > 0 ? undefined : part?.(context);
  },
};

async function brokerInfo({ control }: CtlContext): Promise<Answer> {
  const info = await control("broker.info", {});
  const { version, uptimeSec, nowSec } = info;
  const lines = rows(10, [
    ["sysdescr", "mantou MQTT broker"],
    ["version", version],
    ["uptime", uptimeText(uptimeSec)],
    ["datetime", dateText(new Date(nowSec * 1000))],
  ]);
  return { json: info, lines };
}

async function brokerProcesses({ control }: CtlContext): Promise<Answer> {
  const { processes } = await control("broker.info", {});
  const lines = processes.flatMap((process, index) => [
    `pubsub: ${index + 1}`,
    ...rows(
      18,
      [
        ["status", process.isBusy ? "busy" : "running"],
        ["pid", process.pid],
        ["memory", process.memoryBytes],
        ["heap_size", process.heapBytes],
        ["connections", process.connectionCount],
        ["lag_ms", Math.round(process.lagMs)],
        ["cpu_ms", Math.round(process.cpuMs)],
      ],
      "  ",
    ),
  ]);
  return { json: processes, lines };
}

async function brokerStats({ control }: CtlContext): Promise<Answer> {
  const stats = await control("stats.read", {});
  const entries = Object.entries(stats).flatMap(([name, { value, max }]): [string, number][] => {
    const shown = slashed(GAUGES[name] ?? name);
    const routes: [string, number][] =
      name === "topics"
        ? [
            ["routes/count", value],
            ["routes/max", max],
          ]
        : [];
    return [[`${shown}/count`, value], [`${shown}/max`, max], ...routes];
  });
  return { json: stats, lines: rows(20, entries.sort()) };
}

/** emqttd's names, its sums among them, and ours. */
async function brokerMetrics({ control }: CtlContext): Promise<Answer> {
  const metrics = await control("metrics.read", {});
  const { retained } = await control("stats.read", {});
  const sum = (pattern: RegExp): number =>
    Object.entries(metrics).reduce((total, [name, count]) => total + (pattern.test(name) ? count : 0), 0);
  const all: Record<string, number> = {
    ...Object.fromEntries(Object.entries(metrics).map(([name, count]) => [slashed(name), count])),
    "messages/received": sum(/^messages\.qos\d\.received$/),
    "messages/sent": sum(/^messages\.qos\d\.sent$/),
    "messages/dropped": sum(/^messages\.dropped\./),
    "messages/retained": retained.value,
    "packets/disconnect": metrics["packets.disconnect.received"] ?? 0,
  };
  return { json: all, lines: rows(24, Object.entries(all).sort()) };
}

export const cluster: CtlCommand = {
  name: "cluster",
  usage: [
    ["join <Node>", "Join the cluster"],
    ["leave", "Leave the cluster"],
    ["remove <Node>", "Remove the node from cluster"],
    ["status", "Cluster status"],
  ],
  async run({ control }, [verb = "", ...more]) {
    const wanted: Readonly<Record<string, number>> = { join: 1, leave: 0, remove: 1, status: 0 };
    if (wanted[verb] !== more.length) return undefined;
    if (verb !== "status") throw missing("there is no cluster yet: this node runs alone");
    const { node } = await control("broker.info", {});
    return { json: { runningNodes: [node] }, lines: [`Cluster status: [{running_nodes,['${node}']}]`] };
  },
};

export const bridges: CtlCommand = {
  name: "bridges",
  usage: [["list", "List bridges"]],
  async run() {
    throw missing("there are no bridges yet");
  },
};

export const mnesia: CtlCommand = {
  name: "mnesia",
  usage: [["", "The store of the broker"]],
  async run({ control }, words) {
    if (words.length > 0) return undefined;
    const store = await control("store.show", {});
    const entries = Object.entries(store.counts).map(([name, count]): [string, number] => [slashed(name), count]);
    return {
      json: store,
      lines: rows(20, [["type", store.type], ["is_writable", String(store.isWritable)], ...entries]),
    };
  },
};

function missing(line: string): Refusal {
  return new Refusal({ json: { error: line }, lines: [line] });
}

/** As emqttd called them. */
const PROTOCOLS: Readonly<Record<string, string>> = { tcp: "mqtt", tls: "mqtts", ws: "http", wss: "https" };

export const listeners: CtlCommand = {
  name: "listeners",
  usage: [["", "List listeners"]],
  async run({ control }, words) {
    if (words.length > 0) return undefined;
    const found = await control("listeners.list", {});
    const { processes } = await control("broker.info", {});
    const lines = found.flatMap(({ type, address, isOpen, connectionCount, connectionsMax }) => [
      `listener on ${PROTOCOLS[type] ?? type}:${placeOf(address)}${isOpen ? "" : " (stopped)"}`,
      ...rows(
        16,
        [
          ["acceptors", processes.length],
          ["max_clients", connectionsMax ?? "infinity"],
          ["current_clients", connectionCount],
          ["shutdown_count", "[]"],
        ],
        "  ",
      ),
    ]);
    return { json: found, lines };
  },
};

/** `tcp://0.0.0.0:1883` → `1883`, as emqttd wrote an address that is any; `tcp://127.0.0.1:1883` → `127.0.0.1:1883`. */
function placeOf(address: string): string {
  const place = address.replace(/^\w+:\/\//, "").replace(/(:\d+)\/.*$/, "$1");
  return place.replace(/^(0\.0\.0\.0|\[::\]):/, "");
}

export const vm: CtlCommand = {
  name: "vm",
  usage: [
    ["all", "Show all of the following"],
    ["load", "Show load of the machine"],
    ["memory", "Show memory of the broker"],
    ["process", "Show processes of the broker"],
    ["io", "Show descriptors of the broker"],
    ["ports", "Show sockets of the broker"],
  ],
  async run(context, [what = "all", ...more]) {
    const parts: Readonly<Record<string, (context: CtlContext) => Promise<[string, number | string][]>>> = {
      load: async () => ["load1", "load5", "load15"].map((name, i) => [`cpu/${name}`, loadavg()[i].toFixed(2)]),
      memory: vmMemory,
      process: vmProcesses,
      io: vmDescriptors,
      ports: vmSockets,
    };
    const names = what === "all" ? Object.keys(parts) : [what];
    if (more.length > 0 || !names.every((name) => Object.hasOwn(parts, name))) return undefined;
    const entries: [string, number | string][] = [];
    for (const name of names) entries.push(...(await parts[name](context)));
    return { json: Object.fromEntries(entries), lines: rows(24, entries) };
  },
};

async function vmMemory({ control }: CtlContext): Promise<[string, number][]> {
  const { processes } = await control("recon.memory", { isBrief: true });
  const sums = new Map<string, number>();
  for (const { bytes } of processes) {
    for (const [name, size] of Object.entries(bytes)) sums.set(name, (sums.get(name) ?? 0) + size);
  }
  return [...sums].map(([name, size]) => [`memory/${name === "resident" ? "total" : slashed(name)}`, size]);
}

async function vmProcesses({ control }: CtlContext): Promise<[string, number][]> {
  const { processes } = await control("broker.info", {});
  return [
    ["process/limit", availableParallelism()],
    ["process/count", processes.length],
  ];
}

async function vmDescriptors({ control }: CtlContext): Promise<[string, number | string][]> {
  const { processes } = await control("broker.info", {});
  const all = processes.map(({ pid }) => descriptorsOf(pid));
  const sum = (key: "most" | "used") => all.reduce((total, each) => total + each[key], 0);
  return [
    ["io/max_fds", Number.isNaN(sum("most")) ? "undefined" : sum("most")],
    ["io/active_fds", Number.isNaN(sum("used")) ? "undefined" : sum("used")],
  ];
}

async function vmSockets({ control }: CtlContext): Promise<[string, number | string][]> {
  const { processes } = await control("broker.info", {});
  const most = processes.reduce((total, { pid }) => total + descriptorsOf(pid).most, 0);
  return [
    ["ports/count", processes.reduce((total, { connectionCount }) => total + connectionCount, 0)],
    ["ports/limit", Number.isNaN(most) ? "undefined" : most],
  ];
}

/** Of a process of this machine; NaN where it cannot be known. */
function descriptorsOf(pid: number): { most: number; used: number } {
  try {
    const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
    const most = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Number.NaN);
    return { most, used: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return { most: Number.NaN, used: Number.NaN };
  }
}

export const alarms: CtlCommand = {
  name: "alarms",
  usage: [
    ["list", "List alarms that are active"],
    ["history", "List alarms that are over, the latest first"],
  ],
  async run({ control }, [verb = "list", ...more]) {
    if (more.length > 0 || !["list", "history"].includes(verb)) return undefined;
    const { active, history } = await control("alarms.list", {});
    const found = verb === "list" ? active : history;
    const lines = found.map(({ id, severity, title, summary, setMs, clearedMs, pid }) =>
      record("Alarm", id, {
        severity,
        title,
        set_at: Math.floor(setMs / 1000),
        ...(clearedMs !== undefined && { cleared_at: Math.floor(clearedMs / 1000) }),
        pid,
        summary,
      }),
    );
    return { json: found, lines };
  },
};

export const slow: CtlCommand = {
  name: "slow",
  usage: [
    ["bytes", "List slow subscribers by what waits for them"],
    ["time", "List slow subscribers by how long it does"],
  ],
  async run({ control }, [by = "bytes", ...more]) {
    if ((by !== "bytes" && by !== "time") || more.length > 0) return undefined;
    const found = await control("slow.list", { by, limit: 100 });
    const lines = found.map(({ clientId, address, listener, unsentBytesMax, blockedMsMax, lastMs }) =>
      record("Slow", clientId, {
        peername: address,
        listener,
        unsent_bytes: unsentBytesMax,
        blocked_ms: Math.round(blockedMsMax),
        last_at: Math.floor(lastMs / 1000),
      }),
    );
    return { json: found, lines };
  },
};

export const log: CtlCommand = {
  name: "log",
  usage: [
    ["level", "Show the least severe level that is logged"],
    ["level <Level>", "Change it until the broker stops"],
  ],
  async run({ control }, [what, level, ...more]) {
    if (what !== "level" || more.length > 0) return undefined;
    if (level !== undefined) await control("config.set", { values: { "log.level": level } });
    const values = await control("config.show", {});
    const shown = String(values.find(({ path }) => path === "log.level")?.value);
    return { json: { level: shown }, lines: [shown] };
  },
};

/** `1 hours, 25 minutes, 24 seconds`. */
function uptimeText(sec: number): string {
  const units: [string, number][] = [
    ["days", Math.floor(sec / 86_400)],
    ["hours", Math.floor(sec / 3600) % 24],
    ["minutes", Math.floor(sec / 60) % 60],
    ["seconds", sec % 60],
  ];
  const first = units.findIndex(([, count]) => count > 0);
  return units
    .slice(first < 0 ? -1 : first)
    .map(([name, count]) => `${count} ${name}`)
    .join(", ");
}

/** Local time, `YYYY-MM-DD HH:MM:SS`. */
function dateText(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${date} ${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":")}`;
}
