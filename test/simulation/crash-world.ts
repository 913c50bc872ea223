/**
 * One crash run: clients over bad links, the real engine with real MQTT connections on a durable store whose disk keeps
 * what was committed and loses, at each crash, the rest or a part of it. All chance comes from one seed.
 *
 *   storm   clock, bytes, commits, reads, clients, faults of links and disk; now and then the broker is gone and comes back
 *   heal    no more faults: everybody comes back and drains; what was promised has arrived
 *   again   one more crash, probes to every topic: subscriptions have survived, and none that was ended
 *   end     retained messages compared, sessions ended, and neither engine nor disk has anything left but those
 */
import { Random } from "#base/random.ts";
import type { Engine } from "#core/engine.ts";
import { Connection } from "#mqtt/connection.ts";
import { MemoryLog } from "#test/support/memory-log.ts";
import { describePacket } from "#test/support/packets.ts";
import { CrashLedger } from "./crash-ledger.ts";
import { type CrashPlant, type Life, makeLife } from "./crash-life.ts";
import { ClientRecord } from "./crash-records.ts";
import { checkNothingLeft, compareRetained, crashOnceMore } from "./crash-verdict.ts";
import { CrashScript, type Stage } from "./crash-script.ts";
import { type CrashWeather, drawCrashWeather } from "./crash-weather.ts";
import {
  type ConnectInput,
  describeInput,
  LinkModel,
  type Message,
  numberIn,
  SessionModel,
  Violation,
} from "./model.ts";
import { SimClient } from "./sim-client.ts";
import { SimLink } from "./sim-link.ts";
import { Dice } from "./weather.ts";

export class CrashWorld implements Stage {
  readonly dice: Dice;
  readonly weather: CrashWeather;
  readonly ledger = new CrashLedger();
  readonly script: CrashScript;
  readonly clients: SimClient[] = [];
  readonly links: SimLink[] = [];
  life: Life | undefined;
  stepNo = 0;
  crashCount = 0;
  private log = new MemoryLog();
  private nowMs = 1_000_000_000;
  /** Monotonic clocks of two processes have nothing in common. */
  private monotonicMs = 0;
  private downUntil = 0;
  private failingUntil = 0;
  private isWorkAsked = false;
  private isCalm = false;
  private linkCount = 0;
  private readonly sessions = new Map<string, SessionModel>();
  private readonly wrapped = new Set<SimClient>();
  private bugs: unknown[] = [];
  private violation: Violation | undefined;
  private readonly undo: (() => void)[] = [];
  digest = 0;
  trace: ((line: string) => void) | undefined = undefined;

  constructor(
    readonly seed: number,
    private readonly plant?: CrashPlant,
  ) {
    this.dice = new Dice(seed);
    this.weather = drawCrashWeather(this.dice);
    const { isCrowded, hasFewPlaces, failures, willGraceSec, hasWills } = this.weather;
    const reasons = new Set(["session_ended"]);
    if (isCrowded) reasons.add("memory_full");
    if (hasFewPlaces) reasons.add("queue_full");
    if (failures > 0) reasons.add("store_full");
    this.ledger.canDrop = (reason) => reasons.has(reason);
    this.ledger.willGraceSec = willGraceSec;
    this.ledger.seesRoutes = hasWills;
    for (let i = 0; i < this.weather.clientCount; i++) this.addClient(`c${i}`);
    this.script = new CrashScript(this);
  }

  addClient(id: string): SimClient {
    const { dice } = this;
    // What waits for a member whose session is not stored is lost with the broker: here all are stored.
    const groups = id === "observer" ? [] : ["$share/g/s/+", "$share/h/s/#", "$queue/s/a"];
    const version = dice.chance(60) ? 5 : 4;
    const share = version === 5 && dice.chance(60) ? dice.pick([...groups, undefined]) : undefined;
    const client = new SimClient(id, version, share, this.weather.receiveMax);
    if (client.share) this.ledger.workers.add(id);
    this.ledger.clients.set(id, new ClientRecord(id));
    this.sessions.set(id, new SessionModel(id));
    client.onForget = () => this.ledger.forget(id, client.link?.model);
    client.onDelivered = (packet) => this.ledger.onDelivered(client.link!.model, packet);
    this.clients.push(client);
    return client;
  }

  canConnect(): boolean {
    return this.life !== undefined;
  }

  // ---- the broker

