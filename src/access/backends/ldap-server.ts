/**
 * Connections to a directory, one question on each at a time.
 *
 *   run ─► an idle connection, else a new one ─► its questions answered: idle again
 *                                              ─► lost, or given up by its signal: closed, and all that are idle with it
 *
 * A connection is bound as somebody: questions of two clients never share one at the same time. It is used for one socket
 * only. The library would quietly connect anew, without TLS and as nobody, and send a password over that; so a second
 * connect is an error.
 *
 * Of several servers one is used until it fails, then the next. How many connections there are is bounded by who calls:
 * `RemoteGuard` runs so many at a time.
 */
import { Client, type Entry, ResultCodeError } from "ldapts";
import { readFileSync } from "node:fs";
import { connect, isIP, type Socket } from "node:net";
import { isAbsolute, join } from "node:path";
import { type ConnectionOptions, connect as connectSecurely } from "node:tls";
import { z } from "zod";
import type { BackendParts } from "#access/backend.ts";
import { flag, secret, text } from "#access/option.ts";
import { AnsweredFault } from "#access/remote-guard.ts";
import { MantouError } from "#base/error.ts";

const urlError = "a list of ldap://host:port or ldaps://host:port";

export const ldapServerOptions = {
  servers: z
    .array(
      z.string({ error: urlError }).refine((url) => isServerUrl(url), { error: urlError }),
      { error: urlError },
    )
    .min(1, { error: urlError })
    .default(["ldap://127.0.0.1:389"])
    .meta({ description: "one is used until it fails, then the next" }),
  startTls: flag("ldap://: passwords are sent only after StartTLS, and the server's name must be right").default(false),
  caFile: text("PEM: who may have signed the servers' certificates; unset: those whom the system trusts").optional(),
  bindDn: text("whom the broker is to the server, for searches; unset: nobody").optional(),
  bindPassword: secret("this entry's password").optional(),
};

const ldapServerOptionsSchema = z.strictObject(ldapServerOptions);
type LdapServerOptions = z.output<typeof ldapServerOptionsSchema>;

/** A connection that nobody has used for that long may have been forgotten by something on the way. */
const IDLE_MS_MAX = 60_000;

/** Result codes of a server that is there and cannot serve: busy, unavailable. */
const AWAY: ReadonlySet<number> = new Set([51, 52]);

/** RFC 4511 §4.1.9: the name or password is wrong, or this entry may not log in. */
const REFUSALS: ReadonlySet<number> = new Set([
  19, // constraintViolation: locked out
  32, // noSuchObject
  34, // invalidDNSyntax
  48, // inappropriateAuthentication: the entry has no password
  49, // invalidCredentials
  53, // unwillingToPerform
]);

interface LdapSearch {
  readonly base: string;
  readonly scope: "base" | "one" | "sub";
  readonly filter: string;
  readonly attributes: readonly string[];
  /** As many are returned at most, without an error; unset: the server's limit, with one. */
  readonly countMax?: number;
}

export class LdapServer {
  readonly counts = { connected: 0, closed: 0 };
  private idle: LdapConnection[] = [];
  private readonly busy = new Set<LdapConnection>();
  private at = 0;
  private ca: string | undefined;
  private bindPassword = "";

  constructor(
    private readonly options: LdapServerOptions,
    private readonly deadlineMs: number,
    private readonly parts: BackendParts,
  ) {
    const refuse = (words: string): never => {
      throw new MantouError("access_invalid", `access: ${parts.name}: ${words}`);
    };
    if ((options.bindDn === undefined) !== (options.bindPassword === undefined))
      refuse("found one of bindDn, bindPassword, allowed: both");
    if (options.startTls && options.servers.some((url) => url.startsWith("ldaps:")))
      refuse("found startTls with ldaps://, allowed: one of them");
  }

  get hasOwnName(): boolean {
    return this.options.bindDn !== undefined;
  }

  /** Throws MantouError where a secret or a file is missing. */
  check(): void {
    this.start();
  }

  /** Throws as `check`. */
  start(): void {
    const { caFile, bindPassword } = this.options;
    this.bindPassword = bindPassword?.reveal() ?? "";
    if (caFile === undefined) return;
    const path = isAbsolute(caFile) ? caFile : join(this.parts.baseDir, caFile);
    try {
      this.ca = readFileSync(path, "utf8");
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? "not readable";
      throw new MantouError("access_invalid", `access: ${this.parts.name}: caFile: ${path}: ${code}`);
    }
  }

  tryOut(signal: AbortSignal): Promise<unknown> {
    return this.run(signal, (connection) => connection.bindAsBroker());
  }

  stop(): void {
    for (const connection of [...this.busy, ...this.idle.splice(0)]) this.close(connection);
    this.busy.clear();
  }

