/**
 * One run: clients, links, clock, store, the real engine with real MQTT connections, and the twin that judges. All chance
 * comes from one seed, nothing waits, so a run repeats to the byte.
 *
 *   storm   clock moves, bytes move, commits come, clients act, links stall and break
 *   heal    no more faults: everybody comes back and drains
 *   end     logs compared, an observer compares the retained messages, every session is ended, nothing may be left
 */
import { Engine, MessageView } from "#core/engine.ts";
import { DELIVERY, DELIVERY_QOS, DELIVERY_RETAIN, DELIVERY_SENT, IDS, MESSAGE } from "#core/outbox.ts";
import { Connection } from "#mqtt/connection.ts";
import { MqttContext } from "#mqtt/context.ts";
import { DelayedStore } from "#test/support/delayed-ports.ts";
import { describePacket } from "#test/support/packets.ts";
import { type ConnectInput, describeInput, LinkModel, type Message, Violation } from "./model.ts";
import { Script } from "./script.ts";
import { SimClient } from "./sim-client.ts";
import { SimLink } from "./sim-link.ts";
import { StoreMirror } from "./store-mirror.ts";
import { Twin } from "./twin.ts";
import { checkNothingLeft, compareCounts, compareLogs, compareRetained } from "./verdict.ts";
import { Dice, drawWeather, type Weather } from "./weather.ts";

/** Changes the broker for a run, to see whether that is found. The function returned undoes what is not of this engine. */
export type Plant = (engine: Engine) => (() => void) | void;

export class World {
  readonly dice: Dice;
  readonly weather: Weather;
  readonly engine: Engine;
  readonly context: MqttContext;
  readonly twin: Twin;
  readonly store: DelayedStore | undefined;
  readonly clients: SimClient[] = [];
  readonly links: SimLink[] = [];
  readonly script: Script;
  stepNo = 0;
  private nowMs = 1_000_000_000;
  private isWorkAsked = false;
  private isCalm = false;
  private linkCount = 0;
  private bugs: unknown[] = [];
  private readonly wrapped = new WeakSet<object>();
  digest = 0;
  /** Told of every packet at the broker's edge; for a person who follows a failing run. */
  trace: ((line: string) => void) | undefined = undefined;

  constructor(
    readonly seed: number,
    plant?: Plant,
  ) {
    this.dice = new Dice(seed);
    this.weather = drawWeather(this.dice);
    this.store = this.weather.isDelayed ? new DelayedStore() : undefined;
    this.engine = new Engine({
      limits: this.weather.limits,
      seed,
      nowMs: this.nowMs,
      nowSec: this.nowMs / 1000,
      onWork: () => (this.isWorkAsked = true),
      ...(this.store ? { store: this.store } : {}),
    });
    const reporter = { fault: () => {}, bug: (_: unknown, error: unknown) => void this.bugs.push(error) };
    this.context = new MqttContext(this.engine, { reporter });
    const sessionOf = (clientId: string): number => this.engine.sessions.find(Buffer.from(clientId));
    this.twin = new Twin(this.weather, this.store, this.store && new StoreMirror(this.store, sessionOf));
    this.listen();
    plant?.(this.engine);
    for (let i = 0; i < this.weather.clientCount; i++) this.clients.push(this.makeClient(i));
    this.script = new Script(this);
  }

  private listen(): void {
    const { hooks } = this.engine;
    const { twin } = this;
    hooks.sessionEnded.add((clientId) => void this.guard(() => twin.onSessionEnded(clientId)));
    hooks.messageDropped.add((id, reason, message) => {
      this.trace?.(`${this.nowMs} drops ${message.payload.subarray(0, 6)} of ${message.topic} for ${id}: ${reason}`);
      this.guard(() => twin.onDrop(id, reason, message));
    });
    if (this.store) this.watchHeld(this.store);
    if (this.weather.hasWills) hooks.messagePublish.add((message) => void this.guard(() => twin.onRoute(message)));
  }

  /** Tells the twin of each message that is put in flight before it is sent. */
  private watchHeld(store: DelayedStore): void {
    const { messages, sessions, delivery: parts } = this.engine;
    const view = new MessageView();
    store.onInflight = (session, packetId) => {
      const { inflight } = sessions.queueOf(session)!;
      const last = inflight.positions - 1;
      const delivery = inflight.field(last, DELIVERY);
      if (inflight.packetIdAt(last) !== packetId || delivery & DELIVERY_SENT) return;
      const ids = inflight.field(last, IDS);
      messages.load(inflight.field(last, MESSAGE), view);
      const held = {
        clientId: sessions.clientId(session),
        topic: view.topicText(),
        payload: view.payload(),
        qos: delivery & DELIVERY_QOS,
        isRetain: (delivery & DELIVERY_RETAIN) !== 0,
        ids: ids === 0 ? [] : ids > 0 ? [ids] : [...parts.idLists.get(ids)],
        packetId,
      };
      this.trace?.(`${this.nowMs} holds ${held.payload.subarray(0, 6)} for ${held.clientId} as ${packetId}`);
      this.guard(() => this.twin.onHeld(held));
    };
  }