  start(): void {
    const { ledger, weather } = this;
    ledger.life++;
    ledger.readyMs = Infinity;
    this.monotonicMs = this.dice.below(1_000_000);
    this.isWorkAsked = false;
    this.life = makeLife({
      log: this.log,
      weather,
      seed: this.seed,
      nowMs: () => this.monotonicMs,
      nowSec: Math.floor(this.nowMs / 1000),
      onWork: () => (this.isWorkAsked = true),
      onBug: (error) => void this.bugs.push(error),
    });
    const { engine, store } = this.life;
    this.listen(engine);
    const undo = this.plant?.(this.life);
    if (undo) this.undo.push(undo);
    this.trace?.(`${this.nowMs} life ${ledger.life} begins`);
    this.call(() =>
      store.attach(engine, ({ damage, ...counts }) => {
        this.trace?.(`${this.nowMs} restored ${JSON.stringify(counts)}`);
        this.guard(() => ledger.check(damage.length === 0, () => `the disk is damaged: ${damage.join("; ")}`));
        ledger.onReady();
      }),
    );
  }

  private listen({ hooks }: Engine): void {
    const { ledger } = this;
    hooks.messageDropped.add((id, reason, { payload, topic }) => {
      this.trace?.(`${this.nowMs} drops ${payload.subarray(0, 6)} of ${topic} for ${id}: ${reason}`);
      this.guard(() => ledger.onDrop(id, reason, payload));
    });
    if (!this.weather.hasWills) return;
    hooks.messagePublish.add(({ payload }) => {
      const message = ledger.messages[numberIn(payload)];
      if (!message?.isWill) return;
      this.trace?.(`${this.nowMs} the will ${message.no} of ${message.publisher} is routed`);
      this.guard(() => ledger.onWillRouted(message));
    });
  }

  /** The broker is gone, with all that it had in memory. */
  crash(isHard: boolean): void {
    const { life, dice, ledger } = this;
    this.trace?.(`${this.nowMs} the broker crashes, ${life!.disk.waitingCount} batches are not durable`);
    this.crashCount++;
    this.checkLife(life!);
    // A page that was dropped is read to be reported: the crash may have come between.
    if (this.weather.hasFewPlaces && life!.disk.answerCount > 0) ledger.hasLostReports = true;
    this.log = life!.disk.crash(isHard ? undefined : new Random(dice.between(1, 1 << 30)));
    this.life = undefined;
    this.undoPlants();
    ledger.crash();
    for (const link of this.links) link.isEnded = link.isClosed = true;
    for (const link of this.links.splice(0)) this.loseAtCrash(link);
  }

  /** What the broker's kernel had taken may still arrive. */
  private loseAtCrash(link: SimLink): void {
    this.digest = (Math.imul(this.digest, 31) + link.digest) | 0;
    const client = this.clientOf(link);
    if (!client) return;
    const size = this.dice.chance(50) ? link.downBytes : this.dice.below(link.downBytes + 1);
    for (const packet of link.takeDown(size)) client.handle(packet);
    this.leave(client);
  }

  checkLife({ engine }: Life): void {
    const lost = engine.metrics.get("store.messages.lost");
    this.ledger.check(lost === 0, () => `${lost} messages were lost on the disk`);
    this.ledger.check(engine.metrics.get("bugs") === 0, () => "there was a bug");
  }

  private undoPlants(): void {
    for (const each of this.undo.splice(0).reverse()) each();
  }

  private guard(judge: () => void): void {
    try {
      judge();
    } catch (error) {
      const violation =
        error instanceof Violation ? error : new Violation(`the simulation itself: ${(error as Error).stack}`);
      this.trace?.(`violation: ${violation.message}`);
      this.violation ??= violation;
    }
  }

  /** A call into the broker. */
  call(action: () => void): void {
    this.ledger.event++;
    action();
    if (this.violation) throw this.violation;
    for (const bug of this.bugs) throw new Violation(`bug: ${(bug as Error).stack}`);
  }

  // ---- links

  open(client: SimClient, input: ConnectInput): void {
    const model = new LinkModel(++this.linkCount, this.nowMs);
    model.version = client.version;
    model.session = this.sessions.get(client.id)!;
    const link = new SimLink(model, this.ledger, (judgement) => this.guard(judgement));
    link.onPacket = (packet) => this.trace?.(`${this.nowMs} link ${model.no} < ${describePacket(packet)}`);
    this.trace?.(`${this.nowMs} link ${model.no} is opened by ${client.id}`);
    this.links.push(link);
    link.protocol = new Connection(this.life!.context, link, "simulation");
    this.ledger.attach(model, client.id);
    client.connect(link, input);
  }

