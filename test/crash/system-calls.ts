/**
 * A broker's system calls, from strace: `strace -D -f -xx` beside the broker, one line a call.
 *
 *   123 pwrite64(7, "\x37\x7f…", 4096, 56) = 4096          begun and ended at this line
 *   124 fdatasync(7 <unfinished ...>                        begun here,
 *   124 <... fdatasync resumed>) = 0                        ended here
 */

export interface SystemCall {
  readonly name: string;
  readonly fd: number;
  /** What was written, sent, or received; cut off at the tracer's limit. */
  readonly bytes: Buffer;
  readonly result: number;
  /** Lines, from 0. */
  readonly begun: number;
  readonly ended: number;
}

const CALLS = "read,write,writev,recvfrom,sendto,sendmsg,pwrite64,fsync,fdatasync";

/** A prefix of the broker's command line (`BrokerSpec.prefix`). */
export function tracePrefix(output: string): string[] {
  return ["strace", "-D", "-f", "-qq", "-xx", "-s", "100000", "-e", `trace=${CALLS}`, "-o", output];
}

/** Undefined where a process may be traced; else why not. */
export function traceMissing(): string | undefined {
  if (Bun.which("strace") === null) return "no strace";
  const { exitCode } = Bun.spawnSync(["strace", "-D", "-qq", "-o", "/dev/null", "true"]);
  return exitCode === 0 ? undefined : "tracing is not allowed";
}

/** In the order of their ends. */
export function parseTrace(text: string): SystemCall[] {
  const calls: SystemCall[] = [];
  const open = new Map<string, { readonly begun: number; readonly text: string }>();
  for (const [line, content] of text.split("\n").entries()) {
    const match = /^(\d+) +(.*)$/.exec(content);
    if (match === null) continue;
    const [, thread, rest] = match;
    const resumed = /^<\.\.\. (\w+) resumed>(.*)$/.exec(rest);
    if (rest.endsWith("<unfinished ...>")) {
      open.set(thread, { begun: line, text: rest.slice(0, -"<unfinished ...>".length) });
    } else if (resumed !== null) {
      const start = open.get(thread);
      open.delete(thread);
      if (start !== undefined) push(calls, start.text + resumed[2], start.begun, line);
    } else {
      push(calls, rest, line, line);
    }
  }
  return calls;
}

function push(calls: SystemCall[], text: string, begun: number, ended: number): void {
  const match = /^(\w+)\((\d+)[, ]*(.*)\) += (-?\d+)/.exec(text.trimEnd());
  if (match === null) return;
  const [, name, fd, rest, result] = match;
  const hex = [...rest.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(([, each]) => each.replaceAll("\\x", "")).join("");
  calls.push({ name, fd: Number(fd), bytes: Buffer.from(hex, "hex"), result: Number(result), begun, ended });
}
