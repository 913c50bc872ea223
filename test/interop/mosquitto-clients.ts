/** mosquitto_pub, mosquitto_sub and mosquitto_rr, each a process that is awaited. */
import { readLines, run } from "./fixture.ts";
import { Inbox } from "./inbox.ts";
import type { Version } from "./pass-table.ts";

const names = { "3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5" } as const;
/** Ends a client whose messages do not come, long after the test has given up. */
const WAIT_SEC = "20";

export interface Target {
  readonly port: number;
  readonly version: Version;
}

function base(program: string, { port, version }: Target): string[] {
  // Line by line also when stdout is a pipe.
  return ["stdbuf", "-oL", program, "-h", "127.0.0.1", "-p", String(port), "-V", names[version]];
}

export async function publish(
  target: Target,
  topic: string,
  message: string,
  more: readonly string[] = [],
): Promise<void> {
  await run([...base("mosquitto_pub", target), "-t", topic, "-m", message, ...more]);
}

/** `how` is -s for the whole input as one message, or -l for one message a line. */
export async function publishStdin(
  target: Target,
  topic: string,
  stdin: string,
  how: readonly string[],
): Promise<void> {
  await run([...base("mosquitto_pub", target), "-t", topic, ...how], stdin);
}

/** Prints the answer. */
export function request(
  target: Target,
  topics: readonly [ask: string, answer: string],
  more: readonly string[],
): Promise<string> {
  const [ask, answer] = topics;
  return run([...base("mosquitto_rr", target), "-t", ask, "-e", answer, "-W", WAIT_SEC, ...more]);
}

/** A running mosquitto_sub; its messages come as lines in `format` (`%t %q %r %p`: topic, QoS, retain, payload). */
export class Subscriber implements AsyncDisposable {
  readonly messages = new Inbox<string>();
  readonly #child: Bun.Subprocess<"ignore", "pipe", "inherit">;
  readonly #subscribed = Promise.withResolvers<void>();
  readonly ended: Promise<number>;

  private constructor(command: string[]) {
    this.#child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    const read = readLines(this.#child.stdout, (line) => {
      if (line.startsWith("MESSAGE ")) this.messages.push(line.slice("MESSAGE ".length));
      if (line.startsWith("Subscribed ")) this.#subscribed.resolve();
    });
    this.ended = Promise.all([this.#child.exited, read]).then(([code]) => {
      this.#subscribed.reject(new Error(`mosquitto_sub ended with ${code} before SUBACK`));
      return code;
    });
    // Whoever waits for SUBACK hears of it; nobody else must.
    this.#subscribed.promise.catch(() => {});
  }

  /** Resolves after SUBACK. */
  static async start(
    target: Target,
    filter: string,
    more: readonly string[] = [],
    format = "%t %q %r %p",
  ): Promise<Subscriber> {
    const options = ["-d", "-t", filter, "-W", WAIT_SEC, "-F", `MESSAGE ${format}`, ...more];
    const subscriber = new Subscriber([...base("mosquitto_sub", target), ...options]);
    await subscriber.#subscribed.promise;
    return subscriber;
  }

  next(): Promise<string> {
    return this.messages.next();
  }

  /** SIGTERM: mosquitto_sub sends DISCONNECT and ends. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.ended;
  }

  /** Ends it without a DISCONNECT. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
