/**
 * One run of a plugin: the `api` it is given, and the list of what has to be taken back when it ends.
 *
 * Every function of the plugin is called through `guard`: what it throws, or what its promise rejects with, is counted as a
 * fault of this plugin and goes no further. After the end `api` does nothing any more; using it then is a fault too.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Backend } from "#access/backend.ts";
import { MantouError } from "#base/error.ts";
import type { Engine } from "#core/engine.ts";
import type { HookMessage, MessageCopy } from "#core/hook-message.ts";
import type { HookPoint, Hooks, LaterListener, LaterPoint } from "#core/hooks.ts";
import { LocalSubscriber } from "#core/local-subscriber.ts";
import type { Command, Contribution, HttpMount, Link, MetricSource, Protocol } from "#core/ports.ts";
import { before, isPromise, wordsOf, wrong } from "./call.ts";
import { Contributions } from "./contributions.ts";
import { PluginClient } from "./gateway-client.ts";
import { decidingBackend, guardedBackend } from "./guarded-backend.ts";
import {
  type HookListener,
  type HookName,
  hookPoints,
  type LaterHookListener,
  type LaterHookName,
  laterPoints,
} from "./hook-name.ts";
import { checkPrefix, prefixOf } from "./prefix.ts";
import { isTopicFilter, isTopicName } from "./topic.ts";
import type {
  AlarmWords,
  BrokerFigures,
  ClientHandlers,
  ClientWish,
  Counter,
  GatewayClient,
  HookOptions,
  PluginApi,
  PluginLog,
  PluginMessage,
  PublishOptions,
  Undo,
  WaitOptions,
} from "./plugin.ts";

/** What plugins are given of the broker. */
export interface PluginGround {
  readonly engine: Engine;
  readonly node: string;
  readonly version: string;
  readonly worker: number;
  /** Below it each plugin has its directory. */
  readonly dataDir: string;
  /** The same for all worker processes of the node, where that is another. */
  readonly nodeDir?: string;
  readonly sync: PluginApi["broker"]["sync"];
  readFigures(): Promise<BrokerFigures>;
  /** Of clients that belong to other worker processes, where there are such. */
  isSubscribedElsewhere?(clientId: string, filter: string): Promise<boolean>;
  /** How long a start and an end may take; 10 and 5 seconds. */
  readonly startMsMax?: number;
  readonly stopMsMax?: number;
  republish(message: MessageCopy): Promise<number>;
  setAlarm(id: string, words: AlarmWords | undefined): void;
  /** What speaks MQTT on a link. */
  makeProtocol(link: Link, listener: string): Protocol;
  /** Repeats of a message are the logger's to limit. */
  logOf(plugin: string): PluginLog;
  /** Undefined once the broker can serve clients: it starts its plugins before that. */
  whenReady?(): Promise<void> | undefined;
  /** Puts a backend before the configured ones. */
  addBackend(backend: Backend, priority: number): Undo;
}

export interface Faults {
  count: number;
  /** Of the last one; empty when there was none. */
  last: string;
}

/** 5.0 reason code. */
const ADMINISTRATIVE_ACTION = 0x98;
const WAIT_MS = 5000;

export const WAITS = Symbol("a start that goes on when the broker can serve clients");

export class Scope implements PluginApi {
  readonly log: PluginLog;
  readonly broker: PluginApi["broker"];
  readonly faults: Faults;
  private readonly alarms = new Map<string, Undo>();
  private readonly undos = new Set<() => unknown>();
  /** Those of them that take away what refuses when it fails. */
  private readonly gate = new Set<() => unknown>();
  private readonly added: Contributions;
  /** Resolves when the plugin waits for a broker that waits for its plugins to start. */
  readonly waiting: Promise<typeof WAITS>;
  private readonly wait: (what: typeof WAITS) => void;
  private subscriber: LocalSubscriber | undefined;
  private isClosed = false;

  constructor(
    readonly name: string,
    readonly config: unknown,
    private readonly ground: PluginGround,
    faults: Faults,
  ) {
    this.log = ground.logOf(name);
    this.broker = { node: ground.node, version: ground.version, worker: ground.worker, sync: ground.sync };
    this.faults = faults;
    ({ promise: this.waiting, resolve: this.wait } = Promise.withResolvers());
    this.added = new Contributions(name, (error) => this.fault(error));
    this.added.declare({
      name: "faults_total",
      help: `What plugin ${name} threw`,
      kind: "counter",
      read: () => faults.count,
    });
  }

  get contribution(): Contribution {
    const { routes, adminRoutes, commands, metrics } = this.added;
    return { from: this.name, routes, adminRoutes, commands, metrics };
  }

  // ---- what is thrown stays here

  /** Calls what is the plugin's. Undefined when it threw. */
  guard<T>(call: () => T): T | undefined {
    try {
      const answer = call();
      if (isPromise(answer)) answer.then(undefined, (error: unknown) => this.fault(error));
      return answer;
    } catch (error) {
      this.fault(error);
      return undefined;
    }
  }

