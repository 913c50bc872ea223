/**
 * A place that events go to, webhook or back end: a spool with a file of its own, its figures, its alarms, and what it says of itself.
 *
 *   event ─► spool (memory, disk) ─► send: the receiver's own ─► there
 *                └─► metrics with the label `target`, alarms `NAME.down` and `NAME.lost`, state for `mantou ctl`
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Counter, PluginApi } from "#plugins/plugin.ts";
import { type BrokerEvent, bytesOfEvent, decodeEvent, encodeEvent } from "./event.ts";
import { Journal, RESTARTED, RESTARTS_HELP } from "./journal.ts";
import { type LossReason, Spool, type SpoolLimits, type SpoolParts, type SpoolState } from "./spool.ts";

const LOOK_MS = 1000;
const DOWN_MS = 10_000;
const LOSS_QUIET_MS = 60_000;
const STOP_MS_MAX = 2000;
const REASONS: readonly LossReason[] = ["queue_full", "refused", "unreadable", "not_written"];

export class Outlet {
  private readonly spool: Spool<BrokerEvent>;
  private readonly losses: Readonly<Record<LossReason, Counter>>;
  private lostAtMs = -Infinity;
  private lostWords = "";

  private constructor(
    private readonly api: PluginApi,
    readonly name: string,
    limits: SpoolLimits,
    { journal, send }: Pick<SpoolParts<BrokerEvent>, "journal" | "send">,
  ) {
    const labels = { target: name };
    const counters = REASONS.map((reason) => [
      reason,
      api.counter("lost_total", "Events that were lost", { ...labels, reason }),
    ]);
    this.losses = Object.fromEntries(counters) as Record<LossReason, Counter>;
    const sent = api.counter("sent_total", "Events that the receiver has", labels);
    this.spool = new Spool<BrokerEvent>({
      limits,
      journal,
      send: async (batch, signal) => {
        await send(batch, signal);
        sent.add(batch.length);
      },
      bytesOf: bytesOfEvent,
      encode: encodeEvent,
      decode: decodeEvent,
      noteLoss: (count, reason, words) => this.noteLoss(count, reason, words),
    });
    const figure = (key: string, help: string, read: (state: SpoolState) => number): void =>
      void api.gauge(key, help, () => read(this.spool.state), labels);
    figure("waiting", "Events that wait in memory", ({ memoryCount }) => memoryCount);
    figure("disk_waiting", "Events that wait on disk", ({ diskCount }) => diskCount);
    figure("disk_bytes", "Bytes of events that wait on disk", ({ diskBytes }) => diskBytes);
    figure("down", "1 while the receiver fails", ({ failureCount }) => Math.min(1, failureCount));
    api.setInterval(() => this.look(), LOOK_MS);
  }

  static async open(
    api: PluginApi,
    name: string,
    limits: SpoolLimits,
    send: SpoolParts<BrokerEvent>["send"],
  ): Promise<Outlet> {
    const { sync } = api.broker;
    const isKept = sync !== "memory";
    const journal = await Journal.open(isKept ? join(api.dataDir, `${name}.db`) : ":memory:", isKept ? sync : "off");
    const tellDamage = (): void => {
      if (journal.damage !== undefined)
        api.log.error("a file of events was damaged; a new one is begun", { target: name, damage: journal.damage });
    };
    tellDamage();
    const restarts = api.counter("journal_restarts_total", RESTARTS_HELP, { target: name });
    journal.onReopen = () => {
      restarts.add();
      api.log.warn(RESTARTED, { target: name });
      tellDamage();
    };
    return new Outlet(api, name, limits, { journal, send });
  }

  get state(): SpoolState {
    return this.spool.state;
  }

  put(event: BrokerEvent): void {
    this.spool.put(event);
  }

  async stop(): Promise<void> {
    await this.spool.stop(STOP_MS_MAX);
    const { diskCount: count } = this.state;
    if (count > 0 && this.api.broker.sync === "memory")
      this.api.log.warn("events that were kept in memory are gone", { target: this.name, count });
  }

  private noteLoss(count: number, reason: LossReason, words: string): void {
    this.losses[reason].add(count);
    this.lostAtMs = performance.now();
    this.lostWords = `${reason}: ${words}`;
    this.api.log.warn("events are lost", { target: this.name, reason, words });
  }

  private look(): void {
    const { failingMs, fault, memoryCount, diskCount, lostCount } = this.spool.state;
    const isDown = failingMs >= DOWN_MS;
    const waiting = `${memoryCount + diskCount} events wait`;
    const down = {
      severity: "error",
      title: "a receiver of events does not take them",
      summary: `${fault}; ${waiting}`,
    } as const;
    this.api.alarm(`${this.name}.down`, isDown ? down : undefined);
    const isLosing = performance.now() - this.lostAtMs < LOSS_QUIET_MS;
    const lost = {
      severity: "error",
      title: "events are lost",
      summary: `${lostCount} so far; ${this.lostWords}`,
    } as const;
    this.api.alarm(`${this.name}.lost`, isLosing ? lost : undefined);
  }
}

/** Says what is on disk for receivers that the configuration knows no more. */
export function tellOrphans(api: PluginApi, names: readonly string[]): void {
  if (api.broker.sync === "memory") return;
  const files = readdirSync(api.dataDir).filter((file) => file.endsWith(".db") && !names.includes(file.slice(0, -3)));
  for (const file of files)
    api.log.warn("there are events on disk for a target that the configuration does not name", {
      file: join(api.dataDir, file),
    });
}

/** `mantou ctl NAME status`. */
export function offerStatus(api: PluginApi, outlets: readonly Outlet[]): void {
  api.command({
    name: api.name,
    usage: "status",
    description: "how its receivers fare",
    isEverywhere: true,
    run: () => ({
      targets: outlets.map(({ name, state }) => ({
        name,
        worker: api.broker.worker,
        state: state.failureCount === 0 ? "up" : "down",
        ...state,
        failingMs: Math.round(state.failingMs),
      })),
    }),
  });
}
