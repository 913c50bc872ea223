/**
 * The clients of one process: connects them, lets them publish for a time, and tallies what they saw.
 *
 *   events of a tick ─► touched clients ─► setImmediate: each publishes what it may, and writes once
 *   paced: timetable ─► touched clients ─► visit, then wait (precise-wait.ts) until the next message is due or a socket has
 *                                          something
 *
 * When a tick has a single event, as in a round trip, its client is visited at once: the turn of the loop would be in the
 * measured time.
 */
import { readFileSync } from "node:fs";
import { Client, type ClientHost, type ClientKind } from "./client.ts";
import { Inbox } from "./inbox.ts";
import type { LinkOptions } from "./link.ts";
import { encodePublish, type PublishFrame, type ServerLimits } from "./packet.ts";
import { isLoop, type Plan, processOfClient } from "./plan.ts";
import { preciseWait } from "./precise-wait.ts";
import { Publisher } from "./publisher.ts";
import { Schedule } from "./schedule.ts";
import { type Counts, Tally, type TallyData } from "./tally.ts";
import { expand } from "./topic-template.ts";

/** Without a client that comes up or fails for so long, the rest has failed. */
const CONNECT_QUIET_MS = 20_000;
const WATCH_MS = 50;
const STALL_NS = 1e9;
const WAIT_NS_MAX = 5e6;
const DAY_SEC = 86_400;
const FEW = 4;
const SMALL_BYTES = 1024;
/** A PINGREQ goes out when nothing else did for this part of the keep-alive time. */
const PING_PART = 0.75;
const ALIAS = 1;

/** What a crew is told besides the plan. */
export interface CrewShare {
  readonly plan: Plan;
  /** Number of the process. */
  readonly process: number;
  /** By which the messages of this run are known. */
  readonly run: number;
  /** The run's zero of time, in ms since 1970: the same for all processes, each with its own monotonic clock from there. */
  readonly zeroMs: number;
}

/** Times are in ns since the run's zero. */
export interface RunTimes {
  readonly startNs: number;
  readonly warmupSec: number;
  /** 0: until `stop`. */
  readonly durationSec: number;
}

/** A crew in this process or in another. */
export interface CrewPort {
  connect(): Promise<Counts>;
  /** Resolves when the time is over, all is sent, or a client of a loop was dropped. */
  run(times: RunTimes): Promise<void>;
  /** Ends `run` early. */
  stop(): void;
  counts(): Promise<Counts>;
  /** Disconnects all. */
  finish(): Promise<TallyData>;
  /** Deliveries that another process has seen: publisher, deliveries, publisher, deliveries … */
  credit(deliveries: readonly number[]): void;
}

export class Crew implements CrewPort, ClientHost {
  readonly plan: Plan;
  readonly tally: Tally = new Tally();
  readonly inbox: Inbox;
  readonly linkOptions: LinkOptions;
  private readonly zeroMs: number;
  private readonly clients: Client[];
  private readonly settled: { count: number; atMs: number } = { count: 0, atMs: 0 };
  private startedCount = 0;
  private touched: Client[] = [];
  private spare: Client[] = [];
  private isTickSet = false;
  private eventCount = 0;
  private wasQuiet = true;
  /** Publishing clients of this process by their index over the run. */
  private readonly publishing: (Client | undefined)[] = [];
  private readonly elsewhere: Map<number, number> = new Map();
  private schedule: Schedule | undefined;
  private ownPublishers: Client[] = [];
  private wait: (ns: number) => void = () => {};
  private isRunning = false;
  private isPacing = false;
  private isStopped = false;
  private endRun: () => void = () => {};

  /** `sendCredit` passes deliveries on to the processes of their publishers. */
  constructor(
    private readonly share: CrewShare,
    private readonly sendCredit: (deliveries: readonly number[]) => void,
  ) {
    const { plan } = share;
    this.plan = plan;
    this.zeroMs = share.zeroMs - performance.timeOrigin;
    this.inbox = new Inbox(plan, share.run, this.tally, (publisher, count) => this.creditHere(publisher, count));
    this.linkOptions = { plan, tls: plan.isTls ? tlsOptions(plan) : undefined };
    this.clients = [...this.makeClients("sub"), ...this.makeClients("pub"), ...this.makeClients("idle")];
  }

