/**
 * What a history says of the broker's sessions: which there were, how long, with which subscriptions, and what each
 * received. Where the clients cannot know (a Clean Start without its CONNACK, an UNSUBSCRIBE cut off by a crash) the
 * answer is a span, and the judge asks of the broker only what holds at both of its ends.
 *
 *   subscription   sent ─── acked ═════════════════ dropSent ─── dropped
 *                  may match      must match                 may match
 */
import { type Event, type EventOf, NEVER, splitShared } from "./history.ts";

/** Below this a session may end while a run lasts. */
const SHORT_EXPIRY_SEC = 600;
/** The broker counts in whole seconds, and may be busy. */
const EXPIRY_SLACK_MS = 3000;

export interface SubscriptionSpan {
  /** As the client wrote it. */
  readonly filter: string;
  /** Without the share group. */
  readonly plain: string;
  readonly group: string | undefined;
  readonly qos: number;
  readonly sent: number;
  acked: number;
  dropSent: number;
  dropped: number;
}

export class Session {
  readonly subscriptions: SubscriptionSpan[] = [];
  readonly received = new Map<string, EventOf<"received">[]>();
  readonly links: { readonly link: number; readonly fromMs: number; toMs: number }[] = [];
  isPersistent = false;
  expirySec = 0;
  /** From here on it may be gone, if it was not seen since. */
  mayEnd = NEVER;
  /** Gone for certain when this was seen. */
  ended = NEVER;

  constructor(
    readonly client: string,
    readonly from: number,
    /** It may be an older one, with subscriptions of which only the sending is known. */
    readonly isBlurred = false,
  ) {}

  get name(): string {
    return `${this.client}@${this.from}`;
  }

  /** Was there to the end of the run, so that nothing owed to it may be missing. */
  get isSurvivor(): boolean {
    return this.isPersistent && this.mayEnd === NEVER && this.ended === NEVER;
  }
}

interface ClientState {
  session: Session | undefined;
  pending: EventOf<"connect"> | undefined;
  /** CONNECTs without CONNACK since the last one that had one. */
  unanswered: EventOf<"connect">[];
  version: number;
  /** When its link ended. */
  leftMs: number;
  isConnected: boolean;
}

export class SessionBook {
  readonly sessions: Session[] = [];
  /** Session present flags that cannot be, as text, with the event. */
  readonly wrongs: { readonly event: Event; readonly text: string }[] = [];
  readonly #clients = new Map<string, ClientState>();
  #readyMs = 0;

  handle(event: Event): void {
    if (event.what === "ready") this.#readyMs = event.ms;
    else if (event.what === "killed") this.#handleKilled(event);
    else if (event.client !== "") this.#handleClient(event, this.#stateOf(event.client));
  }

