/**
 * The configuration's `access` section becomes a chain of started backends, with the bans before it.
 *
 *   makeAccess ─► start ─► attach(engine) ─► tick, once a second … prepare(another section) ─► commit … stop
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
import { BanList, clientsOf } from "#access/ban-list.ts";
import { AccessChain } from "#access/chain.ts";
import type { ChainSettings, Denial } from "#access/chain-options.ts";
import { Flapping } from "#access/flapping.ts";
import { PasswordChecker } from "#access/password.ts";
import { ADMINISTRATIVE_ACTION } from "#access/reason.ts";
import { MantouError } from "#base/error.ts";
import { RuleList } from "#access/rule-list.ts";
import { UserTable } from "#access/user-table.ts";
import type { Engine } from "#core/engine.ts";
import type { ClientInfo } from "#core/ports.ts";
import { type Lineup, makeLineup, type NamedBackend, startLineup, stopAll } from "./access-lineup.ts";
import type { AccessConfig, BackendConfig } from "./access-schema.ts";
import type { LimitedLog } from "./limited-log.ts";
import type { Logger } from "./log.ts";
import { SubscriptionReview } from "./subscription-review.ts";

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

/** Who is connected, as the MQTT layer knows it. */
export interface Connections {
  /** Ends the connections of the clients that are meant; returns how many. */
  endWhere(isMeant: (client: ClientInfo) => boolean, reasonCode: number): number;
  /** Each client that is connected; its description stays as it is now, also when its link is gone. */
  keepClients(each: (client: ClientInfo) => void): void;
}

/** Backends of another configuration, started and not yet asked. */
export interface PreparedAccess {
  /** The lists whose backends are others than before, be it by a file or an environment variable that they name. */
  readonly changed: readonly ("authenticate" | "authorize")[];
  /** In force from now on: who comes in and what is published is judged by it, and subscriptions are judged again. */
  commit(): void;
  discard(): Promise<void>;
}

export class AccessSetup {
  readonly chain: AccessChain;
  readonly passwords: PasswordChecker;
  readonly bans: BanList;
  /** Users and client ids of `access.db`, for CLI and REST; who loses a right is disconnected. */
  readonly users: UserTable;
  /** Access rules of `access.db`. */
  readonly rules: RuleList;
  private lineup: Lineup;
  private flapping: Flapping | undefined;
  private isFlappingWatched = false;
  /** Failed credentials by address. */
  readonly attempts: AttemptLimit;
  private connections: Connections | undefined;
  private engine: Engine | undefined;
  private isWatching = false;
  /** Backends that were replaced and are closing. */
  private readonly leaving = new Set<Promise<void>>();
  private openedDb: AccessDb | undefined;
  /** Once more with the next tick: who was just being let in is found then. */
  private isKickDue = false;
  private review: SubscriptionReview | undefined;