  nowNs(): number {
    return (performance.now() - this.zeroMs) * 1e6;
  }

  // ---- clients

  private makeClients(kind: ClientKind): Client[] {
    const { plan } = this;
    const count = kind === "sub" ? plan.subs : kind === "pub" ? plan.pubs : plan.idles;
    const clients: Client[] = [];
    for (let index = 0; index < count; index++) {
      if (processOfClient(plan, kind, index) !== this.share.process) continue;
      const client = new Client(this, { kind, index, ...this.namesOf(kind, index) });
      clients.push(client);
      if (kind === "pub") this.publishing[index] = client;
    }
    return clients;
  }

  private namesOf(kind: ClientKind, index: number): { id: string; topic: string } {
    const { plan } = this;
    const number = plan.firstNumber + index;
    const usernameAt = (id: string): string => expand(plan.username ?? "", { number, clientId: id, username: "" });
    const kindLetter = isLoop(plan.command) && !plan.clientId.includes("%k") ? kind[0] : "";
    const id = expand(plan.clientId, { number, clientId: "", username: "" }) + kindLetter;
    // A pair's subscriber listens to its publisher's topic; all publishers of a fan-out share the first one's.
    const isFanout = plan.command === "fanout";
    const topicNumber =
      plan.firstNumber + (isFanout ? 0 : kind === "sub" && isLoop(plan.command) ? index % plan.pubs : index);
    const template = kind === "pub" ? plan.topic : plan.filter;
    return { id, topic: expand(template, { number: topicNumber, clientId: id, username: usernameAt(id) }) };
  }

  makePublisher(client: Client, limits: ServerLimits): Publisher | undefined {
    const { kind, index, topic } = client.options;
    if (kind !== "pub") return undefined;
    const { plan, tally } = this;
    const framesOf = (text: string, alias: number): (PublishFrame | undefined)[] =>
      [0, 1, 2].map((qos) =>
        plan.qosCycle.includes(qos)
          ? encodePublish(plan, { topic: text, qos, alias, run: this.share.run, publisher: index })
          : undefined,
      );
    const hasAlias = plan.usesTopicAlias && limits.topicAliasMax >= ALIAS;
    if (plan.usesTopicAlias && !hasAlias) tally.addReason("the server allows no topic alias: sent without");
    return new Publisher({
      plan,
      index,
      tally,
      frames: framesOf(topic, hasAlias ? ALIAS : 0),
      aliasFrames: hasAlias ? framesOf("", ALIAS) : undefined,
      receiveMax: limits.receiveMax,
    });
  }

  handleUp(_client: Client): void {
    this.tally.counts.connected++;
    this.settle();
  }

  handleClosed(client: Client, why: string): void {
    this.tally.addReason(why);
    if (!client.isUp) {
      this.tally.counts.failed++;
      this.settle();
      return;
    }
    this.tally.counts.dropped++;
    if (isLoop(this.plan.command)) this.endRun();
  }

  // ---- connecting

  connect(): Promise<Counts> {
    const startMs = performance.now();
    const cpu = process.cpuUsage();
    this.settled.atMs = startMs;
    return new Promise((resolve) => {
      const step = (): void => {
        this.startDue(startMs);
        const isQuiet = performance.now() - this.settled.atMs > CONNECT_QUIET_MS;
        if (this.settled.count < this.clients.length && (isQuiet || this.isStopped))
          this.giveUp(isQuiet ? "no answer" : "stopped before it was up");
        if (this.settled.count < this.clients.length) return void setTimeout(step, 1);
        this.tally.connectSec = (performance.now() - startMs) / 1000;
        this.tally.connectCpuSec = cpuSecSince(cpu);
        this.keepAlive();
        resolve(this.tally.counts);
      };
      step();
    });
  }

