/**
 * Looks once a second at what may be wrong with the broker as a whole, and sets and clears alarms accordingly. Queues of sessions are
 * watched where they grow: queue-watch.ts.
 *
 * An alarm about a figure ends only well below the mark at which it began, so that it does not flicker.
 */
import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { BackendHealth } from "#access/backend.ts";
import type { AlarmConfig } from "./alarm-schema.ts";
import type { Alarms } from "./alarms.ts";
import type { ListenerConfig } from "./listener-schema.ts";

/** What is looked at, as of now. */
export interface Readings {
  /** Monotonic milliseconds. */
  readonly nowMs: number;
  /** Greatest lag of the event loop since the last look. */
  readonly lagMs: number;
  readonly memoryBytes: number;
  readonly memoryBytesMax: number;
  readonly connectionCount: number;
  /** What the descriptor limit leaves room for. */
  readonly connectionsMax: number;
  readonly isStoreWritable: boolean;
  readonly backends: readonly { readonly name: string; readonly health: BackendHealth | undefined }[];
}

const LAG_QUIET_MS = 10_000;
/** Percent below the mark. */
const SLACK_PERCENT = 5;
const DAY_MS = 86_400_000;
const MIB = 1024 * 1024;

export class AlarmWatch {
  private laggedMs = -Infinity;
  private readonly backendIds = new Set<string>();
  private readonly certificateIds = new Set<string>();

  constructor(
    private readonly alarms: Alarms,
    private readonly config: AlarmConfig,
  ) {}

  look(readings: Readings): void {
    this.lookAtLag(readings);
    const { memoryBytes, memoryBytesMax, connectionCount, connectionsMax } = readings;
    this.share("memory_high", "memory is running out", this.config.memoryHighPercent, {
      part: memoryBytes / MIB,
      whole: memoryBytesMax / MIB,
      unit: "MiB resident",
    });
    this.share("descriptors_high", "connections approach the descriptor limit", this.config.descriptorHighPercent, {
      part: connectionCount,
      whole: connectionsMax,
      unit: "connections",
    });
    if (readings.isStoreWritable) this.alarms.clear("store_not_writable");
    else {
      const summary = "QoS 1 and 2 for sessions that are kept is refused until the disk takes writes again";
      this.alarms.set({ id: "store_not_writable", severity: "critical", title: "the store cannot write", summary });
    }
    this.lookAtBackends(readings.backends);
  }

  /** Reads the certificates of the listeners; call it now and then. */
  async lookAtCertificates(
    listeners: readonly Pick<ListenerConfig, "cert" | "moreCertificates">[],
    wallMs: number,
  ): Promise<void> {
    const files = listeners.flatMap(({ cert, moreCertificates = [] }) => [
      cert,
      ...moreCertificates.map((m) => m.cert),
    ]);
    const found = new Set<string>();
    for (const file of new Set(files.filter((file) => file !== undefined))) {
      const endMs = await endOfCertificate(file);
      const days = (endMs - wallMs) / DAY_MS;
      // One that cannot be read is reported by its listener, which goes on with the one it has.
      if (Number.isNaN(days) || days >= this.config.certificateDaysMin) continue;
      const id = `certificate_expiring.${file}`;
      found.add(id);
      const summary = `${file} is valid until ${new Date(endMs).toISOString()}`;
      const isOver = days <= 0;
      const title = isOver ? "a certificate has expired" : "a certificate is about to expire";
      this.alarms.set({ id, severity: isOver ? "critical" : "warning", title, summary });
    }
    this.clearOthers(this.certificateIds, found);
  }

  private lookAtLag({ nowMs, lagMs }: Readings): void {
    const id = "event_loop_lag";
    if (lagMs >= this.config.lagMsHigh) {
      this.laggedMs = nowMs;
      const summary = `the event loop came ${Math.round(lagMs)} ms late`;
      this.alarms.set({ id, severity: "warning", title: "the broker answers late", summary });
    } else if (nowMs - this.laggedMs >= LAG_QUIET_MS) this.alarms.clear(id);
  }

  private share(
    id: string,
    title: string,
    highPercent: number,
    { part, whole, unit }: { part: number; whole: number; unit: string },
  ): void {
    const percent = (part / whole) * 100;
    if (percent >= highPercent) {
      const summary = `${Math.round(part)} of ${Math.round(whole)} ${unit}, ${Math.floor(percent)} %`;
      this.alarms.set({ id, severity: percent >= 95 ? "critical" : "warning", title, summary });
    } else if (percent < highPercent - Math.min(SLACK_PERCENT, highPercent / 2)) this.alarms.clear(id);
  }

  private lookAtBackends(backends: Readings["backends"]): void {
    const found = new Set<string>();
    for (const { name, health } of backends) {
      if (health?.state !== "down") continue;
      const id = `access_backend_down.${name}`;
      found.add(id);
      const summary = `${name}: ${health.detail ?? "it does not answer"}`;
      this.alarms.set({ id, severity: "error", title: "an access backend is down", summary });
    }
    this.clearOthers(this.backendIds, found);
  }

  /** Ends the alarms of `known` that are not in `found`, and remembers `found`. */
  private clearOthers(known: Set<string>, found: ReadonlySet<string>): void {
    for (const id of known) {
      if (found.has(id)) continue;
      known.delete(id);
      this.alarms.clear(id);
    }
    for (const id of found) known.add(id);
  }
}

/** Milliseconds of the wall clock; NaN when there is no certificate to be read. */
async function endOfCertificate(file: string): Promise<number> {
  try {
    return new X509Certificate(await readFile(file)).validToDate.getTime();
  } catch {
    return Number.NaN;
  }
}
