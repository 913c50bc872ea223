/**
 * `mantou/plugin`: what a plugin is, and what it is given. docs/plugins.md tells the same with examples.
 *
 *   definePlugin({ name, version, description, config, start })
 *                                                       │ api: config, log, hooks, timers, publish, subscribe, metrics,
 *                                                       ▼      routes, commands, backends
 *   load: file or package ─► options checked ─► start(api) ─► running ─► stop() ─► everything `api` gave is taken back
 *
 * Whatever a plugin gets through `api` is taken back when it is unloaded, whether or not it has a `stop`. What it throws is
 * counted, logged and shown, and reaches nobody else. What cannot be contained: a loop that does not end, memory, globals.
 */
import type { z } from "zod";
import type { Backend } from "#access/backend.ts";
import type { MessageCopy } from "#core/hook-message.ts";
import type { Command, HttpPeer } from "#core/ports.ts";
import type { HookListener, HookName, LaterHookListener, LaterHookName } from "./hook-name.ts";

export { z } from "zod";
export { secret } from "#access/option.ts";
export { wholeNumber } from "./option-leaf.ts";
export { type MessageProperties, propertiesOf } from "./message-properties.ts";
export { isTopicFilter, isTopicName, topicMatcher } from "./topic.ts";
export { MantouError } from "#base/error.ts";
export type { HookMessage, MessageCopy } from "#core/hook-message.ts";
export type { ClientInfo } from "#core/ports.ts";
export type { Attempt, AuthenticateAnswer, AuthorizeAnswer, Backend, Question } from "#access/backend.ts";
export type * from "#core/hook-event.ts";
export type { HookListener, HookName, LaterHookListener, LaterHookName } from "./hook-name.ts";

/** Takes off again what the call that returned it put on; a second call does nothing. */
export type Undo = () => void;

export interface PluginLog {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/** A message as a subscription of a plugin gets it: owned. */
export interface PluginMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: number;
  readonly isRetain: boolean;
}

/** What there is now, and the most there has been: sums over the worker processes. */
export interface Stat {
  readonly count: number;
  readonly max: number;
}

export interface BrokerFigures {
  readonly stats: Readonly<
    Record<"clients" | "sessions" | "routes" | "topics" | "subscribers" | "subscriptions" | "retained", Stat>
  >;
  /** Everything that is counted, by the names of docs/metrics, such as `messages.dropped.expired`. */
  readonly counters: Readonly<Record<string, number>>;
  /** The broker's processes: one, or its workers. */
  readonly processes: readonly ProcessFigures[];
}

export interface ProcessFigures {
  /** Resident set. */
  readonly memoryBytes: number;
  /** Of the JavaScript heap, in use. */
  readonly heapBytes: number;
  /** How late the event loop came round last. */
  readonly lagMs: number;
}

export interface Counter {
  add(count?: number): void;
}

export interface HookOptions {
  /** Lowest first; 0 by default, then in order of arrival. */
  readonly priority?: number;
  /** `client.disconnected`: false saves memory where the address of a client that is gone does not matter. Default true. */
  readonly needsAddress?: boolean;
  /** `client.subscribe` only: what the listener takes off the front of filters, such as `$exclusive/`. Access judges the client by what follows. */
  readonly prefix?: string;
}

export interface WaitOptions {
  readonly priority?: number;
  /** How long the client may be held; 5000 by default. */
  readonly waitMsMax?: number;
  /** What follows when the listener fails or is late: as if it were not there (the default), or refused. */
  readonly whenFailed?: "pass" | "refuse";
  /**
   * `message.publish` only: topics that begin with these levels, such as `$delayed/+`; the first one is a word, `+` stands for any. Others do not
   * come here, and cost nothing. Access judges the publisher by what follows these levels.
   */
  readonly below?: string;
}

export interface AlarmWords {
  readonly severity: "warning" | "error" | "critical";
  /** What is wrong, always the same words. */
  readonly title: string;
  /** With the figures of now. */
  readonly summary: string;
}

export interface PublishOptions {
  readonly qos?: 0 | 1 | 2;
  readonly isRetain?: boolean;
}

/** Who a gateway's client is. Strings of up to 65,535 bytes. */
export interface ClientWish {
  /** Empty: the broker chooses one. */
  readonly clientId: string;
  readonly username?: string | undefined;
  readonly password?: string | Uint8Array | undefined;
  /** Where it is, for access, bans and lists: an IP address; 127.0.0.1 by default. */
  readonly address?: string;
  readonly port?: number;
  /** True by default. */
  readonly isCleanStart?: boolean;
  /** How long its session outlives it; 0 by default. */
  readonly sessionExpirySec?: number;
  readonly will?: {
    readonly topic: string;
    readonly payload: string | Uint8Array;
    readonly qos?: 0 | 1 | 2;
    readonly isRetain?: boolean;
  };
}

export interface ClientHandlers {
  /** A message of a subscription. At QoS 1 and 2 it is acknowledged when the promise resolves, and refused when it rejects. */
  message?(message: PluginMessage): unknown;
  /** It has ended: by `close`, or by the broker with a reason code of MQTT 5.0 (0x8E: another took its session, 0x98: an operator). Once. */
  end?(reasonCode: number): unknown;
}

