/**
 * One cluster run: several nodes that are one broker, each the real engine with real MQTT connections to its clients and to the
 * other nodes, on a durable store that loses what was not synced. Clients are attached to the node that has their session. All
 * chance comes from one seed.
 *
 *   storm   clock, bytes, commits, reads, clients; nodes crash and come back, connections between them are cut and made again
 *   heal    no more faults: everybody comes back and drains; what was promised has arrived
 *   again   all nodes crash once more, probes to every topic from every node
 *   end     all nodes hold the same retained values; sessions ended, and neither engines nor disks have anything left but those
 *
 * The judge is that of a crash run (crash-ledger.ts): clients see one broker, whatever it consists of.
 */
import { Random } from "#base/random.ts";
import { homeOf } from "#fabric/home.ts";
import { Connection } from "#mqtt/connection.ts";
import type { RestoreInfo } from "#store/restore.ts";
import { describePacket } from "#test/support/packets.ts";
import { ClusterLedger } from "./cluster-ledger.ts";
import { ClusterLife, ClusterNode, type NodeHost } from "./cluster-node.ts";
import { Pipe } from "./cluster-pipe.ts";
import { type ClusterWeather, drawClusterWeather } from "./cluster-weather.ts";
import { ClientRecord } from "./crash-records.ts";
import { CrashScript, type Stage } from "./crash-script.ts";
import { type ConnectInput, describeInput, LinkModel, type Message, SessionModel, Violation } from "./model.ts";
import { SimClient } from "./sim-client.ts";
import { SimLink } from "./sim-link.ts";
import { Dice } from "./weather.ts";

/** Changes a node in each of its lives, to see whether that is found. What it returns undoes what outlives them. */
export type ClusterPlant = (life: ClusterLife) => (() => void) | void;

export class ClusterWorld implements Stage, NodeHost {
  readonly dice: Dice;
  readonly weather: ClusterWeather;
  readonly ledger: ClusterLedger;
  readonly script: CrashScript;
  readonly nodes: ClusterNode[] = [];
  readonly clients: SimClient[] = [];
  readonly links: SimLink[] = [];
  pipes: Pipe[] = [];
  stepNo = 0;
  crashCount = 0;
  cutCount = 0;
  nowMs = 1_000_000_000;
  private isCalm = false;
  private linkCount = 0;
  private readonly sessions = new Map<string, SessionModel>();
  private bugs: unknown[] = [];
  private violation: Violation | undefined;
  private readonly undo: (() => void)[] = [];
  digest = 0;
  trace: ((line: string) => void) | undefined = undefined;

  constructor(
    readonly seed: number,
    private readonly plant?: ClusterPlant,
  ) {
    this.dice = new Dice(seed);
    this.weather = drawClusterWeather(this.dice);
    this.ledger = new ClusterLedger((clientId) => this.homeOf(clientId));
    this.ledger.canDrop = (reason) => reason === "session_ended";
    this.ledger.willGraceSec = this.weather.willGraceSec;
    for (let number = 0; number < this.weather.nodeCount; number++) this.nodes.push(new ClusterNode(number));
    for (let i = 0; i < this.weather.clientCount; i++) this.addClient(`c${i}`);
    this.script = new CrashScript(this, true);
  }

  get nodeCount(): number {
    return this.weather.nodeCount;
  }

  homeOf(clientId: string): number {
    return homeOf(Buffer.from(clientId), { count: this.nodeCount, seed: this.seed });
  }

  addClient(id: string): SimClient {
    const { dice } = this;
    const version = dice.chance(60) ? 5 : 4;
    const share =
      version === 5 && dice.chance(60) ? dice.pick(["$share/g/s/+", "$share/h/s/#", "$queue/s/a"]) : undefined;
    const client = new SimClient(id, version, share, this.weather.receiveMax);
    if (client.share) this.ledger.workers.add(id);
    this.ledger.clients.set(id, new ClientRecord(id));
    this.sessions.set(id, new SessionModel(id));
    client.onForget = () => this.ledger.forget(id, client.link?.model);
    client.onDelivered = (packet) => this.ledger.onDelivered(client.link!.model, packet);
    this.clients.push(client);
    return client;
  }

