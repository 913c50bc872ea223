/**
 * A broker with the durable store over a disk in memory: an engine, MQTT over links in memory, and a clock that only the
 * test moves. `commit` is the disk's sync, `crash` the next broker on what was synced.
 *
 *   client ─ write ─► events ─ run ─► Connection ─► engine ─► store.tick ─ cut ─► MemoryLog ─ commit ─► acknowledgements
 *                       ▲                                                            │
 *                       └──────────────── pages and bodies that were asked for ──────┘
 *
 * Everything a test does runs to its end before the call returns. What clients and the broker say to each other goes
 * through one queue, so that nobody is answered within the call that asked, and each run ends with the store's tick: one
 * write is one tick of the broker, as many within `together` are.
 */
import type { Random } from "#base/random.ts";
import { Engine } from "#core/engine.ts";
import type { LimitOverrides } from "#core/limits.ts";
import type { TopicPriority } from "#core/priorities.ts";
import { Connection } from "#mqtt/connection.ts";
import { MqttContext } from "#mqtt/context.ts";
import { DurableStore } from "#store/durable-store.ts";
import { BatchReader } from "#store/batch-reader.ts";
import { DROP_PAGE, OPS, PAGE, REMOVE, SNAPSHOT, TRIM } from "#store/log-backend.ts";
import type { CommitInfo, LoadedEntries, LogBackend, RecoveryReceiver } from "#store/log-backend.ts";
import { MemoryLog } from "#test/support/memory-log.ts";
import type { Pending } from "#store/pending.ts";
import type { RestoreInfo } from "#store/restore.ts";
import type { StoreLimits } from "#store/store-parts.ts";
import { type ConnectOptions, type Pipe, RawClient } from "./client.ts";
import { MemoryLink } from "./memory-link.ts";
import { describePacket, type Properties, type Version } from "./packets.ts";

const START_MS = 1_000_000;
const STEP_MS = 100;
const RUN_EVENTS_MAX = 1_000_000;

export interface DurableConfig {
  readonly limits?: LimitOverrides;
  readonly store?: Partial<StoreLimits>;
  readonly priorities?: readonly TopicPriority[];
  /** What is stored comes only when `answerReads` is called. */
  readonly recoversLate?: boolean;
  /** Pages and bodies come within the call that asks for them, as a backend may. */
  readonly readsAtOnce?: boolean;
}

/** CONNECT's fields, and those properties that these tests often need. The session is persistent unless told. */
export interface DurableConnect extends ConnectOptions {
  readonly version?: Version;
  readonly expirySec?: number;
  readonly receiveMax?: number;
  /** Acknowledges what comes, from the first packet on. */
  readonly autoAck?: boolean;
}

export class DurableBroker {
  readonly engine: Engine;
  readonly store: DurableStore;
  readonly bugs: unknown[] = [];
  /** What the store said of trouble: a reason, or undefined when it was over. */
  readonly troubles: (string | undefined)[] = [];
  /** What was restored. */
  restored!: RestoreInfo;
  /** Each batch is committed in the tick in which it was written. */
  commitsAtOnce = true;
  private readonly backend: LateLog;
  private readonly context: MqttContext;
  private readonly links: { link: MemoryLink; pipe: Pipe }[] = [];
  private readonly events: (() => void)[] = [];
  private isWorkAsked = false;
  private isWakeAsked = false;
  private wakeAtMs = Infinity;
  private isRunning = false;
  private isTicking = true;

  constructor(
    private readonly config: DurableConfig = {},
    readonly disk: MemoryLog = new MemoryLog(),
    private nowMs: number = START_MS,
  ) {
    this.backend = new LateLog(disk, (event) => {
      if (config.readsAtOnce) event();
      else this.events.push(event);
    });
    this.store = new DurableStore({
      backend: this.backend,
      nowMs: () => this.nowMs,
      wakeAfter: (ms) => this.wakeAfter(ms),
      onTrouble: (reason) => this.troubles.push(reason),
      limits: config.store ?? {},
    });
    this.engine = new Engine({
      seed: 4711,
      nowMs: this.nowMs,
      nowSec: Math.floor(this.nowMs / 1000),
      store: this.store,
      onWork: () => (this.isWorkAsked = true),
      onBug: (error) => this.bugs.push(error),
      ...(config.limits && { limits: config.limits }),
      ...(config.priorities && { priorities: config.priorities }),
    });
    const reporter = { fault: () => {}, bug: (_: unknown, error: unknown) => void this.bugs.push(error) };
    this.context = new MqttContext(this.engine, { reporter });
    if (config.recoversLate) this.holdReads();
    this.happen(() => this.store.attach(this.engine, (info) => (this.restored = info)));
  }