  private violation: Violation | undefined;

  /** The broker catches what its handlers throw, so the first violation is kept until the call is over. */
  private guard(judge: () => void): void {
    try {
      judge();
    } catch (error) {
      const { stack } = error as Error;
      const violation = error instanceof Violation ? error : new Violation(`the simulation itself: ${stack}`);
      this.trace?.(`violation: ${violation.message}`);
      this.violation ??= violation;
    }
  }

  private makeClient(i: number): SimClient {
    const share = this.dice.chance(35) ? this.dice.pick(["$share/g/s/+", "$share/h/s/#", "$queue/s/a"]) : undefined;
    return new SimClient(`c${i}`, this.dice.chance(50) ? 5 : 4, share, this.weather.receiveMax);
  }

  // ---- calls into the broker

  private call(action: () => void): void {
    this.twin.beginCall();
    action();
    if (this.violation) throw this.violation;
    for (const bug of this.bugs) throw new Violation(`bug: ${(bug as Error).stack}`);
    this.twin.settle();
  }

  private turn(): void {
    if (!this.isWorkAsked) return;
    this.isWorkAsked = false;
    this.twin.isTurning = true;
    this.call(() => this.engine.turn());
    this.twin.isTurning = false;
  }

  private moveClock(ms: number): void {
    this.nowMs += ms;
    this.twin.nowMs = this.nowMs;
    this.twin.nowSec = Math.floor(this.nowMs / 1000);
    for (const client of this.clients) client.nowMs = this.nowMs;
    this.twin.isTurning = true; // `tick` ends with a turn
    this.call(() => this.engine.tick(this.nowMs, this.twin.nowSec));
    this.twin.isTurning = false;
  }

  // ---- links

  open(client: SimClient, input: ConnectInput): void {
    const model = new LinkModel(++this.linkCount, this.nowMs);
    model.version = client.version;
    const link = new SimLink(model, this.twin, (judgement) => this.guard(judgement));
    link.onPacket = (packet) => this.trace?.(`${this.nowMs} link ${model.no} < ${describePacket(packet)}`);
    this.trace?.(`${this.nowMs} link ${model.no} is opened by ${client.id}`);
    this.links.push(link);
    this.twin.links.add(model);
    link.protocol = new Connection(this.context, link, "simulation");
    client.connect(link, input);
  }

  /** The client's side of its link goes; the broker hears of it later, with some of the bytes that were under way. */
  cut(client: SimClient): void {
    const { link } = client;
    if (!link) return;
    link.cut(this.dice.chance(30) ? link.upBytes : this.dice.below(link.upBytes + 1));
    client.leave();
  }

  setStalled(link: SimLink, isStalled: boolean): void {
    if (link.isStalled === isStalled || link.isEnded || link.model.state !== "open") return;
    link.isStalled = isStalled;
    link.model.isWritable = !isStalled;
    this.trace?.(`${this.nowMs} link ${link.model.no} ${isStalled ? "stalls" : "moves again"}`);
    this.call(() => link.protocol!.handleWritable(!isStalled));
  }