  lifeOf(client: SimClient): ClusterLife | undefined {
    return this.nodes[this.homeOf(client.id)]!.life;
  }

  canConnect(client: SimClient): boolean {
    return this.lifeOf(client)?.isServing === true;
  }

  log(line: string): void {
    this.trace?.(`${this.nowMs} ${line}`);
  }

  // ---- nodes

  start(node: ClusterNode): void {
    this.log(`node ${node.number} starts`);
    const life = new ClusterLife(node, this, node.log);
    node.life = life;
    this.ledger.life++;
    this.ledger.readyMs = Infinity;
    life.engine.hooks.messageDropped.add((id, reason, { payload, topic }) => {
      this.trace?.(
        `${this.nowMs} node ${node.number} drops ${payload.subarray(0, 6)} of ${topic} for ${id}: ${reason}`,
      );
      this.guard(() => this.ledger.onDrop(id, reason, payload));
    });
    const undo = this.plant?.(life);
    if (undo) this.undo.push(undo);
    this.call(() => life.start());
  }

  onBug(error: unknown): void {
    this.bugs.push(error);
  }

  onRestored(node: ClusterNode, { damage, ...counts }: RestoreInfo): void {
    this.log(`node ${node.number} has restored ${JSON.stringify(counts)}`);
    this.guard(() => this.ledger.check(damage.length === 0, () => `the disk is damaged: ${damage.join("; ")}`));
  }

  onServing(node: ClusterNode): void {
    this.log(`node ${node.number} serves`);
    if (this.nodes.every(({ life }) => life?.isServing)) this.ledger.onReady();
  }

  /** The node's process is gone, with all that it had in memory. */
  crash(node: ClusterNode, isHard: boolean): void {
    const life = node.life!;
    this.log(`node ${node.number} crashes`);
    this.crashCount++;
    this.checkLife(life);
    node.log = life.disk.crash(isHard ? undefined : new Random(this.dice.between(1, 1 << 30)));
    node.life = undefined;
    for (const pipe of this.pipes)
      if (pipe.ends.some((end) => end.node === node.number)) pipe.abandon(node.number, this.dice);
    this.ledger.crashNode(node.number);
    const lost = this.links.filter((link) => this.nodeOf(link) === node.number);
    for (const link of lost) link.isEnded = link.isClosed = true;
    for (const link of lost) this.loseAtCrash(link);
  }

  /** What the node's kernel had taken may still arrive. */
  private loseAtCrash(link: SimLink): void {
    this.forgetLink(link);
    const client = this.clientOf(link);
    if (!client) return;
    const size = this.dice.chance(50) ? link.downBytes : this.dice.below(link.downBytes + 1);
    for (const packet of link.takeDown(size)) client.handle(packet);
    this.leave(client);
  }

  checkLife({ engine, node }: ClusterLife): void {
    const lost = engine.metrics.get("store.messages.lost");
    this.ledger.check(lost === 0, () => `${lost} messages were lost on the disk of node ${node}`);
    this.ledger.check(engine.metrics.get("bugs") === 0, () => "there was a bug");
  }

  private guard(judge: () => void): void {
    try {
      judge();
    } catch (error) {
      const violation =
        error instanceof Violation ? error : new Violation(`the simulation itself: ${(error as Error).stack}`);
      this.log(`violation: ${violation.message}`);
      this.violation ??= violation;
    }
  }

  /** A call into a node. */
  call(action: () => void): void {
    this.ledger.event++;
    action();
    if (this.violation) throw this.violation;
    for (const bug of this.bugs) throw new Violation(`bug: ${(bug as Error).stack}`);
  }

  // ---- clients' links

  open(client: SimClient, input: ConnectInput): void {
    const model = new LinkModel(++this.linkCount, this.nowMs);
    model.version = client.version;
    model.session = this.sessions.get(client.id)!;
    const link = new SimLink(model, this.ledger, (judgement) => this.guard(judgement));
    link.onPacket = (packet) => this.trace?.(`${this.nowMs} link ${model.no} < ${describePacket(packet)}`);
    this.log(`link ${model.no} is opened by ${client.id}, of node ${this.homeOf(client.id)}`);
    this.links.push(link);
    link.protocol = new Connection(this.lifeOf(client)!.context, link, "simulation");
    this.ledger.attach(model, client.id);
    client.connect(link, input);
  }

