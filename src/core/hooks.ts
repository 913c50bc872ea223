/**
 * Points where others may watch, change or stop what happens. A point nobody listens to costs one comparison
 * (bench `micro hooks`).
 * Listeners run in order of priority, lowest first, synchronously; those of equal priority in order of arrival.
 *
 * Where a client may be made to wait there is a second point beside the first, `…Later`: its listeners say when they are done,
 * and until then the input of that one client is held. They run before the synchronous ones, one after the other.
 */
import type {
  AlarmNote,
  ConnectAttempt,
  ConnectDetails,
  EndedBy,
  ListenerNote,
  RetainAttempt,
  SubscribeRequest,
  UnsubscribeRequest,
} from "./hook-event.ts";
import type { HookMessage } from "./hook-message.ts";
import type { MessageView } from "./message.ts";
import type { DropReason } from "./metrics.ts";
import type { ClientInfo } from "./ports.ts";

interface Listener<F> {
  readonly priority: number;
  readonly call: F;
}

class Listeners<F> {
  protected listeners: readonly Listener<F>[] = [];

  get isUsed(): boolean {
    return this.listeners.length !== 0;
  }

  /** Adds a listener; the function returned takes it off again. */
  add(call: F, priority = 0): () => void {
    const listener = { priority, call };
    const at = this.listeners.findIndex((other) => other.priority > priority);
    this.listeners = at < 0 ? [...this.listeners, listener] : this.listeners.toSpliced(at, 0, listener);
    return () => {
      this.listeners = this.listeners.filter((other) => other !== listener);
    };
  }
}

export class HookPoint<A extends unknown[]> extends Listeners<(...args: A) => unknown> {
  /** Calls the listeners until one answers `false`; true when none did. */
  run(...args: A): boolean {
    for (const listener of this.listeners) if (listener.call(...args) === false) return false;
    return true;
  }
}

/** A listener calls `done` once, now or later: `false` ends it there. */
export type LaterListener<E> = (event: E, done: (goesOn: boolean) => void) => void;

export class LaterPoint<E> extends Listeners<LaterListener<E>> {
  /** Asks the listeners that are there now, one after the other; `complete` may be called before this returns. */
  run(event: E, complete: (goesOn: boolean) => void): void {
    const { listeners } = this;
    const step = (at: number): void => {
      if (at === listeners.length) return complete(true);
      listeners[at].call(event, (goesOn) => (goesOn ? step(at + 1) : complete(false)));
    };
    step(0);
  }
}

/** Listeners may be for topics that begin with a certain level alone: others then do not come here, and cost nothing. */
class PublishLaterPoint extends LaterPoint<HookMessage> {
  /** Of all topics. */
  private wholeCount = 0;
  private below: readonly TopicPrefix[] = [];

  override add(call: LaterListener<HookMessage>, priority = 0, prefix?: TopicPrefix): () => void {
    const first = prefix?.first.toString();
    const own: LaterListener<HookMessage> =
      first === undefined
        ? call
        : (message, done) => (message.topic.startsWith(first) ? call(message, done) : done(true));
    const remove = super.add(own, priority);
    if (prefix) this.below = [...this.below, prefix];
    else this.wholeCount++;
    return () => {
      remove();
      if (prefix) this.below = this.below.filter((other) => other !== prefix);
      else this.wholeCount--;
    };
  }

  concerns(view: MessageView): boolean {
    return this.wholeCount > 0 || this.isBelow(view);
  }

  /** The topic has a prefix that a listener is for. */
  isBelow(view: MessageView): boolean {
    return this.below.length > 0 && this.prefixOf(view) !== undefined;
  }

  /** Asks about what follows the levels of the topic's prefix, if something does. */
  judged<T>(view: MessageView, ask: () => T): T {
    const { topicStart, topicStamp } = view;
    const prefix = this.prefixOf(view);
    if (prefix) view.topicStart = behind(prefix, view);
    view.topicStamp = 0; // that is the whole topic's
    try {
      return ask();
    } finally {
      view.topicStart = topicStart;
      view.topicStamp = topicStamp;
    }
  }

  private prefixOf({ bytes, topicStart, topicEnd }: MessageView): TopicPrefix | undefined {
    return this.below.find(
      ({ first }) =>
        topicEnd - topicStart >= first.length &&
        bytes.compare(first, 0, first.length, topicStart, topicStart + first.length) === 0,
    );
  }
}

/** What listeners take off the front of filters, since it says something about the subscription and is no part of the filter. */
class FilterPrefixes {
  private prefixes: readonly Buffer[] = [];

  add(prefix: string): () => void {
    const own = Buffer.from(prefix);
    this.prefixes = [...this.prefixes, own];
    return () => (this.prefixes = this.prefixes.filter((other) => other !== own));
  }