/** Each call throws MantouError `client_ended`, `client_busy` (10,000 without an answer, 16 MiB unread) or `plugin_invalid`, and rejects with `client_ended`. */
export interface GatewayClient {
  readonly clientId: string;
  /** Resolves with the reason code of PUBACK or PUBREC, 0x80 and above: refused; at QoS 0 with 0 at once. */
  publish(topic: string, payload: string | Uint8Array, options?: PublishOptions): Promise<number>;
  /** Resolves with the QoS that is granted, or a reason code from 0x80 on. */
  subscribe(filter: string, qos?: 0 | 1 | 2): Promise<number>;
  unsubscribe(filter: string): Promise<number>;
  /** Says goodbye; with 4 its will is published. */
  close(reasonCode?: 0 | 4): void;
}

export interface PluginApi<C = unknown> {
  readonly name: string;
  /** The options, checked, with their defaults. */
  readonly config: C;
  /** Each line carries the plugin's name; repeats of a message are limited to a few a second. */
  readonly log: PluginLog;
  readonly broker: {
    readonly node: string;
    readonly version: string;
    /** Number of this worker process; what is said once for the whole node is said by 0. */
    readonly worker: number;
    /** How carefully what must survive is written, as `store.sync` says; memory: not at all. */
    readonly sync: "full" | "normal" | "off" | "memory";
  };
  /** A directory of this plugin's own in this worker process, below the broker's data; made when it is first asked for. */
  readonly dataDir: string;
  /** One that all worker processes share. In a broker that is one process it is the same. */
  readonly nodeDir: string;

  /** Listens at a hook point. */
  on<N extends HookName>(name: N, listener: HookListener<N>, options?: HookOptions): Undo;
  /** The asynchronous form: the client's packet waits for the answer, and so does what it sends after it; others do not. */
  onAsync<N extends LaterHookName>(name: N, listener: LaterHookListener<N>, options?: WaitOptions): Undo;

  /** As the global ones. The process does not stay for them, and they end with the plugin. */
  setTimeout(callback: () => unknown, delayMs: number): Undo;
  setInterval(callback: () => unknown, delayMs: number): Undo;

  /** Publishes as the broker itself. Returns how many sessions get it; 0 also when it goes out later: from within a hook, or before the store is ready. */
  publish(topic: string, payload: string | Uint8Array, options?: PublishOptions): number;
  /**
   * Publishes what a hook saw, as its publisher sent it. Resolves, with how many sessions get it, when it is safe. Rejects with MantouError:
   * `store_full` when it could not be kept and `plugin_stopped` after the end, which change nothing, or `not_committed` when that takes long.
   */
  republish(message: MessageCopy): Promise<number>;
  /** False when nobody would get a message of this topic now, unless it is retained: it need not be made then. */
  isWanted(topic: string): boolean;
  /** Messages of a filter, in process, at QoS 0, none of them lost; retained ones come at once. */
  subscribe(filter: string, listener: (message: PluginMessage) => unknown): Undo;

  /**
   * A client that this plugin speaks for: what a gateway from another protocol is made of. It is a client of MQTT 5.0 to access, hooks, limits and
   * lists, its listener is `plugin:NAME`, and it ends with the plugin. In `start` it comes in when the other plugins have started. Rejects with MantouError `client_refused` (`details.reasonCode`).
   */
  openClient(wish: ClientWish, handlers: ClientHandlers): Promise<GatewayClient>;

  /** Ends a client's connection; its session goes its way. False when it is not connected here. */
  disconnect(clientId: string, reasonCode?: number): boolean;
  /** Whether a client's session is subscribed to exactly this filter, in whatever worker process. Rejects with MantouError while that one is away. */
  isSubscribed(clientId: string, filter: string): Promise<boolean>;
  /** Of the whole node. */
  readFigures(): Promise<BrokerFigures>;

  /** A value that only grows, shown as `mantou_<plugin>_<name>`; give it a name that ends with `_total`. */
  counter(name: string, help: string, labels?: Readonly<Record<string, string>>): Counter;
  /** A value that `read` returns when somebody looks. Over worker processes it is added up. */
  gauge(name: string, help: string, read: () => number, labels?: Readonly<Record<string, string>>): Undo;

  /** Says what is wrong, until `undefined` says that it is over, or the plugin ends. `id` is one of the plugin's own. */
  alarm(id: string, words: AlarmWords | undefined): void;

  /** Answers HTTP below `/plugins/<plugin>` + `path`, for everybody who reaches a WebSocket listener. */
  route(path: string, fetch: (request: Request, peer: HttpPeer) => Response | PromiseLike<Response>): Undo;
  /** The same on the administration's port, for whoever is signed in there. */
  adminRoute(path: string, fetch: (request: Request, peer: HttpPeer) => Response | PromiseLike<Response>): Undo;
  /** `mantou ctl NAME …`. */
  command(command: Command): Undo;
  /** Asked before the configured backends, lowest priority first; `docs/access.md` says what is asked when. */
  backend(backend: Backend, options?: HookOptions): Undo;

  /** Calls `undo` when the plugin is unloaded; the last one first. */
  onUnload(undo: () => unknown): void;
}

export interface PluginDefinition<S extends z.ZodType = z.ZodType> {
  /** Letters, digits and `-`; unique in a broker. */
  readonly name: string;
  readonly version: string;
  readonly description: string;
  /** Of its options; without it there are none. */
  readonly config?: S;
  /** May answer with what is to be called at the end. A rejection, or no end within ten seconds, is a failed start. */
  start(api: PluginApi<z.output<S>>): void | (() => unknown) | Promise<void | (() => unknown)>;
}

/** Lets the type of `api.config` follow from `config`. */
export function definePlugin<S extends z.ZodType = z.ZodObject<Record<never, never>>>(
  definition: PluginDefinition<S>,
): PluginDefinition<S> {
  return definition;
}
