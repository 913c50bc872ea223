/**
 * `Broker`: a whole broker inside an application, with or without listeners.
 *
 *   Broker.start(options) ─► configuration (same names as the file) ─► startBroker ─► custom functions ─► listeners
 *   publish ─► engine ─┬─► MQTT clients
 *                      └─► LocalSubscriber ─► handlers, called before `publish` returns
 *
 * A message goes from `publish` to a handler without a socket and with one copy of its bytes, which the handler may keep.
 * What differs from the `mantou` program: without options nothing is listened on, written to disk or logged, and several
 * brokers live in one process. A handler's throw is logged and reaches nobody else.
 */
import { randomUUID } from "node:crypto";
import { MantouError } from "#base/error.ts";
import type { Hooks } from "#core/hooks.ts";
import { LocalSubscriber } from "#core/local-subscriber.ts";
import { MessageView } from "#core/message.ts";
import { isFilterText } from "#core/topic.ts";
import { type RunningBroker, startBroker } from "./broker.ts";
import { configOf, type ConfigOptions, sourceOf } from "./config.ts";
import type { Control } from "./control.ts";
import { type AuthenticateFunction, type AuthorizeFunction, functionBackend } from "./function-backend.ts";
import { createLog, type Logger } from "./log.ts";
import { publishMessage, viewOf } from "./publish.ts";

export interface BrokerOptions extends ConfigOptions {
  /** Who may come in; asked before `access.authenticate`, without which it alone decides. */
  readonly authenticate?: AuthenticateFunction;
  /** Who may publish and subscribe what; asked before `access.authorize`. Answers are kept as `access.cacheSec` says. */
  readonly authorize?: AuthorizeFunction;
}

export interface PublishOptions {
  /** 0 by default. */
  readonly qos?: 0 | 1 | 2;
  readonly isRetain?: boolean;
}

/** A message as a handler gets it. All of it is the handler's own, to keep as long as it likes. */
export interface LocalMessage {
  readonly topic: string;
  /** Not to be written to: other handlers have the same bytes. */
  readonly payload: Buffer;
  /** At which it was published. */
  readonly qos: 0 | 1 | 2;
  /** It had been kept for those who come later. */
  readonly isRetain: boolean;
}

/** May be asynchronous; nothing waits for it. */
export type MessageHandler = (message: LocalMessage) => unknown;

/** A payload that is less than this part of what its bytes were read with is copied, so as not to hold the rest. */
const PAYLOAD_SHARE_MIN = 0.5;
const SMALL_BYTES = 1024;

export class Broker {
  private readonly subscriber: LocalSubscriber;
  /** What `publish` fills, unless a handler publishes meanwhile. */
  private readonly view = new MessageView();
  private isPublishing = false;
  private closing: Promise<void> | undefined;

  private constructor(
    private readonly running: RunningBroker,
    private readonly log: Logger,
  ) {
    this.subscriber = new LocalSubscriber(running.engine, `$application/${randomUUID()}`);
  }

  /**
   * Resolves when every listener is open and the store, if there is one, has been read. Rejects with MantouError `config_invalid`, or as
   * `startBroker` does, with nothing left open.
   */
  static async start({ authenticate, authorize, ...options }: BrokerOptions = {}): Promise<Broker> {
    const config = configOf(options, { decidesWhoComesIn: authenticate !== undefined });
    const log = createLog(config.log);
    // Listeners come last, so that nobody is let in before the functions are asked.
    const own = authenticate || authorize ? functionBackend({ authenticate, authorize }, log) : undefined;
    const running = await startBroker({ ...config, listeners: [] }, log, sourceOf(config, own));
    try {
      await new Promise<void>((resolve) => running.engine.store.whenReady(resolve));
      await running.applyListeners(config.listeners);
    } catch (error) {
      await running.stop();
      throw error;
    }
    return new Broker(running, log);
  }