  #stateOf(client: string): ClientState {
    let state = this.#clients.get(client);
    if (state === undefined) {
      state = { session: undefined, pending: undefined, unanswered: [], version: 0, leftMs: 0, isConnected: false };
      this.#clients.set(client, state);
    }
    return state;
  }

  /** Sessions that end with their connection are not stored; the clocks of the others start now or ran on. */
  #handleKilled(event: Event): void {
    for (const state of this.#clients.values()) {
      const { session } = state;
      if (session === undefined) continue;
      if (!session.isPersistent) session.ended = Math.min(session.ended, event.at);
      else if (session.expirySec < SHORT_EXPIRY_SEC) session.mayEnd = Math.min(session.mayEnd, event.at);
      state.isConnected = false;
    }
  }

  #handleClient(event: Event, state: ClientState): void {
    const { session } = state;
    switch (event.what) {
      case "connect":
        return this.#handleConnect(event, state);
      case "connack":
        return this.#handleConnack(event, state);
      case "left":
        return this.#handleLeft(event, state);
      case "received": {
        if (session === undefined || event.key === "") return;
        const before = session.received.get(event.key);
        if (before === undefined) session.received.set(event.key, [event]);
        else before.push(event);
        return;
      }
      case "subscribe": {
        const [group, plain] = splitShared(event.filter);
        const { filter, qos, at: sent } = event;
        const isOpen = session?.subscriptions.some((each) => each.filter === filter && each.dropSent === NEVER);
        const span = { filter, plain, group, qos, sent, acked: NEVER, dropSent: NEVER, dropped: NEVER };
        if (isOpen !== true) session?.subscriptions.push(span);
        return;
      }
      case "suback":
      case "unsubscribe":
      case "unsuback":
        for (const span of session?.subscriptions ?? []) if (span.filter === event.filter) advance(span, event);
    }
  }

  #handleConnect(event: EventOf<"connect">, state: ClientState): void {
    if (state.pending !== undefined) state.unanswered.push(state.pending);
    state.pending = event;
    state.version = event.version;
    const { session } = state;
    if (session !== undefined && event.isClean) session.mayEnd = Math.min(session.mayEnd, event.at);
  }

  #handleConnack(event: EventOf<"connack">, state: ClientState): void {
    const { pending } = state;
    if (pending === undefined || event.code !== 0) return;
    const expected = this.#expectPresent(pending, state);
    if (expected !== undefined && expected !== event.isPresent) {
      this.wrongs.push({ event, text: `session present is ${event.isPresent}, expected ${expected}` });
    }
    const before = state.session;
    let session = before;
    if (!event.isPresent || before === undefined || before.ended !== NEVER) {
      if (before !== undefined) before.ended = Math.min(before.ended, event.at);
      session = new Session(event.client, state.unanswered[0]?.at ?? pending.at, event.isPresent);
      this.sessions.push(session);
    } else if (state.unanswered.some(({ isClean }) => isClean)) {
      session = blurredCopy(before);
      before.ended = event.at;
      this.sessions.push(session);
    }
    session!.mayEnd = NEVER; // it has just been seen
    session!.isPersistent = pending.version === 5 ? pending.expirySec > 0 : !pending.isClean;
    session!.expirySec = pending.version === 5 ? pending.expirySec : NEVER;
    session!.links.push({ link: event.link, fromMs: event.ms, toMs: NEVER });
    state.session = session;
    state.pending = undefined;
    state.unanswered = [];
    state.isConnected = true;
  }

  /** Undefined when either may be right. */
  #expectPresent(
    pending: EventOf<"connect">,
    { session, unanswered, version, leftMs }: ClientState,
  ): boolean | undefined {
    if (pending.isClean) return false;
    if (unanswered.some(({ isClean }) => isClean)) return undefined;
    const isMade = unanswered.length > 0;
    if (session === undefined || session.ended !== NEVER) return isMade ? undefined : false;
    if (session.mayEnd === NEVER) return true;
    if (!session.isPersistent) return version === 5 || isMade ? undefined : false;
    const sinceMs = Math.max(leftMs, this.#readyMs);
    if (isMade || session.expirySec === 0) return undefined;
    return pending.ms > sinceMs + session.expirySec * 1000 + EXPIRY_SLACK_MS ? false : undefined;
  }

  #handleLeft(event: EventOf<"left">, state: ClientState): void {
    const { session } = state;
    const link = session?.links.at(-1);
    if (session === undefined || link?.link !== event.link) return;
    link.toMs = event.ms;
    state.leftMs = event.ms;
    state.isConnected = false;
    if (event.endsSession) session.expirySec = 0;
    const isShort = session.expirySec < SHORT_EXPIRY_SEC;
    if (!session.isPersistent || isShort) session.mayEnd = Math.min(session.mayEnd, event.at);
  }
}

function advance(
  span: SubscriptionSpan,
  event: EventOf<"suback"> | EventOf<"unsubscribe"> | EventOf<"unsuback">,
): void {
  if (event.what === "unsubscribe") {
    span.dropSent = Math.min(span.dropSent, event.at);
  } else if (event.what === "unsuback") {
    if (span.dropSent !== NEVER) span.dropped = Math.min(span.dropped, event.at);
  } else if (span.dropSent === NEVER && event.code < 0x80) {
    span.acked = Math.min(span.acked, event.at);
  }
}

function blurredCopy(before: Session): Session {
  const copy = new Session(before.client, before.from, true);
  for (const span of before.subscriptions) copy.subscriptions.push({ ...span, acked: NEVER });
  return copy;
}