  private moveUp(link: SimLink, count: number): void {
    let left = count;
    while (left > 0 && !link.isEnded && !link.isPaused) {
      const { bytes, inputs } = link.takeUp(left, this.store !== undefined);
      if (bytes.length === 0) return;
      left -= bytes.length;
      this.call(() => {
        for (const input of inputs) {
          this.trace?.(`${this.nowMs} link ${link.model.no} > ${describeInput(input)}`);
          this.twin.handleInput(link.model, input);
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
    if (link.isEnded && link.downBytes === 0) client.leave();
  }

  private portion(size: number): number {
    if (this.isCalm) return size;
    return this.dice.chance(60) ? size : this.dice.below(size + 1);
  }

  private close(link: SimLink): void {
    const client = this.clients.find((each) => each.link === link);
    client?.leave();
    this.trace?.(`${this.nowMs} link ${link.model.no} is gone`);
    this.call(() => {
      this.twin.lose(link.model);
      link.isEnded = link.isClosed = true;
      link.protocol!.handleClose();
    });
    this.digest = (Math.imul(this.digest, 31) + link.digest) | 0;
    this.twin.links.delete(link.model);
    this.links.splice(this.links.indexOf(link), 1);
  }

  private moveLinks(transfers: number): void {
    for (const link of this.dice.shuffled(this.links)) {
      if (link.isClosed) continue;
      const client = this.clients.find((each) => each.link === link);
      if (this.dice.chance(transfers)) this.moveUp(link, this.portion(link.upBytes));
      if (this.dice.chance(transfers)) this.moveDown(link, client);
      const isDone = link.isEnded
        ? link.downBytes === 0 || link.isCut || client?.isMute
        : link.isCut && link.upBytes === 0;
      if (isDone && this.dice.chance(40)) this.close(link);
    }
  }

  // ---- the three parts

  run(): void {
    try {
      this.twin.nowMs = this.nowMs;
      this.twin.nowSec = this.nowMs / 1000;
      while (this.stepNo < this.weather.stepCount) this.storm();
      this.heal();
      this.compare();
      this.finish();
    } catch (error) {
      const told = error as Error; // a TypeError stays one: those who look for planted bugs tell them apart
      told.message = `MANTOU_SIM_SEED=${this.seed} bun test test/simulation: step ${this.stepNo}: ${told.message}`;
      throw told;
    }
  }

  private storm(): void {
    this.stepNo++;
    const { dice, weather } = this;
    this.moveClock(dice.chance(6) ? dice.between(400, 3000) : dice.between(1, 90));
    if (dice.chance(weather.commits)) this.commit(false);
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
    this.twin.checkProgress();
  }

  /** As if the session had used nearly all packet ids by now, once: nobody waits for 65,000 messages. */
  private wrap(client: SimClient): void {
    const { sessions } = this.engine;
    const session = sessions.find(Buffer.from(client.id));
    const queue = session < 0 ? null : sessions.queueOf(session);
    if (queue === null || this.wrapped.has(queue) || !this.twin.current.get(client.id)?.hasUsedIds) return;
    this.wrapped.add(queue);
    queue.inflight["lastId"] = 65_530;
  }

  private commit(isAll: boolean): void {
    const { store } = this;
    if (!store || store.durableSeq === store.log.length) return;
    const waiting = store.log.length - store.durableSeq;
    const count = isAll || this.dice.chance(50) ? waiting : this.dice.between(1, waiting);
    this.call(() => store.commit(store.durableSeq + count));
  }

  /** Everything moves, nobody does anything new. */
  private calmStep(): void {
    this.stepNo++;
    this.moveClock(this.dice.between(1, 20));
    this.commit(true);
    this.moveLinks(100);
    for (const client of this.clients) if (client.link) client.flush(Infinity);
    this.turn();
    this.twin.checkProgress();
  }

  private heal(): void {
    this.isCalm = true;
    for (const link of this.links) this.setStalled(link, false);
    for (const client of this.clients) client.isMute = false;
    for (let i = 0; i < 4000; i++) {
      for (const client of this.clients) {
        if (client.link) client.ping();
        else if (this.dice.chance(50)) this.script.comeBack(client, false);
      }
      this.calmStep();
      if (this.isQuiet()) return;
    }
    throw new Violation(`does not come to rest: ${this.unrest()}`);
  }

  private isQuiet(): boolean {
    return this.unrest() === "";
  }

  /** What is not at rest. */
  private unrest(): string {
    for (const link of this.links) {
      if (link.isCut || link.isEnded) return `link ${link.model.no} is not closed`;
      if (link.upBytes + link.downBytes > 0 || link.model.owed.length > 0) return `link ${link.model.no} is busy`;
    }
    for (const client of this.clients) {
      if (!client.isConnected) return `${client.id} is not connected`;
      if (!client.isIdle) return `${client.id} waits for ${client.state}`;
    }
    for (const session of this.twin.sessions) {
      if (session.waiting.length + session.inflight.size > 0) return `messages for ${session.clientId}`;
    }
    if (this.store && this.store.durableSeq < this.store.log.length) return "commits";
    return this.isWorkAsked ? "work" : "";
  }

  private compare(): void {
    compareLogs(this);
    compareCounts(this);
    const observer = new SimClient("observer", 5, undefined, 10);
    observer.nowMs = this.nowMs;
    this.clients.push(observer);
    this.script.comeBack(observer, true);
    this.calm(() => observer.isConnected);
    const plain = { qos: 1, noLocal: false, retainAsPublished: true, retainHandling: 0 };
    observer.subscribe(
      [
        { filter: "#", ...plain },
        { filter: "$x/#", ...plain },
      ],
      0,
    );
    this.calm(() => this.isQuiet() && observer.filters.size > 0);
    this.calm(() => this.isQuiet());
    compareRetained(this, observer);
  }

  private calm(isEnough: () => boolean): void {
    for (let i = 0; i < 200; i++) {
      this.calmStep();
      if (isEnough()) return;
    }
    throw new Violation(`does not come to rest: ${this.unrest()}`);
  }

  /** All sessions end; retained messages go; then nothing may be left. */
  private finish(): void {
    for (const client of this.clients) {
      this.cut(client);
      this.script.comeBack(client, true);
    }
    this.calm(() => this.isQuiet());
    for (const client of this.clients) client.send({ type: "disconnect", reasonCode: 0, expirySec: undefined });
    this.calm(() => this.links.length === 0);
    checkNothingLeft(this);
  }

  makeMessage(part: Omit<Message, "no" | "payload" | "routedCount">, size: number): Message {
    const no = this.twin.messages.length;
    const payload = Buffer.from(size < 0 ? "" : `${no}|`.padEnd(size, "x"));
    const message = { ...part, no, payload, routedCount: 0 };
    this.twin.messages.push(message);
    return message;
  }
}