  /** Of each listener in its order, such as `tcp://127.0.0.1:1883`. */
  get addresses(): readonly string[] {
    return this.running.addresses;
  }

  /** Where to watch, change or stop what happens: see `src/core/hooks.ts`. */
  get hooks(): Hooks {
    return this.running.engine.hooks;
  }

  /** Everything that may be asked of a running broker, by name: what REST and command line use. */
  get control(): Control {
    return this.running.control;
  }

  /** Resolves when the broker cannot go on: its store has failed for good. */
  get failed(): Promise<Error> {
    return this.running.failed;
  }

  /** Counts of everything, by name. */
  metrics(): Record<string, number> {
    return this.running.engine.metrics.toObject();
  }

  /**
   * Publishes as the broker itself; access is not asked. Handlers have run when it returns, except from within a handler: then the message
   * goes out right after. Returns how many sessions get it, 0 also where that is not known yet. Throws MantouError
   * `topic_invalid`, `qos_invalid`, `retain_invalid`, `payload_too_large`, `store_full`.
   */
  publish(
    topic: string,
    payload: string | Uint8Array = "",
    { qos = 0, isRetain = false }: PublishOptions = {},
  ): number {
    const { engine } = this.running;
    if (this.closing) throw new MantouError("closed", "the broker has been closed");
    const isNested = this.isPublishing;
    const view = viewOf(engine, { topic, payload, qos, isRetain }, isNested ? new MessageView() : this.view);
    if (!engine.store.isWritable && engine.isRefused(view))
      throw new MantouError("store_full", "the store cannot write now, and the message would have to be kept");
    this.isPublishing = true;
    try {
      return engine.publish(view);
    } finally {
      this.isPublishing = isNested;
    }
  }

  /** As `publish`, at QoS 1 by default, but resolves when the message is on disk, wherever it has to be. Rejects also with `not_committed`. */
  async publishSafely(topic: string, payload: string | Uint8Array = "", options: PublishOptions = {}): Promise<number> {
    if (this.closing) throw new MantouError("closed", "the broker has been closed");
    const { qos = 1, isRetain = false } = options;
    return (await publishMessage(this.running, { topic, payload, qos, isRetain })).reachedCount;
  }

  /**
   * Calls `handler` for each message of a filter, in their order, and first for those that are retained. The function returned ends it.
   * Throws MantouError `filter_invalid`.
   */
  subscribe(filter: string, handler: MessageHandler): () => void {
    const { mqtt } = this.running.engine.limits;
    if (this.closing) throw new MantouError("closed", "the broker has been closed");
    if (!isFilterText(filter, mqtt))
      throw new MantouError(
        "filter_invalid",
        `filter: found ${JSON.stringify(filter.slice(0, 100))}, allowed: a topic filter`,
      );
    return this.subscriber.subscribe(filter, (view, isRetain) => {
      try {
        const answer = handler({
          topic: view.topicText(),
          payload: ownedPayload(view),
          qos: view.qos as 0 | 1 | 2,
          isRetain,
        });
        if (answer instanceof Promise) answer.catch((error: unknown) => this.logFault(error));
      } catch (error) {
        this.logFault(error);
      }
    });
  }

  /** Tells the clients, closes what was opened, and resolves when nothing is left; a second call waits for the same. */
  close(): Promise<void> {
    return (this.closing ??= this.stop());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async stop(): Promise<void> {
    this.subscriber.close();
    await this.running.stop();
  }

  private logFault(error: unknown): void {
    this.log.error({ err: error }, "a message handler of the application failed");
  }
}

/** Bytes that nobody writes to any more; those of the pool are used again, so they are copied. */
function ownedPayload({ bytes, message, payloadStart, payloadEnd }: MessageView): Buffer {
  const payload = bytes.subarray(payloadStart, payloadEnd);
  const isShare = payload.length >= PAYLOAD_SHARE_MIN * bytes.length || bytes.length <= SMALL_BYTES;
  return message < 0 && isShare ? payload : Buffer.from(payload);
}