  /** The client's side of its link goes; the broker hears of it later, with some of the bytes that were under way. */
  cut(client: SimClient): void {
    const { link } = client;
    if (!link) return;
    // A CONNECT that arrived after a later one would make a session of which its client cannot know.
    const { heardAt } = this.ledger.links.get(link.model)!;
    link.cut(heardAt === Infinity ? 0 : this.dice.chance(30) ? link.upBytes : this.dice.below(link.upBytes + 1));
    this.leave(client);
  }

  leave(client: SimClient): void {
    client.leave();
    this.ledger.clients.get(client.id)!.leftMs = this.nowMs;
  }

  private clientOf(link: SimLink): SimClient | undefined {
    return this.clients.find((each) => each.link === link);
  }

  private setStalled(link: SimLink, isStalled: boolean): void {
    if (link.isStalled === isStalled || link.isEnded) return;
    link.isStalled = isStalled;
    this.call(() => link.protocol!.handleWritable(!isStalled));
  }

  private moveUp(link: SimLink, count: number): void {
    let left = count;
    while (left > 0 && !link.isEnded && !link.isPaused) {
      const { bytes, inputs } = link.takeUp(left, this.dice.chance(50));
      if (bytes.length === 0) return;
      left -= bytes.length;
      this.call(() => {
        for (const input of inputs) {
          this.trace?.(`${this.nowMs} link ${link.model.no} > ${describeInput(input)}`);
          this.ledger.handleInput(link.model, input);
        }
        link.protocol!.handleData(bytes);
      });
    }
  }

  private moveDown(link: SimLink, client: SimClient | undefined): void {
    if (client?.isMute || (link.isStalled && !link.isEnded)) return;
    const packets = link.takeDown(this.portion(link.downBytes));
    if (!client) return;
    for (const packet of packets) client.handle(packet);
    if (link.isEnded && link.downBytes === 0) this.leave(client);
  }

  private portion(size: number): number {
    if (this.isCalm) return size;
    return this.dice.chance(60) ? size : this.dice.below(size + 1);
  }

  private close(link: SimLink): void {
    const client = this.clientOf(link);
    if (client) this.leave(client);
    this.trace?.(`${this.nowMs} link ${link.model.no} is gone`);
    this.call(() => {
      this.ledger.lose(link.model);
      link.isEnded = link.isClosed = true;
      link.protocol!.handleClose();
    });
    this.digest = (Math.imul(this.digest, 31) + link.digest) | 0;
    this.links.splice(this.links.indexOf(link), 1);
  }

  private moveLinks(transfers: number): void {
    for (const link of this.dice.shuffled(this.links)) {
      if (link.isClosed) continue;
      const client = this.clientOf(link);
      if (this.dice.chance(transfers)) this.moveUp(link, this.portion(link.upBytes));
      if (this.dice.chance(transfers)) this.moveDown(link, client);
      const isDone = link.isEnded
        ? link.downBytes === 0 || link.isCut || client?.isMute
        : link.isCut && link.upBytes === 0;
      if (isDone && this.dice.chance(40)) this.close(link);
    }
  }

  // ---- time and disk

  moveClock(ms: number): void {
    this.nowMs += ms;
    this.monotonicMs += ms;
    this.ledger.nowMs = this.nowMs;
    for (const client of this.clients) client.nowMs = this.nowMs;
    if (this.life) this.call(() => this.life!.engine.tick(this.monotonicMs, Math.floor(this.nowMs / 1000)));
  }

  /** Reads are answered, batches become durable or fail, and the store cuts what it has. */
  private moveDisk(commits: number): void {
    const { dice } = this;
    const { disk, store } = this.life!;
    for (let left = disk.answerCount; left > 0 && (this.isCalm || dice.chance(50)); left--) {
      this.call(() => disk.answerOne());
    }
    if (this.failingUntil > this.stepNo) this.call(() => disk.fail());
    else if (disk.waitingCount > 0 && dice.chance(commits)) {
      this.call(() => disk.commit(this.isCalm ? disk.waitingCount : dice.between(1, disk.waitingCount)));
    }
    if (this.isCalm || dice.chance(80)) this.call(() => store.tick());
  }