  fault(error: unknown): void {
    this.faults.count++;
    this.faults.last = wordsOf(error);
    this.log.error("a plugin failed; what it was asked to do is left out", { err: error });
  }

  /** Takes everything back, the last first; with `keepsGate` not what refuses when it fails. */
  close(keepsGate = false): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const undo of [...this.undos].toReversed()) if (!keepsGate || !this.gate.has(undo)) this.guard(undo);
    this.undos.clear();
    if (!keepsGate) this.gate.clear();
    this.added.clear();
  }

  /** Takes back what `close` has left. */
  openGate(): void {
    for (const undo of this.gate) this.guard(undo);
    this.gate.clear();
  }

  private get isOver(): boolean {
    if (this.isClosed) this.fault(new Error("it uses its api after its end"));
    return this.isClosed;
  }

  private keep(undo: () => unknown, isGate = false): Undo {
    this.undos.add(undo);
    if (isGate) this.gate.add(undo);
    return () => {
      const isThere = this.undos.delete(undo);
      if (this.gate.delete(undo) || isThere) undo();
    };
  }

  // ---- api

  on<N extends HookName>(
    name: N,
    listener: HookListener<N>,
    { priority = 0, needsAddress = true, prefix }: HookOptions = {},
  ): Undo {
    if (this.isOver) return nothing;
    if (prefix !== undefined) checkPrefix(name, prefix);
    const call = listener as (...args: unknown[]) => unknown;
    if (name === "client.authenticate" || name === "client.authorize")
      return this.backend(decidingBackend(name, call), { priority });
    const { hooks } = this.ground.engine;
    const points: Readonly<Record<string, keyof Hooks>> = hookPoints;
    if (!Object.hasOwn(points, name)) throw wrong(`there is no hook ${name}`);
    if (name === "client.disconnected" && needsAddress) hooks.isAddressKept = true;
    const point = hooks[points[name]] as unknown as HookPoint<unknown[]>;
    // As `guard`, without a closure and an array for each message.
    const guarded = (a: unknown, b: unknown, c: unknown, d: unknown): unknown => {
      try {
        const answer = call(a, b, c, d);
        if (isPromise(answer)) answer.then(undefined, (error: unknown) => this.fault(error));
        return answer;
      } catch (error) {
        this.fault(error);
        return undefined;
      }
    };
    const remove = point.add(guarded as (...args: unknown[]) => unknown, priority);
    const unjudge = prefix === undefined ? nothing : hooks.filterPrefixes.add(prefix);
    return this.keep(() => {
      remove();
      unjudge();
    });
  }

  onAsync<N extends LaterHookName>(name: N, listener: LaterHookListener<N>, options: WaitOptions = {}): Undo {
    if (this.isOver) return nothing;
    if (!Object.hasOwn(laterPoints, name)) throw wrong(`no client can be made to wait at ${name}`);
    const { priority = 0, waitMsMax = WAIT_MS, whenFailed = "pass", below } = options;
    const { hooks } = this.ground.engine;
    const prefix = below === undefined ? undefined : prefixOf(name, below);
    const isGate = whenFailed === "refuse";
    const call = listener as (event: unknown) => Promise<unknown>;
    const wait = async (event: unknown, done: (goesOn: boolean) => void): Promise<void> => {
      let answer: unknown = whenFailed === "pass";
      try {
        answer = await before(waitMsMax, `its listener at ${name} has not answered`, async () => call(event));
      } catch (error) {
        this.fault(error);
      }
      done(answer !== false);
    };
    if (name !== "message.publish") {
      const point = hooks[laterPoints[name]] as LaterPoint<unknown>;
      const undo = point.add((event, done) => void wait(event, done), priority);
      return this.keep(undo, isGate);
    }
    const listen: LaterListener<HookMessage> = (message, done) => void wait(message, done);
    return this.keep(hooks.messagePublishLater.add(listen, priority, prefix), isGate);
  }

  setTimeout(callback: () => unknown, delayMs: number): Undo {
    if (this.isOver) return nothing;
    const timer = setTimeout(() => {
      this.undos.delete(stop);
      this.guard(callback);
    }, delayMs).unref();
    const stop = (): void => clearTimeout(timer);
    return this.keep(stop);
  }

  setInterval(callback: () => unknown, delayMs: number): Undo {
    if (this.isOver) return nothing;
    const timer = setInterval(() => this.guard(callback), delayMs).unref();
    return this.keep(() => clearInterval(timer));
  }

  publish(topic: string, payload: string | Uint8Array, options: PublishOptions = {}): number {
    if (this.isOver) return 0;
    const { engine } = this.ground;
    if (!isTopicName(topic)) throw wrong(`${topic} is no topic name`);
    let reached = 0;
    engine.store.whenReady(() => {
      reached = engine.publishText(topic, typeof payload === "string" ? Buffer.from(payload) : payload, options);
    });
    return reached;
  }

  isWanted(topic: string): boolean {
    const { index, fabric, hooks } = this.ground.engine;
    if (fabric.forwarding !== null || hooks.messagePublish.isUsed) return true;
    const length = scratch.write(topic);
    index.match(scratch, 0, length, index.hash(scratch, 0, length));
    return index.foundCount > 0;
  }

  subscribe(filter: string, listener: (message: PluginMessage) => unknown): Undo {
    if (this.isOver) return nothing;
    if (!isTopicFilter(filter)) throw wrong(`${filter} is no topic filter`);
    const { engine } = this.ground;
    if (!this.subscriber) {
      const subscriber = new LocalSubscriber(engine, `$plugin/${this.name}/${engine.random.next()}`);
      this.keep(() => subscriber.close());
      this.subscriber = subscriber;
    }
    const undo = this.subscriber.subscribe(filter, (view, isRetain) => {
      this.guard(() => listener({ topic: view.topicText(), payload: view.payload(), qos: view.qos, isRetain }));
    });
    return this.keep(undo);
  }

  republish(message: MessageCopy): Promise<number> {
    // Whoever keeps the message must not take it for published.
    if (this.isOver) return Promise.reject(new MantouError("plugin_stopped", `plugin ${this.name} has ended`));
    return this.ground.republish(message);
  }

  alarm(id: string, words: AlarmWords | undefined): void {
    const whole = `${this.name}.${id}`;
    if (words === undefined) return this.undoAlarm(whole);
    if (this.isOver) return;
    this.ground.setAlarm(whole, words);
    if (this.alarms.has(whole)) return;
    const undo = this.keep(() => this.ground.setAlarm(whole, undefined));
    this.alarms.set(whole, undo);
  }

  private undoAlarm(whole: string): void {
    this.alarms.get(whole)?.();
    this.alarms.delete(whole);
  }

  get dataDir(): string {
    return this.ownDir(this.ground.dataDir);
  }

  get nodeDir(): string {
    return this.ownDir(this.ground.nodeDir ?? this.ground.dataDir);
  }

  async openClient(wish: ClientWish, handlers: ClientHandlers): Promise<GatewayClient> {
    const checkRunning = (): void => {
      if (this.isOver) throw new MantouError("plugin_stopped", `plugin ${this.name} has ended`);
    };
    checkRunning();
    const client = new PluginClient(wish, handlers, (error) => this.fault(error));
    const ready = this.ground.whenReady?.();
    if (ready) {
      this.wait(WAITS);
      await ready;
      checkRunning();
    }
    client.whenOver = this.keep(() => client.close());
    return client.open(this.ground.makeProtocol(client, `plugin:${this.name}`));
  }

  disconnect(clientId: string, reasonCode: number = ADMINISTRATIVE_ACTION): boolean {
    if (this.isOver) return false;
    const { engine } = this.ground;
    const session = engine.sessions.find(Buffer.from(clientId));
    const sink = session < 0 ? null : engine.sessions.sinks[session];
    if (sink !== null) engine.whenQuiet(() => sink.end(reasonCode));
    return sink !== null;
  }

  async isSubscribed(clientId: string, filter: string): Promise<boolean> {
    const { engine } = this.ground;
    const session = engine.sessions.find(Buffer.from(clientId));
    if (session >= 0) return engine.subscriptions.has(session, Buffer.from(filter));
    return (await this.ground.isSubscribedElsewhere?.(clientId, filter)) ?? false;
  }

  readFigures(): Promise<BrokerFigures> {
    return this.ground.readFigures();
  }

  counter(name: string, help: string, labels?: MetricSource["labels"]): Counter {
    let value = 0;
    if (!this.isOver) this.declare({ name, help, kind: "counter", labels, read: () => value });
    return {
      add: (count = 1) => {
        value += count;
      },
    };
  }

  gauge(name: string, help: string, read: () => number, labels?: MetricSource["labels"]): Undo {
    if (this.isOver) return nothing;
    const guarded = (): number => this.guard(read) ?? Number.NaN;
    return this.declare({ name, help, kind: "gauge", labels, read: guarded });
  }

  route(path: string, fetch: HttpMount["fetch"]): Undo {
    return this.isOver ? nothing : this.keep(this.added.mount(this.added.routes, path, fetch));
  }

  adminRoute(path: string, fetch: HttpMount["fetch"]): Undo {
    return this.isOver ? nothing : this.keep(this.added.mount(this.added.adminRoutes, path, fetch));
  }

  command(command: Command): Undo {
    return this.isOver ? nothing : this.keep(this.added.command(command));
  }

  backend(backend: Backend, { priority = 0 }: HookOptions = {}): Undo {
    if (this.isOver) return nothing;
    const guarded = guardedBackend(backend, this.name, (error) => this.fault(error));
    return this.keep(this.ground.addBackend(guarded, priority), true);
  }

  onUnload(undo: () => unknown): void {
    if (!this.isOver) this.undos.add(undo);
  }

  // ----

  private ownDir(above: string): string {
    const path = join(above, this.name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  private declare(metric: MetricSource): Undo {
    return this.keep(this.added.declare(metric));
  }
}

const nothing: Undo = () => {};
/** A topic is 65,535 bytes at most. */
const scratch = Buffer.allocUnsafeSlow(65_536);
