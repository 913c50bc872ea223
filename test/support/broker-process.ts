/**
 * The real broker as a process of its own: what a user starts, with its exit code and its log.
 *
 *   await using broker = await startBroker();                      // port 0 on 127.0.0.1; killed when the scope ends
 *   const broker = await startBroker(["--set", "mqtt.qosMax=1"]);  // the flags of `mantou start`
 *   broker.port; broker.url; broker.addresses.get("tcp");
 *   await broker.line(/client connected/);                         // a log line, past or to come
 *   await broker.stop();                                           // SIGTERM; throws unless the exit code is 0
 *   await broker.kill();                                           // SIGKILL
 *
 * It runs in an empty folder, so no mantou.yaml of the checkout is read, and without this process's MANTOU_ variables.
 * What it printed is part of the error whenever something here fails.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

const ENTRY = resolve(import.meta.dir, "../../src/main.ts");
const START_MS = 30_000;
/** Runs every broker with so many workers. */
const WORKERS = process.env["MANTOU_TEST_WORKERS"];
const STOP_MS = 10_000;
/** On a machine with much else to do it would rightly refuse clients for a while. */
const PATIENCE = { MANTOU__BROKER__LAGMSMAX: "600000" };
const LINE_MS = 5000;
const READY = /^mantou ready(.*)|"msg":"mantou ready/;

/** A configuration file of a broker that keeps nothing and has no administration: `listeners` and what else there is to say. */
export function plainConfig(more: object): string {
  return JSON.stringify({ admin: { bind: "" }, store: { type: "memory" }, ...more });
}

export interface BrokerOptions {
  /** Of the listener on 127.0.0.1 that is opened when the flags name none and no file; 0, the default, picks a free one. */
  readonly port?: number;
  readonly env?: Readonly<Record<string, string>>;
  /** Written into the folder it runs in, by name. */
  readonly files?: Readonly<Record<string, string>>;
  /** What is run instead of this checkout's `bun src/main.ts`. */
  readonly command?: readonly string[];
}

export interface BrokerProcess extends AsyncDisposable {
  readonly pid: number;
  /** The folder it runs in; removed when it has ended. */
  readonly cwd: string;
  /** Listener name to address, such as `tcp://127.0.0.1:40123`, in the order of the ready line. */
  readonly addresses: ReadonlyMap<string, string>;
  /** The first listener's. */
  readonly url: string;
  readonly port: number;
  /** Resolves with the exit code, or the signal's name, when the process has ended. */
  readonly ended: Promise<number | string>;
  /** Everything printed so far, stdout and stderr as they came. */
  output(): string;
  /** The first output line that matches, already printed or awaited. */
  line(pattern: RegExp, timeoutMs?: number): Promise<string>;
  stop(): Promise<void>;
  kill(): Promise<void>;
}

/** Starts the broker and resolves when it has printed its ready line. */
export async function startBroker(flags: readonly string[] = [], options: BrokerOptions = {}): Promise<BrokerProcess> {
  const cwd = mkdtempSync(join(tmpdir(), "mantou-broker-"));
  for (const [name, text] of Object.entries(options.files ?? {})) {
    mkdirSync(dirname(join(cwd, name)), { recursive: true });
    writeFileSync(join(cwd, name), text);
  }
  const listen =
    flags.includes("--listen") || flags.includes("--config")
      ? flags.includes("--listen")
        ? []
        : ["--set", "admin.bind="]
      : ["--listen", `tcp://127.0.0.1:${options.port ?? 0}`];
  const workers = WORKERS === undefined || flags.includes("--workers") ? [] : ["--workers", WORKERS];
  const output = new Output();
  const command = [...(options.command ?? [process.execPath, ENTRY]), "start", ...listen, ...workers, ...flags];
  const child = Bun.spawn(command, {
    cwd,
    env: { ...ownEnvironment(), ...PATIENCE, ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const read = Promise.all([output.read(child.stdout), output.read(child.stderr)]);
  const ended = child.exited.then(async (code) => {
    await read;
    output.end();
    rmSync(cwd, { recursive: true, force: true });
    return child.signalCode ?? code;
  });
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };

  let addresses: ReadonlyMap<string, string>;
  try {
    addresses = parseReady(await output.line(READY, START_MS));
  } catch (error) {
    await kill();
    throw error;
  }
  const url = [...addresses.values()][0];
  return {
    pid: child.pid,
    cwd,
    addresses,
    url,
    port: Number(new URL(url).port),
    ended,
    output: () => output.text,
    line: (pattern, timeoutMs = LINE_MS) => output.line(pattern, timeoutMs),
    async stop() {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
      const how = await ended;
      clearTimeout(timer);
      if (how !== 0) throw new Error(`the broker ended with ${how}, not 0, after SIGTERM; it printed:\n${output.text}`);
    },
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

/** What a process printed: whole lines, in the order in which they were read, that can be awaited. */
class Output {
  text = "";
  #isOver = false;
  readonly #waiting = new Set<() => void>();

  async read(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of stream) {
      const read = rest + decoder.decode(chunk, { stream: true });
      const end = read.lastIndexOf("\n") + 1;
      this.text += read.slice(0, end);
      rest = read.slice(end);
      this.#wake();
    }
    if (rest !== "") this.text += `${rest}\n`;
  }

  end(): void {
    this.#isOver = true;
    this.#wake();
  }

  line(pattern: RegExp, timeoutMs: number): Promise<string> {
    const { promise, resolve: found, reject } = Promise.withResolvers<string>();
    const fail = (why: string): void => reject(new Error(`${why} before ${pattern}; it printed:\n${this.text}`));
    const look = (): void => {
      const line = this.text.split("\n").find((candidate) => pattern.test(candidate));
      if (line !== undefined) found(line);
      else if (this.#isOver) fail("the broker ended");
    };
    const timer = setTimeout(() => fail(`${timeoutMs} ms passed`), timeoutMs);
    this.#waiting.add(look);
    look();
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(look);
    });
  }

  #wake(): void {
    for (const look of this.#waiting) look();
  }
}

/** ` tcp=tcp://127.0.0.1:40123 admin=…`, or the same inside the JSON record. */
function parseReady(line: string): ReadonlyMap<string, string> {
  const record = line.startsWith("{") ? (JSON.parse(line) as { listeners: Record<string, string> }) : undefined;
  if (record !== undefined) return new Map(Object.entries(record.listeners));
  const words = (READY.exec(line)?.[1] ?? "").split(" ").filter(Boolean);
  return new Map(words.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]));
}

function ownEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("MANTOU_")));
}