  /** What is left when all of them are off: by that a client is judged. */
  rest(filter: Buffer): Buffer {
    const prefix = this.prefixes.find((each) => filter.length > each.length && filter.indexOf(each) === 0);
    return prefix ? this.rest(filter.subarray(prefix.length)) : filter;
  }
}

/** Levels before a topic that say what is to be done with the message. */
export interface TopicPrefix {
  /** The first one, with the `/` behind it. */
  readonly first: Buffer;
  /** How many there are, the first one among them. */
  readonly levels: number;
}

const SLASH = 0x2f;

function behind({ levels }: TopicPrefix, { bytes, topicStart, topicEnd }: MessageView): number {
  let at = topicStart;
  for (let level = 0; level < levels; level++) {
    const slash = bytes.indexOf(SLASH, at);
    if (slash < 0 || slash + 1 >= topicEnd) return topicStart;
    at = slash + 1;
  }
  return at;
}

export class Hooks {
  /** Some listener of `clientDisconnected` needs the client's address, which a link that is gone does not know. */
  isAddressKept = false;

  /** May refuse. */
  readonly clientConnect = new HookPoint<[attempt: ConnectAttempt]>();
  readonly clientConnectLater = new LaterPoint<ConnectAttempt>();
  /** CONNACK is out. */
  readonly clientConnected = new HookPoint<[client: ClientInfo, details: ConnectDetails]>();
  /** A CONNECT was refused, for whatever reason; `clientId` is empty when it could not be read. */
  readonly clientRefused = new HookPoint<[client: ClientInfo, details: ConnectDetails]>();
  /** Access refused a CONNECT (`topic` undefined), a PUBLISH or a filter of a SUBSCRIBE. */
  readonly clientDenied = new HookPoint<
    [client: ClientInfo, action: "connect" | "publish" | "subscribe", topic: string | undefined, reasonCode: number]
  >();
  /** `reasonCode` is that of DISCONNECT, or what a 5.0 client would have been told. */
  readonly clientDisconnected = new HookPoint<[client: ClientInfo, reasonCode: number, by: EndedBy]>();
  /** May change or refuse. */
  readonly clientSubscribe = new HookPoint<[request: SubscribeRequest]>();
  readonly filterPrefixes = new FilterPrefixes();
  readonly clientSubscribeLater = new LaterPoint<SubscribeRequest>();
  /** May change or refuse. */
  readonly clientUnsubscribe = new HookPoint<[request: UnsubscribeRequest]>();
  readonly clientUnsubscribeLater = new LaterPoint<UnsubscribeRequest>();
  readonly sessionCreated = new HookPoint<[clientId: string]>();
  readonly sessionResumed = new HookPoint<[clientId: string]>();
  /** Another connection has taken the session; then it is resumed, or ended and created. */
  readonly sessionTakenOver = new HookPoint<[clientId: string]>();
  /** Its time is over; then it is ended. */
  readonly sessionExpired = new HookPoint<[clientId: string]>();
  readonly sessionEnded = new HookPoint<[clientId: string]>();
  readonly sessionSubscribed = new HookPoint<[clientId: string, filter: string, qos: number]>();
  readonly sessionUnsubscribed = new HookPoint<[clientId: string, filter: string]>();
  /** May change the message; `false` stops it: it is acknowledged and goes nowhere. */
  readonly messagePublish = new HookPoint<[message: HookMessage]>();
  /** Of what MQTT clients publish; wills and what the broker publishes itself cannot wait. */
  readonly messagePublishLater = new PublishLaterPoint();
  /** May change how long it is kept; `false`: it is delivered and not kept, and what was kept before is not any more. */
  readonly messageRetain = new HookPoint<[attempt: RetainAttempt]>();
  readonly messageDelivered = new HookPoint<[clientId: string, message: HookMessage]>();
  /** PUBACK or PUBREC came. */
  readonly messageAcked = new HookPoint<[clientId: string, message: HookMessage, packetId: number]>();
  /** `clientId` is undefined when nobody was to get the message. */
  readonly messageDropped = new HookPoint<[clientId: string | undefined, reason: DropReason, message: HookMessage]>();
  readonly willPublished = new HookPoint<[clientId: string, message: HookMessage]>();
  /** The client said goodbye, or came back in time. */
  readonly willDropped = new HookPoint<[clientId: string]>();
  readonly listenerOpened = new HookPoint<[listener: ListenerNote]>();
  readonly listenerClosed = new HookPoint<[listener: ListenerNote]>();
  readonly alarmSet = new HookPoint<[alarm: AlarmNote]>();
  readonly alarmCleared = new HookPoint<[alarm: AlarmNote]>();
}