  private nodeOf(link: SimLink): number {
    return this.homeOf(this.ledger.links.get(link.model)!.client.id);
  }

  /** The client's side of its link goes; the node hears of it later, with some of the bytes that were under way. */
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

  private forgetLink(link: SimLink): void {
    this.digest = (Math.imul(this.digest, 31) + link.digest) | 0;
    this.links.splice(this.links.indexOf(link), 1);
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
    this.log(`link ${link.model.no} is gone`);
    this.call(() => {
      this.ledger.lose(link.model);
      link.isEnded = link.isClosed = link.isUnheard = true;
      link.protocol!.handleClose();
    });
    this.forgetLink(link);
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

  private setStalled(link: SimLink, isStalled: boolean): void {
    if (link.isStalled === isStalled || link.isEnded) return;
    link.isStalled = isStalled;
    this.call(() => link.protocol!.handleWritable(!isStalled));
  }

  // ---- connections between nodes

  private connectNodes(): void {
    for (const { life } of this.nodes) {
      for (const other of life?.wanted ?? []) {
        const there = this.nodes[other]!.life;
        if (!there || (!this.isCalm && !this.dice.chance(40))) continue;
        const pipe = new Pipe(life!.node, other);
        this.log(`node ${life!.node} connects to node ${other}`);
        this.call(() => there.connect(pipe.ends[1], -1));
        this.call(() => life!.connect(pipe.ends[0], other));
        this.pipes.push(pipe);
      }
    }
  }

  /** Nodes hear that another has ended; one that is back says again what it wants before it serves. */
  private giveUp(): void {
    for (const { life } of this.nodes) {
      for (const { number, life: other } of this.nodes) {
        if (life && life.node !== number && !other && (this.isCalm || this.dice.chance(10)))
          this.call(() => life.fabric.giveUp(number));
      }
    }
  }

  private movePipes(): void {
    const { dice, weather } = this;
    const call = (action: () => void): void => this.call(action);
    for (const pipe of dice.shuffled(this.pipes)) {
      if (!this.isCalm && dice.chance(weather.cuts)) {
        this.cutCount++;
        this.log(`the connection of nodes ${pipe.ends[0].node} and ${pipe.ends[1].node} is cut`);
        pipe.cut(dice);
      }
      for (const end of pipe.ends) {
        const isWritable = this.isCalm || (end.isWritable ? !dice.chance(weather.stalls) : dice.chance(20));
        if (end.isClosed || end.isEnded || isWritable === end.isWritable) continue;
        end.isWritable = isWritable;
        this.call(() => end.protocol.handleWritable(isWritable));
      }
      if (!this.isCalm && !dice.chance(weather.transfers)) continue;
      pipe.move(
        (size) => this.portion(size),
        () => this.isCalm || dice.chance(40),
        call,
      );
    }
    for (const pipe of this.pipes) if (pipe.isGone) this.digest = (Math.imul(this.digest, 31) + pipe.digest) | 0;
    this.pipes = this.pipes.filter((pipe) => !pipe.isGone);
  }

  // ---- time and disks

  moveClock(ms: number): void {
    this.nowMs += ms;
    this.ledger.nowMs = this.nowMs;
    for (const client of this.clients) client.nowMs = this.nowMs;
    for (const { life } of this.nodes)
      if (life) {
        this.call(() => life.engine.tick(life.monotonicMs(), Math.floor(this.nowMs / 1000)));
        if (this.isCalm || this.dice.chance(10)) this.call(() => life.fabric.tellWeights());
      }
  }

  /** Reads are answered, batches become durable, and the stores cut what they have. */
  private moveDisks(commits: number): void {
    const { dice } = this;
    for (const { life } of this.nodes) {
      if (!life) continue;
      const { disk, store } = life;
      for (let left = disk.answerCount; left > 0 && (this.isCalm || dice.chance(50)); left--) {
        this.call(() => disk.answerOne());
      }
      if (disk.waitingCount > 0 && dice.chance(commits)) {
        this.call(() => disk.commit(this.isCalm ? disk.waitingCount : dice.between(1, disk.waitingCount)));
      }
      if (this.isCalm || dice.chance(80)) this.call(() => store.tick());
    }
  }

  private turn(): void {
    for (const { life } of this.nodes) {
      if (!life?.isWorkAsked) continue;
      life.isWorkAsked = false;
      this.call(() => life.engine.turn());
    }
  }

  // ---- the parts of a run

  run(): void {
    try {
      for (const node of this.nodes) this.start(node);
      while (this.stepNo < this.weather.stepCount) this.storm();
      for (const node of this.nodes) if (!node.life) this.start(node);
      this.heal();
      this.ledger.checkKept();
      this.finish(this);
    } catch (error) {
      const told = error as Error; // a TypeError stays one: those who look for planted bugs tell them apart
      const repeat = `MANTOU_CLUSTER_SEED=${this.seed} bun test test/simulation/cluster.test.ts`;
      told.message = `${repeat}: step ${this.stepNo}: ${told.message}`;
      throw told;
    } finally {
      for (const each of this.undo.splice(0).reverse()) each();
    }
  }

  /** Judges what is left when all is drained. */
  finish: (world: ClusterWorld) => void = () => {};

  private storm(): void {
    this.stepNo++;
    const { dice, weather } = this;
    this.moveClock(dice.chance(6) ? dice.between(400, 3000) : dice.between(1, 90));
    for (const node of this.nodes) {
      if (!node.life && this.stepNo >= node.downUntil) this.start(node);
    }
    this.connectNodes();
    this.giveUp();
    this.movePipes();
    this.moveLinks(weather.transfers);
    for (const link of this.links) {
      if (dice.chance(weather.stalls)) this.setStalled(link, true);
      else if (link.isStalled && dice.chance(12)) this.setStalled(link, false);
    }
    for (const client of this.clients) this.script.act(client);
    this.turn();
    this.moveDisks(weather.commits);
    for (const node of this.nodes) {
      if (!node.life || !dice.chance(weather.crashes)) continue;
      this.crash(node, weather.isHard);
      node.downUntil = this.stepNo + dice.pick([0, 1, 5, 20]);
    }
  }

  private calmStep(): void {
    this.stepNo++;
    this.moveClock(this.dice.between(1, 20));
    this.connectNodes();
    this.giveUp();
    this.movePipes();
    this.moveLinks(100);
    for (const client of this.clients) if (client.link) client.flush(Infinity);
    this.turn();
    this.moveDisks(100);
  }

  calm(isEnough: () => boolean): void {
    for (let i = 0; i < 4000; i++) {
      this.calmStep();
      if (isEnough()) return;
    }
    throw new Violation(`does not come to rest: ${this.unrest()}`);
  }

  heal(): void {
    this.isCalm = true;
    for (const link of this.links) this.setStalled(link, false);
    for (const client of this.clients) client.isMute = false;
    this.calm(() => {
      for (const client of this.clients)
        if (!client.link && this.canConnect(client)) this.script.comeBack(client, false);
      return this.unrest() === "";
    });
  }

  /** What is not at rest. */
  unrest(): string {
    for (const { life, number } of this.nodes) {
      const what = life ? life.isRestless : "is down";
      if (what !== "") return `node ${number} ${what}`;
    }
    for (const pipe of this.pipes) if (!pipe.isQuiet) return "a connection between nodes is busy";
    for (const link of this.links) {
      if (link.isCut || link.isEnded) return `link ${link.model.no} is not closed`;
      if (link.upBytes + link.downBytes > 0) return `link ${link.model.no} is busy`;
    }
    for (const client of this.clients) {
      if (!client.isConnected) return `${client.id} is not connected`;
      if (!client.isIdle) return `${client.id} waits for ${client.state}`;
      const { sessions } = this.lifeOf(client)!.engine;
      const queue = sessions.queueOf(sessions.find(Buffer.from(client.id)));
      if (queue && queue.outbox.count + queue.inflight.total > 0) return `messages for ${client.id}`;
    }
    return "";
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