  // ---- clients

  open(version: Version = 5): RawClient {
    return new RawClient(this.openPipe(), version);
  }

  openPipe(): Pipe {
    const link = new MemoryLink();
    const pipe: Pipe = {
      write: (bytes) => this.happen(() => link.receive(bytes)),
      close: () => this.happen(() => link.destroy()),
      onData: () => {},
      onClose: () => {},
    };
    link.onData = (bytes) => this.events.push(() => pipe.onData(bytes));
    link.onClose = () => this.events.push(() => pipe.onClose());
    link.protocol = new Connection(this.context, link, "memory");
    this.links.push({ link, pipe });
    return pipe;
  }

  /** Sends CONNECT of a persistent session; its CONNACK may have to wait for a commit. */
  ask(clientId: string, options: DurableConnect = {}): RawClient {
    const { version = 5, expirySec = 3600, receiveMax, autoAck = false, ...fields } = options;
    const { properties = [], cleanStart = false, ...rest } = fields;
    const client = this.open(version);
    client.autoAck = autoAck;
    const given: Properties = [...(properties as Properties)];
    if (expirySec > 0) given.push(["sessionExpiryIntervalSec", expirySec]);
    if (receiveMax !== undefined) given.push(["receiveMaximum", receiveMax]);
    client.clientId = clientId;
    client.send({ type: "connect", ...rest, cleanStart, clientId, ...(version === 5 && { properties: given }) });
    return client;
  }

  /** A client that was accepted. */
  async connect(clientId: string, options: DurableConnect = {}): Promise<RawClient> {
    const client = this.ask(clientId, options);
    const connack = await client.expect("connack");
    if (connack.reasonCode !== 0) throw new Error(`not accepted: ${describePacket(connack)}`);
    return client;
  }

  // ---- the disk

  /** All batches that were written, or those up to `last`, are safe. */
  commit(last?: number): void {
    this.happen(() => this.disk.commit(last));
  }

  /** Batches that were written and are not safe. */
  get batchesUnderWay(): number {
    return this.disk.writtenBatch - this.disk.durableBatch;
  }

  /** What this broker has written. */
  get written(): Written {
    return this.backend.written;
  }

  /** The store's next change gets this number: as after so many. Before the first change only. */
  setNumber(seq: number): void {
    const inside = this.store as unknown as { pending: Pending; committedSeq: number };
    inside.pending.first = inside.pending.next = seq;
    inside.committedSeq = this.store.durableSeq = seq - 1;
  }

  /** Answers of all connections that wait for a commit. */
  get gatedCount(): number {
    let count = 0;
    for (const connection of this.context.gated) count += connection.gatedCount;
    return count;
  }

  /** A write failed; `heal` is the disk's next success. */
  fail(reason: string): void {
    this.commitsAtOnce = false;
    this.happen(() => this.backend.onFailed(reason));
  }

  heal(): void {
    this.commitsAtOnce = true;
    this.commit();
  }

  /** What is read from now on comes when `answerReads` is called. */
  holdReads(): void {
    this.backend.held ??= [];
  }

  /** Answers what was asked for so far, and from now on at once. */
  answerReads(): void {
    const held = this.backend.held ?? [];
    this.backend.held = null;
    this.happen(() => {
      for (const event of held) event();
    });
  }

  /** The process is killed: the next broker starts on what was committed, and by the dice on more. */
  crash(dice?: Random, config: DurableConfig = this.config): DurableBroker {
    for (const { link, pipe } of this.links) {
      link.isClosed = true;
      pipe.onClose();
    }
    if (this.bugs.length > 0) throw this.bugs[0];
    return new DurableBroker(config, this.disk.crash(dice), this.nowMs);
  }

  // ---- time

  /** All that happens in `action` is one tick of the broker. */
  together(action: () => void): void {
    this.isTicking = false;
    try {
      action();
    } finally {
      this.isTicking = true;
    }
    this.run();
  }

  advanceMs(ms: number): void {
    const endMs = this.nowMs + ms;
    while (this.nowMs < endMs) {
      this.nowMs = Math.min(endMs, this.nowMs + STEP_MS, Math.max(this.nowMs + 1, this.wakeAtMs));
      if (this.nowMs >= this.wakeAtMs) this.wakeAtMs = Infinity;
      this.happen(() => this.engine.tick(this.nowMs, this.nowMs / 1000));
    }
  }

