/**
 * The broker's process as the crash harness needs it: on a data directory of its own and a port that stays the same,
 * killed at any moment, also before it is ready; an end by itself is noticed.
 */
import { dirname, resolve } from "node:path";

export const SOURCE_ROOT: string = resolve(import.meta.dir, "../..");

const READY = /^mantou ready .*tcp:\/\/[^:]+:(\d+)/m;
const READY_MS = 60_000;
/** A busy machine is no reason to refuse clients whose fate is to be judged. */
const PATIENT = ["--set", "broker.lagMsMax=600000"];
const OUTPUT_CHARACTERS_MAX = 200_000;
/** Log lines that tell of the broker's own mistakes, or that it misunderstood a client which made none. */
const SUSPICIOUS = /^.*(\ba bug:| error .*|broke the protocol|panicked|Unhandled).*$/m;

export interface BrokerSpec {
  readonly dataDir: string;
  /** Of the source tree that is run: the checkout, or a copy with a planted bug. */
  readonly root?: string;
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** A command that becomes the broker, such as a tracer beside it: its process id is the broker's. */
  readonly prefix?: readonly string[];
  /** Another program in the broker's place, for a port; it is ready when it listens. */
  readonly other?: (port: number, dataDir: string) => readonly string[];
  /** Log lines that are no sign of a bug in this run, such as of a disk that was made to fail. */
  readonly expected?: RegExp;
}

/** None outlives a test run that was given up. */
const running = new Set<Bun.Subprocess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export class BrokerRun {
  /** Ended without having been killed: its exit code or signal. */
  unexpectedEnd: string | undefined;
  output = "";
  port = 0;
  readonly ended: Promise<void>;
  #isKilled = false;
  #isOver = false;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #wake = new Set<() => void>();

  constructor(
    private readonly spec: BrokerSpec,
    private readonly portWanted: number,
  ) {
    const { root = SOURCE_ROOT, flags = [], env = {}, prefix = [], other, dataDir } = spec;
    const listen = ["--listen", `tcp://127.0.0.1:${portWanted}`, "--data", dataDir, ...PATIENT];
    const own = [...prefix, process.execPath, `${root}/src/main.ts`, "start", ...listen, ...flags];
    const outer = Object.entries(process.env).filter(([name]) => !name.startsWith("MANTOU_"));
    this.#child = Bun.spawn(other === undefined ? own : [...other(portWanted, dataDir)], {
      cwd: dirname(dataDir),
      env: { ...Object.fromEntries(outer), ...env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    running.add(this.#child);
    const read = Promise.all([this.#read(this.#child.stdout), this.#read(this.#child.stderr)]);
    this.ended = this.#child.exited.then(async (code) => {
      running.delete(this.#child);
      await read;
      this.#isOver = true;
      if (!this.#isKilled) this.unexpectedEnd = String(this.#child.signalCode ?? code);
      for (const wake of this.#wake) wake();
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Resolves with true when it listens, with false when it ended before. Throws when it does neither in time. */
  async ready(): Promise<boolean> {
    const isReady = this.spec.other === undefined ? () => this.#readPort() : () => this.#isListening();
    const deadlineMs = performance.now() + READY_MS;
    while (!(await isReady())) {
      if (this.#isOver) return false;
      if (performance.now() > deadlineMs)
        throw new Error(`not ready within ${READY_MS} ms; it printed:\n${this.output}`);
      await this.#event(this.spec.other === undefined ? 200 : 10);
    }
    return true;
  }

  async kill(): Promise<void> {
    if (!this.#isOver) this.#isKilled = true;
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  /** SIGTERM, as an operator stops it. */
  async stop(): Promise<void> {
    this.#isKilled = true;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), READY_MS);
    await this.ended;
    clearTimeout(timer);
  }

  /** The first log line that no run should print. */
  suspiciousLine(): string | undefined {
    const lines = this.output.split("\n").filter((line) => SUSPICIOUS.test(line));
    return lines.find((line) => !this.spec.expected?.test(line));
  }

  #readPort(): boolean {
    const match = READY.exec(this.output);
    if (match !== null) this.port = Number(match[1]);
    return match !== null;
  }

  async #isListening(): Promise<boolean> {
    this.port = this.portWanted;
    const socket = { data() {}, error() {} };
    const probe = await Bun.connect({ hostname: "127.0.0.1", port: this.portWanted, socket }).catch(() => undefined);
    probe?.terminate();
    return probe !== undefined;
  }

  /** Resolves when something was printed or it ended, or after a while. */
  #event(timeoutMs: number): Promise<void> {
    const { promise, resolve: done } = Promise.withResolvers<void>();
    const timer = setTimeout(done, timeoutMs);
    this.#wake.add(done);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#wake.delete(done);
    });
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      if (this.output.length < OUTPUT_CHARACTERS_MAX) this.output += decoder.decode(chunk, { stream: true });
      for (const wake of this.#wake) wake();
    }
  }
}

/** For programs that cannot pick one themselves. */
export function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
