/**
 * What an operator looks at, of one process: alarms and slow subscribers. Everything here is plain data that a
 * supervisor can gather from several processes.
 */
import type { Engine } from "#core/engine.ts";
import type { LoadMonitor } from "#transport/load-monitor.ts";
import type { TcpTransport } from "#transport/tcp.ts";
import type { AccessSetup } from "./access-setup.ts";
import { AlarmWatch } from "./alarm-watch.ts";
import { type Alarm, Alarms } from "./alarms.ts";
import type { Config } from "./config.ts";
import type { LimitedLog } from "./limited-log.ts";
import type { ListenerConfig } from "./listener-schema.ts";
import { QueueWatch } from "./queue-watch.ts";
import { SlowSubscribers } from "./slow-subscribers.ts";

export interface ObservationParts {
  readonly config: Config;
  readonly engine: Engine;
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
  private readonly watch: AlarmWatch;
  private readonly queues: QueueWatch;
  private certificatesAtMs = -Infinity;

  constructor(private readonly parts: ObservationParts) {
    const { engine, transport, log } = parts;
    const config = parts.config.alarms;
    this.alarms = new Alarms({ historyCountMax: config.historyCountMax, nowMs: Date.now });
    this.alarms.listen((alarm) => logAlarm(alarm, log));
    this.slow = new SlowSubscribers(transport);
    this.watch = new AlarmWatch(this.alarms, config);
    this.queues = new QueueWatch(engine, this.alarms, config);
    engine.store.whenReady(() => this.queues.scan());
  }

  /** Once a second. */
  tick(nowMs: number): void {
    const { engine, transport, load, access } = this.parts;
    this.watch.look({
      nowMs,
      lagMs: load.takeLagMs(),
      memoryBytes: load.memoryBytes,
      memoryBytesMax: load.memoryBytesMax,
      connectionCount: transport.connectionCount,
      connectionsMax: transport.connectionsMax,
      isStoreWritable: engine.store.isWritable,
      backends: access.health(),
    });
    this.queues.look();
    this.slow.look(nowMs);
    if (nowMs - this.certificatesAtMs >= CERTIFICATES_MS) this.lookAtCertificates(nowMs);
  }

  private lookAtCertificates(nowMs: number): void {
    this.certificatesAtMs = nowMs;
    void this.watch.lookAtCertificates(this.parts.listeners.configs, Date.now());
  }
}

function logAlarm({ id, severity, title, summary, setMs, clearedMs }: Alarm, log: LimitedLog): void {
  const sec = clearedMs === undefined ? undefined : Math.round((clearedMs - setMs) / 1000);
  if (sec === undefined) log.write("warn", "alarm", `alarm: ${title}`, { id, severity, summary });
  else log.write("info", "alarm cleared", `alarm over: ${title}`, { id, sec });
}
