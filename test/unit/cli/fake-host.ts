/** A process that is only written down: what the command line prints, and the signals and faults a test sends it. */
import { formatBind } from "#broker/bind-address.ts";
import type { Config } from "#broker/config.ts";
import type { Host, RunningBroker, StopSignal } from "#cli/host.ts";

export class FakeHost implements Host {
  stdout = "";
  stderr = "";
  readonly exits: number[] = [];
  readonly started: Config[] = [];
  readonly files: Record<string, string> = {};
  readonly env: Record<string, string> = {};
  readonly config: Host["config"];
  startBroker: Host["startBroker"];
  #signal: ((signal: StopSignal) => void) | undefined;
  #reload: (() => void) | undefined;
  #fault: ((fault: unknown) => void) | undefined;
  readonly #ready = Promise.withResolvers<void>();

  constructor(broker: Partial<RunningBroker> = {}) {
    this.config = {
      env: this.env,
      cwd: "/site",
      readFile: (path) => {
        const text = this.files[path];
        if (text === undefined) throw Object.assign(new Error("none"), { code: "ENOENT" });
        return text;
      },
    };
    this.startBroker = async (config) => {
      this.started.push(config);
      const addresses = config.listeners.map(
        ({ bind: { host, port } }, index) => `tcp://${formatBind({ host, port: port === 0 ? 40_000 + index : port })}`,
      );
      const failed = new Promise<Error>(() => {});
      return { addresses, failed, stop: async () => {}, reload: async () => {}, ...broker };
    };
  }

  async runWorker(): Promise<never> {
    throw new Error("no process here");
  }

  /** Resolves when the ready line has been printed. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  out(text: string): void {
    this.stdout += text;
  }

  err(text: string): void {
    this.stderr += text;
  }

  logOutput() {
    return {
      write: (line: string) => {
        this.stdout += line;
        if (line.includes("mantou ready")) this.#ready.resolve();
      },
    };
  }

  onSignal(handler: (signal: StopSignal) => void): void {
    this.#signal = handler;
  }

  onReload(handler: () => void): void {
    this.#reload = handler;
  }

  reload(): void {
    this.#reload?.();
  }

  onFault(handler: (fault: unknown) => void): void {
    this.#fault = handler;
  }

  readonly served: string[] = [];

  notePid(dir: string): () => void {
    this.served.push(dir);
    return () => void this.served.splice(this.served.indexOf(dir), 1);
  }

  kill(): void {}

  detach: Host["detach"] = () => Promise.reject(new Error("not here"));

  exit(code: number): void {
    this.exits.push(code);
  }

  signal(signal: StopSignal): void {
    this.#signal?.(signal);
  }

  /** Whether anybody catches what nobody caught. */
  fault(fault: unknown): boolean {
    this.#fault?.(fault);
    return this.#fault !== undefined;
  }
}
