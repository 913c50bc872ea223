/**
 * What was changed in a running broker of several workers, so that one that is started again is as the others are.
 *
 *   config.set │ config.reload │ listeners.stop │ plugins.load │ traces.start ─ done by the workers ─► LiveChanges
 *   a worker is started again ◄─ `WorkerChanges`, before it serves anybody; traces when it is ready ◄─────────┘
 *
 * The keeper has it in memory: none of it outlives the broker, as none outlives a single process.
 */
import { readConfigText, type ConfigFlags } from "./config.ts";
import type { ParamsOf, ResultOf } from "./control.ts";

/** Texts of the configuration file; undefined where there was none. */
export interface ConfigTexts {
  /** As the broker started: what needs a restart is as it says. */
  readonly start?: string | undefined;
  /** As it was read again last. */
  readonly live?: string | undefined;
  /** The same, but all modules and plugins did what it says. */
  readonly plugins?: string | undefined;
}

/** Plain JSON. */
export interface WorkerChanges {
  readonly texts: ConfigTexts;
  /** Changed by request since, by path. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly closedListeners: readonly string[];
  /** Loaded or unloaded by hand, in this order. */
  readonly plugins: readonly { readonly name: string; readonly isOn: boolean }[];
}

type TraceRequest = ParamsOf<"traces.start">;

export class LiveChanges {
  /** Goes up when the configuration was read again. */
  reloadCount = 0;
  private texts: ConfigTexts;
  private values: Record<string, unknown> = {};
  private readonly closedListeners = new Set<string>();
  private readonly plugins = new Map<string, boolean>();
  private readonly traces = new Map<string, { readonly request: TraceRequest; readonly endsMs: number }>();

  constructor(private readonly flags: ConfigFlags) {
    const text = readConfigText(flags);
    this.texts = { start: text, live: text, plugins: text };
  }

  get ofWorker(): WorkerChanges {
    const { texts, values, closedListeners, plugins } = this;
    return {
      texts,
      values,
      closedListeners: [...closedListeners],
      plugins: [...plugins].map(([name, isOn]) => ({ name, isOn })),
    };
  }

  isClosed(listener: string): boolean {
    return this.closedListeners.has(listener);
  }

  /** An operation that workers have done. */
  note(operation: string, params: unknown, result: unknown): void {
    const { name } = params as { readonly name: string };
    switch (operation) {
      case "config.set":
        this.values = { ...this.values, ...(params as { values: Record<string, unknown> }).values };
        return;
      case "config.reload":
        return this.noteReload(result as ResultOf<"config.reload">);
      case "listeners.stop":
        return void this.closedListeners.add(name);
      case "listeners.start":
        return void this.closedListeners.delete(name);
      case "plugins.load":
      case "plugins.unload":
        this.plugins.delete(name);
        return void this.plugins.set(name, operation === "plugins.load");
      case "traces.start": {
        const { name: traceName, endsMs } = result as ResultOf<"traces.start">;
        return void this.traces.set(traceName, { request: params as TraceRequest, endsMs });
      }
      case "traces.stop":
        return void this.traces.delete(name);
    }
  }

  private noteReload({ failed }: ResultOf<"config.reload">): void {
    const live = readConfigText(this.flags);
    this.texts = { ...this.texts, live, ...(failed.length === 0 && { plugins: live }) };
    this.values = {};
    this.closedListeners.clear();
    this.reloadCount++;
  }

  /** What starts the traces that are still running. */
  tracesAt(nowMs: number): (TraceRequest & { readonly name: string })[] {
    for (const [name, { endsMs }] of this.traces) if (endsMs <= nowMs) this.traces.delete(name);
    return [...this.traces].map(([name, { request, endsMs }]) => ({
      ...request,
      name,
      secMax: Math.ceil((endsMs - nowMs) / 1000),
    }));
  }
}
