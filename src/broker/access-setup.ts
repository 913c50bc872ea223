/**
 * The configuration's `access` section becomes a chain of started backends, with the bans before it.
 *
 *   makeAccess ─► start ─► attach(engine) ─► tick, once a second ─► stop
 *
 * Without any of it being configured the chain is open and keeps no account of the clients: what it costs then is one
 * look at the bans per CONNECT.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { AccessDb, type Ban } from "#access/access-db.ts";
import { AttemptLimit } from "#access/attempt-limit.ts";
import { backendKinds } from "#access/backend-table.ts";
import type { Backend, BackendHealth, BackendKind, ClientMatch } from "#access/backend.ts";
import { BanList } from "#access/ban-list.ts";
import { AccessChain } from "#access/chain.ts";
import type { Denial, Member } from "#access/chain-options.ts";
import { Flapping } from "#access/flapping.ts";
import { PasswordChecker } from "#access/password.ts";
import { ADMINISTRATIVE_ACTION } from "#access/reason.ts";
import { MantouError } from "#base/error.ts";
import { UserTable } from "#access/user-table.ts";
import type { Engine } from "#core/engine.ts";
import type { ClientInfo } from "#core/ports.ts";
import { type AccessConfig, type BackendConfig, SAME } from "./access-schema.ts";
import type { LimitedLog } from "./limited-log.ts";
import type { Logger } from "./log.ts";

export interface AccessRequest {
  readonly config: AccessConfig;
  /** Where `access.db` stands, or comes to stand with the first user or ban. */
  readonly dataDir: string;
  /** Relative paths in the configuration start here. */
  readonly baseDir: string;
  readonly log: Logger;
  readonly limitedLog: LimitedLog;
  readonly seed: number;
  /** Says at the start what is open: one of several processes does. */
  readonly isSpeaker: boolean;
  readonly nowSec: () => number;
}

/** A backend as it is shown: by the log, REST, the dashboard. No secrets. */
export interface BackendReport {
  /** As configured, or its type. */
  readonly name: string;
  readonly type: string;
  readonly roles: readonly ("authenticate" | "authorize")[];
  readonly health: BackendHealth;
}

/** One that has nothing that could be away. */
const ALWAYS_UP: BackendHealth = { state: "up", counts: {} };

/** Clients whose subscriptions are judged again in one turn. */
const REVIEW_COUNT = 100;

type NamedBackend = Member & { readonly name: string; readonly type: string };

/** Ends the connections of the clients that are meant; returns how many. */
export type EndWhere = (isMeant: (client: ClientInfo) => boolean, reasonCode: number) => number;

export class AccessSetup {
  readonly chain: AccessChain;
  readonly passwords: PasswordChecker;
  readonly bans: BanList;
  /** Users and client ids of `access.db`, for CLI and REST; who loses a right is disconnected. */
  readonly users: UserTable;
  private readonly members: readonly NamedBackend[];
  private readonly lists: Readonly<Record<"authenticate" | "authorize", readonly NamedBackend[]>>;
  private readonly flapping: Flapping | undefined;
  private readonly attempts: AttemptLimit | undefined;
  private endWhere: EndWhere = () => 0;
  private engine: Engine | undefined;
  private isWatching = false;
  private openedDb: AccessDb | undefined;
  /** Clients whose subscriptions are to be judged again. */
  private toReview: ClientInfo[] = [];

  /** Throws MantouError when a backend's options make no sense. Nothing is opened but an `access.db` that is there. */
  constructor(private readonly request: AccessRequest) {
    const { config, nowSec } = request;
    this.passwords = new PasswordChecker({ waitingMax: config.hashWaitingMax });
    this.users = new UserTable(
      () => this.db,
      this.passwords,
      () => this.readAgain(nowSec()),
    );
    if (existsSync(this.dbPath)) this.openDb();
    const authenticate = config.authenticate.map((entry) => this.make(entry));
    const authorize = config.authorize.map((entry) =>
      entry.type === SAME ? sameAs(entry, authenticate) : this.make(entry),
    );
    this.lists = { authenticate, authorize };
    this.members = [...new Set([...authenticate, ...authorize])];
    this.bans = new BanList(this.openedDb, nowSec());
    const { failureCountMax, failureWindowSec: windowSec, failureDelaySecMax: delaySecMax } = config;
    if (delaySecMax > 0) this.attempts = new AttemptLimit({ failureCountMax, windowSec, delaySecMax });
    const { flappingCountMax: countMax, flappingWindowSec, flappingBanSec: banSec } = config;
    if (countMax > 0)
      this.flapping = new Flapping({ countMax, windowSec: flappingWindowSec, banSec }, (ban) => this.banOrLog(ban));
    this.chain = new AccessChain({
      ...config,
      authenticate,
      authorize,
      seed: request.seed,
      nowSec: nowSec(),
      passwords: this.passwords,
      bans: this.bans,
      attempts: this.attempts,
      kick: (clientId, reasonCode) => this.kick(clientId, reasonCode),
      onDenied: (denial) => {
        this.logDenial(denial);
        const { clientDenied } = this.engine?.hooks ?? {};
        if (clientDenied?.isUsed) clientDenied.run(denial.client, denial.kind, denial.topic, denial.reasonCode);
      },
      onBug: (error) => request.limitedLog.write("error", "access", "a bug: an access backend failed", { err: error }),
    });
  }