  advance(sec: number): void {
    this.advanceMs(sec * 1000);
  }

  /** Time passes while the process does not run. */
  passTime(sec: number): void {
    this.nowMs += sec * 1000;
  }

  /** Until what nobody waits for is written too. */
  quiet(): void {
    this.advanceMs(200);
  }

  /** As after `checkpointSec` in which nothing happened: all is in snapshots, the log is empty, the bodies are collected. */
  rest(): void {
    this.advance(11);
  }

  /** Throws the first bug that was met. */
  stop(): void {
    if (this.bugs.length > 0) throw this.bugs[0];
  }

  private wakeAfter(ms: number): void {
    if (ms <= 0) this.isWakeAsked = true;
    else this.wakeAtMs = Math.min(this.wakeAtMs, this.nowMs + ms);
  }

  private happen(event: () => void): void {
    this.events.push(event);
    this.run();
  }

  /** Until nobody has anything to say. */
  private run(): void {
    if (this.isRunning) return;
    this.isRunning = true;
    try {
      let left = RUN_EVENTS_MAX;
      while (this.runEvents() || this.tick()) if (--left === 0) throw new Error("the broker does not come to rest");
    } finally {
      this.isRunning = false;
    }
  }

  private runEvents(): boolean {
    const events = this.events.splice(0);
    for (const event of events) event();
    const isAsked = this.isWorkAsked;
    this.isWorkAsked = false;
    if (isAsked) this.engine.turn();
    return isAsked || events.length > 0;
  }

  /** False when nothing came of it. */
  private tick(): boolean {
    if (!this.isTicking) return false;
    this.isWakeAsked = false;
    this.store.tick();
    if (this.commitsAtOnce && this.batchesUnderWay > 0) {
      this.disk.commit();
      return true;
    }
    return this.isWakeAsked || this.isWorkAsked || this.events.length > 0;
  }
}

/** What there is of what was written: batches that the log has, sessions with snapshots, pages; snapshots by batch. */
class Written {
  readonly logRows = new Set<number>();
  readonly sessions = new Set<number>();
  readonly pages = new Set<string>();
  readonly snapshotCounts: number[] = [];

  add(batch: number, bytes: Uint8Array): void {
    const item = new BatchReader(bytes);
    let snapshotCount = 0;
    while (item.next()) {
      const page = `${item.session} ${item.page}`;
      if (item.kind === SNAPSHOT) {
        snapshotCount++;
        this.sessions.add(item.session);
      } else if (item.kind === REMOVE) this.remove(item.session);
      else if (item.kind === PAGE) this.pages.add(page);
      else if (item.kind === DROP_PAGE) this.pages.delete(page);
      else if (item.kind === OPS) this.logRows.add(batch);
      else if (item.kind === TRIM) for (const row of this.logRows) if (row < item.number) this.logRows.delete(row);
    }
    this.snapshotCounts.push(snapshotCount);
  }

  private remove(session: number): void {
    this.sessions.delete(session);
    for (const page of this.pages) if (page.startsWith(`${session} `)) this.pages.delete(page);
  }
}

/** A disk whose reads are answered later, with what it had when it was asked. */
class LateLog implements LogBackend {
  readonly written = new Written();
  onCommitted: (info: CommitInfo) => void = () => {};
  onFailed: (reason: string) => void = () => {};
  held: (() => void)[] | null = null;

  constructor(
    private readonly disk: MemoryLog,
    private readonly later: (event: () => void) => void,
  ) {
    disk.onCommitted = (info) => this.onCommitted(info);
  }

  write(batch: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.written.add(batch, bytes);
    this.disk.write(batch, bytes);
  }

  readPage(session: number, page: number, complete: (loaded: LoadedEntries | null) => void): void {
    this.disk.readPage(session, page, (loaded) => this.answer(() => complete(loaded)));
  }

  readBodies(entries: Buffer, complete: (loaded: LoadedEntries) => void): void {
    this.disk.readBodies(entries, (loaded) => this.answer(() => complete(loaded)));
  }

  recover(receiver: RecoveryReceiver): void {
    const calls: (() => void)[] = [];
    this.disk.recover({
      sessions: (sessions) => calls.push(() => receiver.sessions(sessions)),
      retained: (values) => calls.push(() => receiver.retained(values)),
      done: (info) => calls.push(() => receiver.done(info)),
    });
    this.answer(() => {
      for (const call of calls) call();
    });
  }

  private answer(event: () => void): void {
    if (this.held) this.held.push(event);
    else this.later(event);
  }
}
