/**
 * The way to Redis: one server, the master that sentinels name, or a cluster.
 *
 *   ask ─► connected? ─no─► wait, until connecting has failed ─► one command, one answer
 *              │                                              ─► WRONGTYPE: `WrongType`, the server is none the worse
 *              └ yes                                          ─► else a failure
 *
 * All commands share one connection (in a cluster, one a node) and are answered in order, so a command that has no answer
 * within the guard's deadline means that nobody behind it has one: the connection is closed and made anew. Nothing is
 * queued for a server that is away and nothing is sent twice: what waits is bounded by `RemoteGuard` alone.
 *
 * Leaves out reading from replicas.
 */
import { Cluster, Redis } from "ioredis";
import { readFileSync } from "node:fs";
import { z } from "zod";
import { choice, secret, text, wholeNumber } from "#access/option.ts";
import { MantouError } from "#base/error.ts";
import { pathOf, type ServerPlace } from "./sql-server.ts";

const addressError = "host:port, such as 127.0.0.1:6379 or [::1]:6379";
const ADDRESS = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<host>[^\s:[\]]+)):(?<port>\d{1,5})$/;

export const redisServerOptions = z
  .strictObject({
    mode: choice(["single", "sentinel", "cluster"], "what stands at the addresses").default("single"),
    addresses: z
      .array(z.string({ error: addressError }).regex(ADDRESS, { error: addressError }), {
        error: `a list of ${addressError}`,
      })
      .min(1, { error: `a list of ${addressError}` })
      .default(["127.0.0.1:6379"])
      .meta({ description: "single: the server; sentinel: some sentinels; cluster: some nodes" }),
    master: text("sentinel: the name of the group of servers").optional(),
    database: wholeNumber(0, 1_000_000, "number of the database; in a cluster 0").default(0),
    username: text("whom the broker is to the server; unset: Redis's `default`").optional(),
    password: secret("this user's password").optional(),
    sentinelPassword: secret("sentinel: the password of the sentinels").optional(),
    tls: choice(["off", "verify"], "verify: TLS, and the certificate and its name must be right").default("off"),
    caFile: text("PEM: who may have signed it; unset: those whom the system trusts").optional(),
  })
  .prefault({});

export type RedisServerOptions = z.output<typeof redisServerOptions>;

/** The key has a value of another kind than the command reads. */
export class WrongType extends Error {}

const RETRY_MS_MAX = 1000;

export class RedisServer {
  readonly counts = { connected: 0, lost: 0 };
  private client: Redis | Cluster | undefined;

  /** Throws MantouError `access_invalid` where options do not fit each other. */
  constructor(
    private readonly options: RedisServerOptions,
    private readonly deadlineMs: number,
    private readonly place: ServerPlace,
  ) {
    const { mode, master, sentinelPassword, addresses, database } = options;
    const refuse = (words: string): never => {
      throw new MantouError("access_invalid", `${place.label}: server: ${words}`);
    };
    if ((mode === "sentinel") !== (master !== undefined)) refuse("allowed: master with mode sentinel, and only there");
    if (mode !== "sentinel" && sentinelPassword) refuse("found sentinelPassword, allowed: with mode sentinel");
    if (mode === "single" && addresses.length > 1)
      refuse(`found ${addresses.length} addresses, allowed: one, or mode sentinel or cluster`);
    if (mode === "cluster" && database !== 0) refuse(`found database ${database}, allowed in a cluster: 0`);
  }

  /** Throws MantouError where a secret or a file is missing. Nothing is connected. */
  check(): void {
    this.open();
  }

  /** Throws as `check`. A server that is away is looked for again and again. */
  start(): void {
    const client = this.open();
    this.client = client;
    // Who waits hears of it; without a listener it would be printed.
    client.on("error", () => {});
    client.setMaxListeners(0);
    client.on("ready", () => this.counts.connected++);
    client.on("close", () => this.counts.lost++);
    client.connect().catch(() => {});
  }

  tryOut(signal: AbortSignal): Promise<unknown> {
    return this.ask(["PING"], signal);
  }

  stop(): void {
    this.client?.disconnect();
  }

  /** `words` are the command and its arguments, each one whole. Rejects with WrongType, or with what failed. */
  async ask(words: readonly (string | Buffer)[], signal: AbortSignal): Promise<unknown> {
    const client = this.client!;
    await this.whenReady(client, signal);
    const [name, ...args] = words;
    try {
      return await client.call(String(name), ...args);
    } catch (error) {
      const { message } = error as Error;
      if (message.startsWith("WRONGTYPE ")) throw new WrongType(message);
      throw error;
    }
  }

  /** Rejects when connecting fails, which is then tried again, or when nothing has come of it until `signal`. */
  private whenReady(client: Redis | Cluster, signal: AbortSignal): Promise<void> {
    if (client.status === "ready") return Promise.resolve();
    return new Promise((resolve, reject) => {
      const settle = (error?: Error): void => {
        client.off("ready", handleReady);
        client.off("error", settle);
        signal.removeEventListener("abort", handleAbort);
        if (error) reject(error);
        else resolve();
      };
      const handleReady = (): void => settle();
      const handleAbort = (): void => settle(new Error("not connected"));
      client.on("ready", handleReady);
      client.on("error", settle);
      signal.addEventListener("abort", handleAbort, { once: true });
    });
  }

  private open(): Redis | Cluster {
    const { mode, master, addresses, database, username, password, sentinelPassword } = this.options;
    const nodes = addresses.map(parseAddress);
    const tls = this.tls();
    const retry = (times: number): number => Math.min(50 * 2 ** Math.min(times, 10), RETRY_MS_MAX);
    const common = {
      lazyConnect: true,
      ...(username !== undefined && { username }),
      ...(password && { password: password.reveal() }),
      ...(tls && { tls }),
      db: database,
      connectTimeout: this.deadlineMs,
      // No answer for that long while one is due: the connection is given up.
      socketTimeout: this.deadlineMs,
      // What was under way when the connection was lost has failed.
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      disableClientInfo: true,
      protocol: 2 as const,
    };
    if (mode === "cluster")
      return new Cluster(nodes, {
        redisOptions: common,
        lazyConnect: true,
        enableOfflineQueue: false,
        clusterRetryStrategy: retry,
        slotsRefreshTimeout: this.deadlineMs,
      });
    const one = { ...common, enableOfflineQueue: false, retryStrategy: retry };
    if (mode === "single") return new Redis({ ...one, ...nodes[0] });
    return new Redis({
      ...one,
      sentinels: nodes,
      name: master!,
      ...(sentinelPassword && { sentinelPassword: sentinelPassword.reveal() }),
      ...(tls && { sentinelTLS: tls, enableTLSForSentinelMode: true }),
      sentinelRetryStrategy: retry,
      sentinelCommandTimeout: this.deadlineMs,
    });
  }

  private tls(): { ca?: string; rejectUnauthorized: true } | undefined {
    const { tls, caFile } = this.options;
    if (tls === "off") return undefined;
    if (caFile === undefined) return { rejectUnauthorized: true };
    const path = pathOf(caFile, this.place);
    try {
      return { ca: readFileSync(path, "utf8"), rejectUnauthorized: true };
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "not readable";
      throw new MantouError("access_invalid", `${this.place.label}: caFile: ${path}: ${code}`);
    }
  }
}

function parseAddress(words: string): { host: string; port: number } {
  const { v6, host, port } = ADDRESS.exec(words)!.groups!;
  return { host: v6 ?? host, port: Number(port) };
}