  private turn(): void {
    if (!this.isWorkAsked) return;
    this.isWorkAsked = false;
    this.call(() => this.life!.engine.turn());
  }

  // ---- the parts of a run

  run(): void {
    try {
      this.start();
      while (this.stepNo < this.weather.stepCount) this.storm();
      if (!this.life) this.start();
      this.heal();
      this.ledger.checkKept();
      crashOnceMore(this);
      compareRetained(this);
      checkNothingLeft(this);
    } catch (error) {
      const told = error as Error; // a TypeError stays one: those who look for planted bugs tell them apart
      told.message = `MANTOU_CRASH_SEED=${this.seed} bun test test/simulation: step ${this.stepNo}: ${told.message}`;
      throw told;
    } finally {
      this.undoPlants();
    }
  }

  private storm(): void {
    this.stepNo++;
    const { dice, weather } = this;
    this.moveClock(dice.chance(6) ? dice.between(400, 3000) : dice.between(1, 90));
    if (!this.life) {
      if (this.stepNo >= this.downUntil) this.start();
      return;
    }
    if (dice.chance(weather.failures)) this.failingUntil = this.stepNo + dice.between(5, 40);
    this.moveLinks(weather.transfers);
    for (const link of this.links) {
      if (dice.chance(weather.stalls)) this.setStalled(link, true);
      else if (link.isStalled && dice.chance(12)) this.setStalled(link, false);
    }
    for (const client of this.clients) {
      this.script.act(client);
      if (dice.chance(weather.wraps)) this.wrap(client);
    }
    this.turn();
    this.moveDisk(weather.commits);
    if (!dice.chance(weather.crashes)) return;
    this.crash(weather.isHard);
    this.downUntil = this.stepNo + dice.pick([0, 1, 5, 20]);
  }

  /** As if the session had used nearly all packet ids by now, once: nobody waits for 65,000 messages. */
  private wrap(client: SimClient): void {
    const { sessions } = this.life!.engine;
    const session = sessions.find(Buffer.from(client.id));
    const queue = session < 0 ? null : sessions.queueOf(session);
    if (queue === null || queue.isOnDisk || this.wrapped.has(client)) return;
    this.wrapped.add(client);
    queue.inflight["lastId"] = 65_530;
  }

  private calmStep(): void {
    this.stepNo++;
    this.moveClock(this.dice.between(1, 20));
    this.moveLinks(100);
    for (const client of this.clients) if (client.link) client.flush(Infinity);
    this.turn();
    this.moveDisk(100);
  }

  calm(isEnough: () => boolean): void {
    for (let i = 0; i < 6000; i++) {
      this.calmStep();
      if (isEnough()) return;
    }
    throw new Violation(`does not come to rest: ${this.unrest()}`);
  }

  heal(): void {
    this.isCalm = true;
    this.failingUntil = 0;
    for (const link of this.links) this.setStalled(link, false);
    for (const client of this.clients) client.isMute = false;
    this.calm(() => {
      for (const client of this.clients) if (!client.link) this.script.comeBack(client, false);
      return this.unrest() === "";
    });
  }

  /** What is not at rest. */
  unrest(): string {
    const { disk, engine, store } = this.life!;
    for (const link of this.links) {
      if (link.isCut || link.isEnded) return `link ${link.model.no} is not closed`;
      if (link.upBytes + link.downBytes > 0) return `link ${link.model.no} is busy`;
    }
    for (const client of this.clients) {
      if (!client.isConnected) return `${client.id} is not connected`;
      if (!client.isIdle) return `${client.id} waits for ${client.state}`;
      const session = engine.sessions.find(Buffer.from(client.id));
      const queue = engine.sessions.queueOf(session);
      if (queue && queue.outbox.count + queue.inflight.total > 0) return `messages for ${client.id}`;
    }
    if (engine.router.hasReplays) return "replays";
    if (disk.answerCount > 0) return "reads";
    if (disk.waitingCount > 0 || store.durableSeq < engine.delivery.lastSeq) return "commits";
    return this.isWorkAsked ? "work" : "";
  }

  makeMessage(part: Omit<Message, "no" | "payload" | "routedCount">, size: number): Message {
    const { messages } = this.ledger;
    const no = messages.length;
    const payload = Buffer.from(size < 0 ? "" : `${no}|`.padEnd(size, "x"));
    const message = { ...part, no, payload, routedCount: 0 };
    messages.push(message);
    return message;
  }
}