  private startDue(startMs: number): void {
    const { plan, clients, share } = this;
    const intervalMs = plan.connectIntervalMs * plan.processes;
    const elapsedMs = performance.now() - startMs - plan.connectIntervalMs * share.process;
    const due = intervalMs === 0 ? clients.length : Math.floor(elapsedMs / intervalMs) + 1;
    while (
      this.startedCount < Math.min(due, clients.length) &&
      this.startedCount - this.settled.count < plan.pendingMax
    ) {
      const at = this.startedCount++;
      const source = plan.sources.length === 0 ? undefined : at * plan.processes + share.process;
      clients[at].connect(source === undefined ? undefined : plan.sources[source % plan.sources.length]);
    }
  }

  private settle(): void {
    this.settled.count++;
    this.settled.atMs = performance.now();
  }

  private giveUp(why: string): void {
    this.startedCount = this.clients.length;
    for (const client of this.clients) {
      if (client.isUp || client.isClosed) continue;
      client.disconnect();
      this.handleClosed(client, why);
    }
  }

  private keepAlive(): void {
    const { keepAliveSec } = this.plan;
    if (keepAliveSec === 0) return;
    const timer = setInterval(() => {
      const beforeNs = this.nowNs() - keepAliveSec * PING_PART * 1e9;
      for (const client of this.clients) {
        if (!client.isUp || client.isClosed || client.lastOutNs > beforeNs) continue;
        this.tally.counts.pings++;
        client.ping();
      }
    }, 1000);
    timer.unref();
  }

  // ---- ticks

  touch(client: Client): void {
    if (client.isTouched) return;
    client.isTouched = true;
    this.touched.push(client);
    this.setTick();
  }

  afterEvent(bytes: number): void {
    this.eventCount++;
    if (this.isPacing) return;
    this.setTick();
    if (this.eventCount === 1 && this.wasQuiet && bytes <= SMALL_BYTES && this.touched.length <= FEW) this.visitAll();
  }

  private setTick(): void {
    if (this.isTickSet || this.isPacing) return;
    this.isTickSet = true;
    setImmediate(this.tick);
  }

  private readonly tick = (): void => {
    this.isTickSet = false;
    this.wasQuiet = this.eventCount <= 1;
    this.eventCount = 0;
    this.visitAll();
    if (this.elsewhere.size > 0) this.passCreditOn();
  };

  private visitAll(): void {
    if (this.touched.length === 0) return;
    const clients = this.touched;
    this.touched = this.spare; // a visit may touch
    this.spare = clients;
    for (const client of clients) client.visit(this.isRunning);
    clients.length = 0;
  }

  private readonly paceTick = (): void => {
    if (!this.isPacing) return;
    const schedule = this.schedule!;
    schedule.takeDue(this.nowNs(), this.touchDue);
    this.visitAll();
    if (this.touched.length === 0) this.wait(Math.min(WAIT_NS_MAX, schedule.nextDueNs - this.nowNs()));
    setImmediate(this.paceTick);
  };

  private readonly touchDue = (place: number): void => this.touch(this.ownPublishers[place]);

  // ---- credit

  private creditHere(publisher: number, deliveries: number): void {
    const client = this.publishing[publisher];
    if (client === undefined) {
      if (this.plan.ratePerSec > 0) return; // paced: nobody waits for it
      this.elsewhere.set(publisher, (this.elsewhere.get(publisher) ?? 0) + deliveries);
      this.setTick();
      return;
    }
    client.publisher!.credit(deliveries);
    if (!this.isPacing) this.touch(client);
  }

  private passCreditOn(): void {
    this.sendCredit([...this.elsewhere].flat());
    this.elsewhere.clear();
  }

  credit(deliveries: readonly number[]): void {
    this.inbox.lastNs = this.nowNs();
    for (let i = 0; i < deliveries.length; i += 2) this.creditHere(deliveries[i], deliveries[i + 1]);
  }

