/**
 * A real server of a test's own: a folder under /tmp, a free port, an unprivileged user where it refuses to run as root, and
 * the four things that happen to servers: `freeze` and `thaw` (hung: connections are taken, nothing answers), `kill` (gone at
 * once, as after a power cut) and `start` again on the same data.
 *
 * It is told by its process id, its children too: PostgreSQL's serve the connections.
 */
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const START_MS_MAX = 30_000;
const STOP_MS_MAX = 10_000;
/** Of `nobody`, on Debian. */
const NOBODY = 65_534;

export interface ServerProgram {
  readonly name: string;
  /** The file that must be there. */
  readonly program: string;
  /** Then it is started as `nobody` where the tests run as root. */
  readonly refusesRoot: boolean;
  /** Makes the data in `folder`, once. */
  prepare(folder: string, run: Run): Promise<void>;
  command(folder: string, port: number): readonly string[];
  /** Rejects until the server answers. */
  ping(port: number): Promise<void>;
}

export type Run = (command: readonly string[], stdin?: string) => Promise<void>;

export class DatabaseServer implements AsyncDisposable {
  private child: Bun.Subprocess | undefined;

  private constructor(
    private readonly program: ServerProgram,
    readonly folder: string,
    readonly port: number,
  ) {}

  /** Prepared and started. Where it is not installed: undefined, and one line that says so; in CI nothing may be missing. */
  static async open(program: ServerProgram): Promise<DatabaseServer | undefined> {
    if (!existsSync(program.program)) {
      const why = `not installed: ${program.name} (${program.program})`;
      if (process.env["CI"] !== undefined) throw new Error(why);
      console.log(`SKIPPED: ${why}`);
      return undefined;
    }
    const folder = mkdtempSync(join(tmpdir(), "mantou-server-"));
    if (program.refusesRoot && isRoot()) chownSync(folder, NOBODY, NOBODY);
    const server = new DatabaseServer(program, folder, freePort());
    try {
      await program.prepare(folder, (command, stdin) => run(server.asUser(command), stdin));
      await server.start();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  /** Resolves when it answers. */
  async start(): Promise<void> {
    const log = Bun.file(join(this.folder, "server.log"));
    this.child = Bun.spawn(this.asUser(this.program.command(this.folder, this.port)), {
      stdin: "ignore",
      stdout: log,
      stderr: log,
      cwd: this.folder,
      env: { ...process.env, TMPDIR: this.folder },
    });
    const deadlineMs = performance.now() + START_MS_MAX;
    for (;;) {
      const fault = await this.program.ping(this.port).then(
        () => undefined,
        (error: unknown) => error as Error,
      );
      if (fault === undefined) return;
      const log = (): string => readFileSync(join(this.folder, "server.log"), "utf8").slice(-2000);
      if (this.child.exitCode !== null) throw new Error(`${this.program.name} did not start: ${log()}`);
      if (performance.now() > deadlineMs)
        throw new Error(`${this.program.name} does not answer (${fault.message}): ${log()}`);
      await Bun.sleep(50);
    }
  }

  /** Connections are still taken by the kernel; nobody answers. */
  freeze(): void {
    this.signal("SIGSTOP");
    if (!this.child) return;
    const { pid } = this.child;
    // A thread on another core may be about to answer still.
    const deadlineMs = performance.now() + STOP_MS_MAX;
    while (![pid, ...childrenOf(pid)].every(isStopped)) {
      if (performance.now() > deadlineMs) throw new Error(`${this.program.name} does not stop`);
      Bun.sleepSync(1);
      this.signal("SIGSTOP"); // one may have been made while the father was being stopped
    }
  }

  thaw(): void {
    this.signal("SIGCONT");
  }

  /** At once, without a farewell to those who are connected. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.child?.exited;
    this.child = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child && this.child.exitCode === null) {
      this.thaw();
      this.child.kill("SIGTERM");
      const isGone = await Promise.race([this.child.exited.then(() => true), Bun.sleep(STOP_MS_MAX).then(() => false)]);
      if (!isGone) await this.kill();
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  private asUser(command: readonly string[]): string[] {
    if (!this.program.refusesRoot || !isRoot()) return [...command];
    return ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--", ...command];
  }

  private signal(name: NodeJS.Signals): void {
    if (!this.child || this.child.exitCode !== null) return;
    const { pid } = this.child;
    // The father first when they stop, so that it makes no new ones.
    for (const one of [pid, ...childrenOf(pid)]) {
      try {
        process.kill(one, name);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
      }
    }
  }
}

function childrenOf(pid: number): number[] {
  const words = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return words === "" ? [] : words.split(" ").map(Number);
}

/** All of its threads; also one that has ended, which a stopped father does not bury. One that ends meanwhile: not yet. */
function isStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) => {
      const words = readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8");
      return /^[TZX]/.test(words.slice(words.lastIndexOf(")") + 2));
    });
  } catch {
    return false;
  }
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

async function run(command: readonly string[], stdin?: string): Promise<void> {
  const child = Bun.spawn([...command], {
    stdin: stdin === undefined ? "ignore" : Buffer.from(stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
  const words = Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const status = await child.exited;
  if (status !== 0) throw new Error(`${command[0]} ended with ${status}: ${(await words).join("\n").slice(-2000)}`);
}

/** Free a moment ago. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}

/** Rejects while nobody listens. */
export function ping(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.destroy();
      resolve();
    });
  });
}