  /** Throws MantouError when a backend's options make no sense. Nothing is opened but an `access.db` that is there. */
  constructor(private readonly request: AccessRequest) {
    const { config, nowSec } = request;
    this.passwords = new PasswordChecker({ waitingMax: config.hashWaitingMax });
    this.users = new UserTable(
      () => this.db,
      this.passwords,
      () => this.readAgain(nowSec()),
    );
    this.rules = new RuleList(
      () => this.db,
      () => this.readAgain(nowSec()),
    );
    if (existsSync(this.dbPath)) this.openDb();
    this.lineup = this.makeLineup(config);
    this.bans = new BanList(this.openedDb, nowSec());
    this.attempts = new AttemptLimit(attemptBounds(config));
    this.flapping = this.makeFlapping(config);
    this.chain = new AccessChain({
      ...settingsOf(config, this.lineup),
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
    return this.chain.isOpen && this.lineup.members.every(({ type }) => type === "anonymous");
  }

  /** Opened when it is first needed. */
  get db(): AccessDb {
    return this.openedDb ?? this.openDb();
  }

  /** Rejects with the MantouError of a backend that can never work; those that had started are stopped again. */
  async start(): Promise<void> {
    await startLineup(this.lineup);
    this.sayWhatIsOpen(this.request.config);
  }

  private sayWhatIsOpen(config: AccessConfig): void {
    const { log, isSpeaker } = this.request;
    if (!isSpeaker) return;
    if (this.lineup.members.some(({ type }) => type === "anonymous"))
      log.warn("anonymous clients are allowed: anybody who can reach a listener may come in");
    if (this.lineup.authorize.length > 0 && config.noMatch === "allow")
      log.info("what no access rule covers is allowed: access.noMatch is allow");
    if (this.chain.isOpen) log.warn("no access rules: every client may publish and subscribe to every topic");
  }

  /**
   * Makes and starts what another section asks for. Rejects with the MantouError of what can never work, with nothing changed; else
   * the caller commits or discards it.
   */
  async prepare(config: AccessConfig): Promise<PreparedAccess> {
    const before = this.lineup;
    const lineup = this.makeLineup(config, before.members);
    await startLineup(lineup, before.members);
    const added = lineup.members.filter((member) => !before.members.includes(member));
    const isOther = (role: "authenticate" | "authorize"): boolean =>
      lineup[role].length !== before[role].length || lineup[role].some((member, at) => member !== before[role][at]);
    return {
      changed: (["authenticate", "authorize"] as const).filter(isOther),
      commit: () => this.commit(config, lineup, added),
      discard: () => stopAll(added),
    };
  }

  private commit(config: AccessConfig, lineup: Lineup, added: readonly NamedBackend[]): void {
    const removed = this.lineup.members.filter((member) => !lineup.members.includes(member));
    this.lineup = lineup;
    // What was written since they were started, the others were told of.
    for (const { backend } of added) backend.handleDbChange?.();
    this.passwords.waitingMax = config.hashWaitingMax;
    this.attempts.replace(attemptBounds(config));
    this.flapping = this.makeFlapping(config);
    this.chain.replace(settingsOf(config, lineup));
    this.watch();
    this.invalidate();
    const names = (members: readonly NamedBackend[]): string[] =>
      members.map(({ name, type }) => (name === type ? type : `${name} (${type})`));
    this.request.log.info(
      { added: names(added), removed: names(removed) },
      "access has changed; clients stay who they are",
    );
    this.sayWhatIsOpen(config);
    // What they are still asked is answered, and then asked of the others.
    const left = stopAll(removed)
      .catch((err: unknown) => this.request.log.warn({ err }, "an access backend could not be closed"))
      .finally(() => this.leaving.delete(left));
    this.leaving.add(left);
  }

  /** Watches who comes and goes, where somebody may have to be found again; `connections` finds the clients that are not. */
  attach(engine: Engine, connections: Connections): void {
    this.engine = engine;
    this.connections = connections;
    this.review = new SubscriptionReview(engine, this.chain);
    this.watch();
  }

  private watch(): void {
    const { engine, flapping } = this;
    if (engine && !this.isWatching && !this.isAnonymous) this.watchClients(engine);
    if (!engine || !flapping || this.isFlappingWatched) return;
    this.isFlappingWatched = true;
    engine.hooks.clientDisconnected.add((client) => this.flapping?.handleDisconnect(client, this.request.nowSec()));
  }

  private watchClients({ hooks }: Engine): void {
    const { standings } = this.chain;
    this.isWatching = true;
    // Who came in while nobody had to be found again.
    this.connections?.keepClients((client) => standings.open(client));
    hooks.isAddressKept = true;
    hooks.clientConnected.add((client) => {
      const lost = this.chain.open(client);
      if (lost !== 0) setImmediate(() => this.kick(client.clientId, lost)); // not amid the greeting
      // What a session was granted earlier it may not have any more.
      this.review?.one(client, () => {});
    });
    hooks.clientDisconnected.add((client) => standings.close(client));
  }

  /** A plugin's backend, asked before the configured ones. Call it after `attach`; the function returned takes it out again. */
  addBackend(backend: Backend, priority: number): () => void {
    const remove = this.chain.members.add({ backend, whenUnavailable: "deny" }, priority);
    if (this.engine && !this.isWatching) this.watchClients(this.engine);
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
      if (this.isKickDue) this.kickBanned();
      this.isKickDue = false;
      this.bans.sweep(nowSec);
      if (!this.openedDb && existsSync(this.dbPath)) this.openDb();
      else if (!this.openedDb?.hasChanged()) return;
      this.readAgain(nowSec);
    } catch (error) {
      this.noteDbFault(error); // what is known stays in force until the next second
    }
  }

  /** A disk that is full, a file that is locked for long. */
  private noteDbFault(error: unknown): void {
    const fields = { fault: (error as Error).message };
    this.request.limitedLog.write("warn", "access.db", "access.db cannot be read or written", fields);
  }

  /** Keeps clients out from now on, and ends the connections of those who are in. Throws as `BanList.add` does. */
  ban(ban: Ban): void {
    void this.db; // from now on they are kept
    this.bans.add(ban);
    if (!this.isAnonymous) return void this.chain.revoke(clientsOf(ban), ADMINISTRATIVE_ACTION);
    if (ban.kind === "clientId") this.kick(ban.value, ADMINISTRATIVE_ACTION);
    else this.kickBanned();
    this.isKickDue = true;
  }

  async stop(): Promise<void> {
    await Promise.all([stopAll(this.lineup.members), ...this.leaving]);
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
      failures: attempts.counts.failures,
      delayed: attempts.counts.delayed,
      delayRefused: attempts.counts.refused,
      bans: bans.count,
      bansRefused: bans.refusedCount,
      flappingBanned: flapping?.bannedCount ?? 0,
    };
  }