  // ---- the run

  async run({ startNs, warmupSec, durationSec }: RunTimes): Promise<void> {
    const { plan, tally } = this;
    this.ownPublishers = this.clients.filter((client) => client.options.kind === "pub" && client.isUp);
    if (plan.ratePerSec > 0 && this.ownPublishers.length > 0) {
      const own = this.ownPublishers.map((client) => client.options.index);
      this.schedule = new Schedule(startNs, 1e9 / plan.ratePerSec, plan.pubs, own);
      this.wait = preciseWait();
      for (const { publisher } of this.ownPublishers) publisher!.schedule = this.schedule;
    }
    const over = new Promise<void>((resolve) => (this.endRun = resolve));
    if (this.isStopped || (tally.counts.dropped > 0 && isLoop(plan.command))) this.endRun();
    await Promise.race([over, this.sleepUntil(startNs)]);
    this.begin();
    await Promise.race([over, this.sleepUntil(startNs + warmupSec * 1e9)]);
    const cpu = process.cpuUsage();
    const measuredNs = this.nowNs();
    tally.open(measuredNs);
    const endNs = measuredNs + (durationSec === 0 ? DAY_SEC : durationSec) * 1e9;
    const watch = setInterval(() => this.watch(), WATCH_MS);
    await Promise.race([over, this.sleepUntil(endNs)]);
    clearInterval(watch);
    this.isRunning = this.isPacing = false;
    const closedNs = this.nowNs();
    tally.close(closedNs);
    tally.cpuSec = cpuSecSince(cpu);
    for (const { publisher } of this.ownPublishers) tally.counts.behind += publisher!.behindCount(closedNs);
    for (const client of this.clients) this.touch(client); // acknowledgements go on
  }

  private begin(): void {
    this.isRunning = true;
    this.inbox.lastNs = this.nowNs();
    this.isPacing = this.schedule !== undefined;
    if (this.isPacing) return void setImmediate(this.paceTick);
    for (const client of this.ownPublishers) this.touch(client);
  }

  private watch(): void {
    const { plan } = this;
    const publishers = this.ownPublishers.map((client) => client.publisher!);
    if (plan.limit > 0 && publishers.length > 0 && publishers.every(({ isDone }) => isDone)) this.endRun();
    const isClosedLoop = isLoop(plan.command) && plan.ratePerSec === 0;
    if (!isClosedLoop || this.nowNs() - this.inbox.lastNs < STALL_NS) return;
    // All that was in flight is lost: open the windows again.
    this.tally.counts.stalls++;
    this.inbox.lastNs = this.nowNs();
    for (const client of this.ownPublishers) {
      client.publisher!.reopen();
      this.touch(client);
    }
  }

  private sleepUntil(ns: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, Math.max(0, (ns - this.nowNs()) / 1e6)));
  }

  stop(): void {
    this.isStopped = true;
    this.endRun();
  }

  async counts(): Promise<Counts> {
    this.inbox.copyFaults();
    const { counts } = this.tally;
    counts.expected = counts.unacked = counts.unwritten = 0;
    for (const { publisher, isBlocked } of this.clients) {
      if (publisher === undefined) continue;
      if (isBlocked) counts.unwritten++;
      counts.expected += publisher.sent * publisher.copies;
      counts.unacked += publisher.unackedCount;
    }
    return counts;
  }

  async finish(): Promise<TallyData> {
    await this.counts();
    const tally = this.tally.toData();
    for (const client of this.clients) client.disconnect();
    return tally;
  }
}

function cpuSecSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

function tlsOptions({ tlsFiles }: Plan): object {
  const { ca, cert, key } = tlsFiles;
  return {
    rejectUnauthorized: ca !== "",
    ...(ca === "" ? {} : { ca: readFileSync(ca) }),
    ...(cert === "" ? {} : { cert: readFileSync(cert) }),
    ...(key === "" ? {} : { key: readFileSync(key) }),
  };
}