  /** True when everybody is let in and nobody ever has to be found again. */
  get isAnonymous(): boolean {
    return this.chain.isOpen && this.members.every(({ type }) => type === "anonymous");
  }

  /** Opened when it is first needed. */
  get db(): AccessDb {
    return this.openedDb ?? this.openDb();
  }

  /** Rejects with the MantouError of a backend that can never work; those that had started are stopped again. */
  async start(): Promise<void> {
    const started: Backend[] = [];
    try {
      for (const { backend } of this.members) {
        await backend.start?.();
        started.push(backend);
      }
    } catch (error) {
      for (const backend of started) await backend.stop?.();
      throw error;
    }
    const { log, isSpeaker } = this.request;
    if (!isSpeaker) return;
    if (this.members.some(({ type }) => type === "anonymous"))
      log.warn("anonymous clients are allowed: anybody who can reach a listener may come in");
    if (this.chain.isOpen) log.warn("no access rules: every client may publish and subscribe to every topic");
  }

  /** Watches who comes and goes, where somebody may have to be found again; `endWhere` finds the clients that are not. */
  attach(engine: Engine, endWhere: EndWhere): void {
    this.engine = engine;
    this.endWhere = endWhere;
    if (!this.isAnonymous) this.watchClients(engine);
    const { flapping } = this;
    if (flapping)
      engine.hooks.clientDisconnected.add((client) => flapping.handleDisconnect(client, this.request.nowSec()));
  }

  private watchClients({ hooks }: Engine): void {
    const { standings } = this.chain;
    this.isWatching = true;
    hooks.isAddressKept = true;
    hooks.clientConnected.add((client) => {
      standings.open(client);
      // What a session was granted earlier it may not have any more.
      this.review(client, () => {});
    });
    hooks.clientDisconnected.add((client) => standings.close(client));
  }

  /** A plugin's backend, asked before the configured ones. Call it after `attach`; the function returned takes it out again. */
  addBackend(backend: Backend, priority: number): () => void {
    const remove = this.chain.members.add({ backend, whenUnavailable: "deny" }, priority);
    if (this.engine && !this.isWatching) {
      this.watchClients(this.engine);
      this.endWhere((client) => {
        this.chain.standings.open(client);
        return false;
      }, 0);
    }
    this.invalidate();
    return () => {
      remove();
      this.invalidate();
    };
  }

  /** About once a second. */
  tick(): void {
    const nowSec = this.request.nowSec();
    this.chain.tick(nowSec);
    try {
      this.bans.sweep(nowSec);
      if (!this.openedDb && existsSync(this.dbPath)) this.openDb();
      else if (!this.openedDb?.hasChanged()) return;
      this.readAgain(nowSec);
    } catch (error) {
      // A disk that is full or a file that is locked for long: what is known stays in force until the next second.
      const fields = { fault: (error as Error).message };
      this.request.limitedLog.write("warn", "access.db", "access.db cannot be read or written", fields);
    }
  }