  /** Of each backend once, in the order in which they are asked. */
  health(): BackendReport[] {
    const { authenticate, authorize, members } = this.lineup;
    return members.map((member) => {
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

  private makeLineup(config: AccessConfig, before: readonly NamedBackend[] = []): Lineup {
    const make = (entry: BackendConfig, name: string): Backend => this.makeBackend(entry, name);
    return makeLineup(config, { baseDir: this.request.baseDir, make }, before);
  }

  private makeFlapping({ flappingCountMax, flappingWindowSec, flappingBanSec }: AccessConfig): Flapping | undefined {
    if (flappingCountMax === 0) return undefined;
    const options = { countMax: flappingCountMax, windowSec: flappingWindowSec, banSec: flappingBanSec };
    return new Flapping(options, (ban) => this.banOrLog(ban));
  }

  private makeBackend(entry: BackendConfig, name: string): Backend {
    const kind = (backendKinds as readonly BackendKind[]).find(({ type }) => type === entry.type)!;
    const { limitedLog, nowSec, baseDir } = this.request;
    return kind.make(entry, {
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
  }

  private readAgain(nowSec: number): void {
    this.bans.reload(nowSec);
    this.kickBanned();
    for (const { backend } of this.lineup.members) backend.handleDbChange?.();
    this.invalidate(); // last: what is judged again is judged by what they have read
  }

  /** Nothing that was decided holds any more; neither do subscriptions, which are judged again. */
  private invalidate(): void {
    this.chain.invalidate();
    this.review?.all();
  }

  private kickBanned(): void {
    const nowSec = this.request.nowSec();
    this.chain.revoke(
      { holds: (client: ClientInfo) => this.bans.find(client, nowSec) !== undefined },
      ADMINISTRATIVE_ACTION,
    );
    // Where no account of the clients is kept, each connection is asked.
    if (this.isAnonymous && this.bans.count > 0) {
      this.connections?.endWhere((client) => this.bans.find(client, nowSec) !== undefined, ADMINISTRATIVE_ACTION);
      this.isKickDue = true;
    }
  }

  private banOrLog(ban: Ban): void {
    try {
      void this.db; // where operators and other worker processes find it
    } catch (error) {
      this.noteDbFault(error);
    }
    try {
      this.bans.add(ban);
      this.request.limitedLog.write("info", "flapping", "a client comes and goes too often; it is banned", { ...ban });
    } catch (error) {
      if (!(error instanceof MantouError)) return this.noteDbFault(error); // it holds until the broker stops
      this.request.limitedLog.write("warn", "flapping", "a ban found no room", { fault: error.message });
    }
  }

  private kick(clientId: string, reasonCode: number): void {
    const { engine } = this;
    if (!engine) return;
    const session = engine.sessions.find(Buffer.from(clientId));
    if (session >= 0) engine.sessions.sinks[session]?.end(reasonCode);
  }

  private logDenial({ kind, client, topic, reasonCode, why }: Denial): void {
    const { clientId, username, address, listener } = client;
    const fields = { clientId, username, address, listener, topic, reasonCode: `0x${reasonCode.toString(16)}`, why };
    this.request.limitedLog.write("info", `denied-${kind}-${reasonCode}`, WORDS[kind], fields);
  }
}

const WORDS: Readonly<Record<Denial["kind"], string>> = {
  connect: "a client may not come in",
  publish: "a client may not publish to a topic",
  subscribe: "a client may not subscribe to a filter",
};

function settingsOf(config: AccessConfig, { authenticate, authorize }: Lineup): ChainSettings {
  const { noMatch, deniedPublish, cacheCountMax, cacheSec } = config;
  return { authenticate, authorize, noMatch, deniedPublish, cacheCountMax, cacheSec };
}

function attemptBounds({ failureCountMax, failureWindowSec, failureDelaySecMax }: AccessConfig) {
  return { failureCountMax, windowSec: failureWindowSec, delaySecMax: failureDelaySecMax };
}
