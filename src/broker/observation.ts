/**
 * What an operator looks at, of one process: alarms, slow subscribers, traces, diagnosis. Everything here is plain data that a
 * supervisor can gather from several processes.
 */
import { join, resolve } from "node:path";
import type { MqttContext } from "#mqtt/context.ts";
import type { LoadMonitor } from "#transport/load-monitor.ts";
import type { TcpTransport } from "#transport/tcp.ts";
import type { AccessSetup } from "./access-setup.ts";
import { AlarmWatch } from "./alarm-watch.ts";
import { type Alarm, Alarms } from "./alarms.ts";
import type { Config } from "./config.ts";
import type { LimitedLog } from "./limited-log.ts";
import type { ListenerConfig } from "./listener-schema.ts";
import { QueueWatch } from "./queue-watch.ts";
import { Recon } from "./recon.ts";
import { SlowSubscribers } from "./slow-subscribers.ts";
import { Tracer } from "./trace.ts";

export interface ObservationParts {
  readonly config: Config;
  readonly context: MqttContext;
  readonly transport: TcpTransport;
  readonly load: LoadMonitor;
  readonly access: AccessSetup;
  readonly listeners: { readonly configs: readonly ListenerConfig[] };
  readonly log: LimitedLog;
}

const CERTIFICATES_MS = 60_000;

export class Observation {
  readonly alarms: Alarms;
  readonly slow: SlowSubscribers;
  readonly tracer: Tracer;
  readonly recon: Recon;
  private readonly watch: AlarmWatch;
  private readonly queues: QueueWatch;
  private certificatesAtMs = -Infinity;

  constructor(private readonly parts: ObservationParts) {
    const { context, transport, log } = parts;
    const config = parts.config.alarms;
    this.alarms = new Alarms({ historyCountMax: config.historyCountMax, nowMs: Date.now });
    this.alarms.listen((alarm) => logAlarm(alarm, log));
    this.slow = new SlowSubscribers(transport);
    const data = resolve(parts.config.node.data);
    this.recon = new Recon(context.engine, join(data, "recon"));
    this.tracer = new Tracer(context, {
      dir: join(data, "trace"),
      nowMs: Date.now,
      onBug: (error) => log.write("error", "trace", "a bug: a trace failed; all traces have ended", { err: error }),
    });
    this.watch = new AlarmWatch(this.alarms, config);
    this.queues = new QueueWatch(context.engine, this.alarms, config);
    context.engine.store.whenReady(() => this.queues.scan());
  }

  /** Once a second. */
  tick(nowMs: number): void {
    const { context, transport, load, access } = this.parts;
    this.watch.look({
      nowMs,
      lagMs: load.takeLagMs(),
      memoryBytes: load.memoryBytes,
      memoryBytesMax: load.memoryBytesMax,
      connectionCount: transport.connectionCount,
      connectionsMax: transport.connectionsMax,
      isStoreWritable: context.engine.store.isWritable,
      backends: access.health(),
    });
    this.queues.look();
    this.slow.look(nowMs);
    this.tracer.tick();
    if (nowMs - this.certificatesAtMs >= CERTIFICATES_MS) this.lookAtCertificates(nowMs);
  }

  /** The broker stops: traces end, their files are whole. */
  stop(): void {
    this.tracer.stopAll();
  }

  private lookAtCertificates(nowMs: number): void {
    this.certificatesAtMs = nowMs;
    const { listeners, config } = this.parts;
    const { cert } = config.admin;
    void this.watch.lookAtCertificates([...listeners.configs, ...(cert === "" ? [] : [{ cert }])], Date.now());
  }
}

function logAlarm({ id, severity, title, summary, setMs, clearedMs }: Alarm, log: LimitedLog): void {
  const sec = clearedMs === undefined ? undefined : Math.round((clearedMs - setMs) / 1000);
  if (sec === undefined) log.write("warn", "alarm", `alarm: ${title}`, { id, severity, summary });
  else log.write("info", "alarm cleared", `alarm over: ${title}`, { id, sec });
}