  /** Keeps clients out from now on, and ends the connections of those who are in. Throws as `BanList.add` does. */
  ban(ban: Ban): void {
    void this.db; // from now on they are kept
    this.bans.add(ban);
    this.kickBanned();
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map(({ backend }) => backend.stop?.()));
    this.openedDb?.close();
  }

  /** Everything that was counted, for admin. */
  counts(): Readonly<Record<string, number>> {
    const { chain, passwords, attempts, bans, flapping } = this;
    return {
      ...chain.counts,
      live: chain.standings.liveCount,
      hashesChecked: passwords.counts.checked,
      hashesBusy: passwords.counts.busy,
      hashesMalformed: passwords.counts.malformed,
      failures: attempts?.counts.failures ?? 0,
      delayed: attempts?.counts.delayed ?? 0,
      delayRefused: attempts?.counts.refused ?? 0,
      bans: bans.count,
      bansRefused: bans.refusedCount,
      flappingBanned: flapping?.bannedCount ?? 0,
    };
  }

  /** Of each backend once, in the order in which they are asked. */
  health(): BackendReport[] {
    const { authenticate, authorize } = this.lists;
    return this.members.map((member) => {
      const { name, type, backend } = member;
      const roles = (["authenticate", "authorize"] as const).filter((role) =>
        (role === "authenticate" ? authenticate : authorize).includes(member),
      );
      return { name, type, roles, health: backend.health?.() ?? ALWAYS_UP };
    });
  }

  private get dbPath(): string {
    return join(this.request.dataDir, "access.db");
  }

  private openDb(): AccessDb {
    const db = new AccessDb(this.dbPath);
    this.openedDb = db;
    // Not there yet while the constructor makes the backends.
    (this.bans as BanList | undefined)?.use(db, this.request.nowSec());
    return db;
  }

  private make(entry: BackendConfig): NamedBackend {
    const kind = (backendKinds as readonly BackendKind[]).find(({ type }) => type === entry.type)!;
    const name = entry.name ?? entry.type;
    const { limitedLog, nowSec, baseDir } = this.request;
    const backend = kind.make(entry, {
      name,
      baseDir,
      nowSec,
      log: {
        info: (message, fields) => limitedLog.write("info", `${name} ${message}`, message, fields),
        warn: (message, fields) => limitedLog.write("warn", `${name} ${message}`, message, fields),
      },
      passwords: this.passwords,
      accessDb: () => this.db,
      invalidate: () => this.invalidate(),
      revoke: (match: ClientMatch) => void this.chain.revoke(match),
    });
    return { backend, whenUnavailable: entry.whenUnavailable, name, type: entry.type };
  }

  private readAgain(nowSec: number): void {
    this.bans.reload(nowSec);
    this.kickBanned();
    this.invalidate();
    for (const { backend } of this.members) backend.handleDbChange?.();
  }

  /** Nothing that was decided holds any more; neither do subscriptions, which are judged again one client after the other. */
  private invalidate(): void {
    this.chain.invalidate();
    if (this.chain.isOpen) return;
    const isUnderWay = this.toReview.length > 0;
    this.toReview = [...this.chain.standings.all()].map(({ client }) => client);
    if (!isUnderWay) this.reviewNext();
  }

  private reviewNext(): void {
    const clients = this.toReview.splice(-REVIEW_COUNT);
    let left = clients.length;
    const done = (): void => {
      if (--left === 0) setImmediate(() => this.reviewNext());
    };
    for (const client of clients) this.review(client, done);
  }

  /** Takes away the subscriptions that the client may no longer have. */
  private review(client: ClientInfo, done: () => void): void {
    const { engine, chain } = this;
    const clientId = Buffer.from(client.clientId);
    const session = engine?.sessions.find(clientId) ?? -1;
    const filters = engine && !chain.isOpen && session >= 0 ? filtersOf(engine, session) : [];
    if (!engine || filters.length === 0) return done();
    chain.reviewSubscriptions(client, filters, (lost) => {
      if (lost.length > 0 && engine.sessions.find(clientId) === session) engine.unsubscribe(session, lost);
      done();
    });
  }

  private kickBanned(): void {
    const nowSec = this.request.nowSec();
    this.chain.revoke(
      { holds: (client: ClientInfo) => this.bans.find(client, nowSec) !== undefined },
      ADMINISTRATIVE_ACTION,
    );
    // Where no account of the clients is kept, each connection is asked.
    if (this.isAnonymous && this.bans.count > 0) {
      this.endWhere((client) => this.bans.find(client, nowSec) !== undefined, ADMINISTRATIVE_ACTION);
    }
  }

  private banOrLog(ban: Ban): void {
    try {
      this.bans.add(ban);
      this.request.limitedLog.write("info", "flapping", "a client comes and goes too often; it is banned", { ...ban });
    } catch (error) {
      if (!(error instanceof MantouError)) throw error;
      this.request.limitedLog.write("warn", "flapping", "a ban found no room", { fault: error.message });
    }
  }

  private kick(clientId: string, reasonCode: number): void {
    const { engine } = this;
    if (!engine) return;
    const session = engine.sessions.find(Buffer.from(clientId));
    if (session >= 0) engine.sessions.sinks[session]?.end(reasonCode);
  }

  private logDenial({ kind, client, topic, reasonCode }: Denial): void {
    const { clientId, username, address, listener } = client;
    const fields = { clientId, username, address, listener, topic, reasonCode: `0x${reasonCode.toString(16)}` };
    this.request.limitedLog.write("info", `denied-${kind}-${reasonCode}`, WORDS[kind], fields);
  }
}

const WORDS: Readonly<Record<Denial["kind"], string>> = {
  connect: "a client may not come in",
  publish: "a client may not publish to a topic",
  subscribe: "a client may not subscribe to a filter",
};

/** As they were subscribed to, shares with their prefix. */
function filtersOf({ index, groups }: Engine, session: number): Buffer[] {
  const filters: Buffer[] = [];
  for (let sub = index.firstOfSession(session); sub >= 0; sub = index.nextOf[sub]) {
    const group = index.groupOf(sub);
    filters.push(group < 0 ? index.filterOf(sub) : groups.filterOf(group));
  }
  return filters;
}

function sameAs(entry: BackendConfig, authenticate: readonly NamedBackend[]): NamedBackend {
  const name = entry["as"] as string;
  const found = authenticate.find((member) => member.name === name);
  if (!found?.backend.authorize) {
    const allowed = authenticate.filter(({ backend }) => backend.authorize).map((member) => member.name);
    const words = `found ${JSON.stringify(name)}, allowed: ${allowed.length === 0 ? "none here" : allowed.join(", ")}`;
    throw new MantouError(
      "access_invalid",
      `access.authorize: as: ${words} (a backend of authenticate that judges topics)`,
    );
  }
  return found;
}
