/** What every interop file needs: one broker per file, and foreign programs that are there or whose absence is told. */
import { afterAll, beforeAll, expect } from "bun:test";
import { type BrokerProcess, startBroker } from "#test/support/broker-process.ts";

const FOREIGN_MS = 20_000;

/** A broker for all tests of the file. When the file ends it must end well, having met no bug of its own. */
export function brokerOfFile(flags: readonly string[] = []): () => BrokerProcess {
  let broker: BrokerProcess | undefined;
  beforeAll(async () => {
    broker = await startBroker(flags);
  });
  afterAll(async () => {
    await broker?.stop();
    expect(broker?.output()).not.toContain("a bug:");
  });
  return () => {
    if (broker === undefined) throw new Error("the broker runs only inside tests");
    return broker;
  };
}

/** Undefined when all programs are there; else why the tests are skipped. In CI nothing may be missing. */
export function missing(programs: readonly string[]): string | undefined {
  const absent = programs.filter((program) => Bun.which(program) === null);
  if (absent.length === 0) return undefined;
  const why = `not installed: ${absent.join(", ")}`;
  if (process.env["CI"] !== undefined) throw new Error(why);
  return why;
}

/** Runs a foreign program to its end and returns its stdout. Throws with all it printed unless it exits with 0. */
export async function run(command: readonly string[], stdin = ""): Promise<string> {
  const child = Bun.spawn([...command], {
    stdin: Buffer.from(stdin),
    stdout: "pipe",
    stderr: "pipe",
    timeout: FOREIGN_MS,
  });
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (status !== 0) throw new Error(`${command.join(" ")}\nended with ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Calls back with each line of the stream, without its end. */
export async function readLines(stream: ReadableStream<Uint8Array>, onLine: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  }
  if (rest !== "") onLine(rest);
}

/** A string no other test uses, for client ids and topics on the file's shared broker. */
export function unique(word: string): string {
  return `${word}-${++uniqueCount}`;
}

let uniqueCount = 0;