  /** Rejects with what `work` or the way to the server has failed by. */
  async run<T>(signal: AbortSignal, work: (connection: LdapConnection) => Promise<T>): Promise<T> {
    const connection = this.take();
    this.busy.add(connection);
    const giveUp = (): void => connection.destroy();
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      await connection.open();
      const result = await work(connection);
      if (this.busy.delete(connection)) this.release(connection);
      return result;
    } catch (error) {
      if (this.busy.delete(connection)) this.lose(connection);
      const words = `${connection.url}: ${(error as Error).message.split("\n", 1)[0]}`;
      const isAnswered = error instanceof ResultCodeError && !AWAY.has(error.code);
      throw isAnswered ? new AnsweredFault(words) : new Error(words);
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  private take(): LdapConnection {
    for (;;) {
      const connection = this.idle.pop();
      if (!connection) break;
      if (connection.isUsable) return connection;
      this.close(connection);
    }
    const { servers, startTls, bindDn = "" } = this.options;
    const url = servers[this.at % servers.length];
    this.counts.connected++;
    return new LdapConnection(url, this.deadlineMs, tlsOptions(url, this.ca), startTls, [bindDn, this.bindPassword]);
  }

  private release(connection: LdapConnection): void {
    connection.usedMs = performance.now();
    this.idle.push(connection);
    while (this.idle.length > 0 && !this.idle[0].isUsable) this.close(this.idle.shift()!);
  }

  private lose(connection: LdapConnection): void {
    const { servers } = this.options;
    if (connection.url === servers[this.at % servers.length]) this.at++;
    for (const one of [connection, ...this.idle.splice(0)]) this.close(one);
  }

  private close(connection: LdapConnection): void {
    this.counts.closed++;
    connection.destroy();
  }
}

type Identity = "nobody" | "broker" | "somebody";

class LdapConnection {
  usedMs = 0;
  private readonly client: Client;
  private socket: Socket | undefined;
  private identity: Identity = "nobody";
  private isOpen = false;
  private isGone = false;

  constructor(
    readonly url: string,
    deadlineMs: number,
    private readonly tls: ConnectionOptions,
    private readonly usesStartTls: boolean,
    private readonly own: readonly [dn: string, password: string],
  ) {
    this.client = new Client({
      url,
      timeout: deadlineMs,
      connectTimeout: deadlineMs,
      // Given, it means TLS from the first byte.
      ...(url.startsWith("ldaps:") && { tlsOptions: tls }),
      createConnection: ((port: number, host: string) =>
        this.only(() => connect({ port, host, keepAlive: true }))) as typeof connect,
      createSecureConnection: ((...args: [number, string, ConnectionOptions] | [ConnectionOptions]) =>
        // StartTLS has a socket already.
        args.length === 1
          ? connectSecurely(args[0])
          : this.only(() => connectSecurely(args[0], args[1], args[2]))) as typeof connectSecurely,
    });
  }

  get isUsable(): boolean {
    return !this.isGone && performance.now() - this.usedMs < IDLE_MS_MAX;
  }

  async open(): Promise<void> {
    if (this.isOpen) return;
    if (this.usesStartTls) await this.client.startTLS({ ...this.tls });
    this.isOpen = true;
  }

  /** True when it is this entry's password. Rejects when the server cannot say. */
  async bind(dn: string, password: string): Promise<boolean> {
    // The library takes such a name for a SASL mechanism, and a server takes an empty password for nobody's.
    if (/^[A-Z0-9-]*$/.test(dn) || password === "") return false;
    return this.become("somebody", dn, password);
  }

  /** What follows is asked as the broker's own entry, or as nobody where it has none. */
  async bindAsBroker(): Promise<void> {
    const [dn, password] = this.own;
    const identity = dn === "" ? "nobody" : "broker";
    if (this.identity === identity) return;
    if (!(await this.become(identity, dn, password))) throw new Error(`bindDn ${dn}: refused by the server`);
  }

  async search({ base, scope, filter, attributes, countMax }: LdapSearch): Promise<Entry[]> {
    const { searchEntries } = await this.client.search(base, {
      scope,
      filter,
      attributes: [...attributes],
      ...(countMax !== undefined && { sizeLimit: countMax }),
    });
    return searchEntries;
  }

  destroy(): void {
    this.isGone = true;
    this.socket?.destroy(new Error("given up"));
  }

  private async become(identity: Identity, dn: string, password: string): Promise<boolean> {
    // After a refusal it is nobody, and so it is while the answer is not there.
    this.identity = "nobody";
    try {
      await this.client.bind(dn, password);
    } catch (error) {
      if (error instanceof ResultCodeError && REFUSALS.has(error.code)) return false;
      throw error;
    }
    this.identity = identity;
    return true;
  }

  private only(make: () => Socket): Socket {
    if (this.socket !== undefined || this.isGone) throw new Error("the connection was lost");
    this.socket = make();
    this.socket.once("close", () => (this.isGone = true));
    return this.socket;
  }
}

function isServerUrl(url: string): boolean {
  if (!/^ldaps?:\/\/[^/?#@\s]+\/?$/.test(url) || !URL.canParse(url)) return false;
  return new URL(url).hostname !== "";
}

function tlsOptions(url: string, ca: string | undefined): ConnectionOptions {
  const host = new URL(url).hostname.replace(/^\[|\]$/g, "");
  return {
    host,
    rejectUnauthorized: true,
    ...(ca !== undefined && { ca }),
    ...(isIP(host) === 0 && { servername: host }),
  };
}
