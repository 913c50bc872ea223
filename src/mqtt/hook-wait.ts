/**
 * The hooks that a client's packet may have to wait for: CONNECT, SUBSCRIBE, UNSUBSCRIBE, PUBLISH. Nothing here runs
 * while nobody listens.
 */
import type { ConnectAttempt, ConnectDetails, SubscribeWish } from "#core/hook-event.ts";
import type { HookMessage } from "#core/hook-message.ts";
import type { HookPoint, LaterPoint } from "#core/hooks.ts";
import { type MessageView, NEVER } from "#core/message.ts";
import type { SubscribeItem } from "#core/subscriptions.ts";
import { NO_LOCAL, QOS_MASK, RETAIN_AS_PUBLISHED, RETAIN_HANDLING_SHIFT } from "#core/topic-index.ts";
import type { ConnectPacket } from "./codec/connect.ts";
import { published } from "./codec/publish.ts";
import { NOT_AUTHORIZED, returnCode3 } from "./codec/reason-code.ts";
import type { Connection } from "./connection.ts";
import { CLOSED, HANDLE_AGAIN } from "./connection-state.ts";

/** What the hooks have made of a PUBLISH that waits to be handled again. */
export interface JudgedPublish {
  readonly message: HookMessage;
  readonly goesOn: boolean;
}

export const GOES_ON = 0;
const STOPPED = 1;
export const TAKEN = 2;

/** Runs both points; until the answer the connection is held. It is not called when the connection has closed meanwhile. */
function ask<E>(
  connection: Connection,
  points: readonly [LaterPoint<E>, HookPoint<[E]>],
  event: E,
  done: (goesOn: boolean) => void,
): void {
  const [later, now] = points;
  const finish = (goesOn: boolean): void => {
    if (connection.state !== CLOSED) done(goesOn && now.run(event));
  };
  if (!later.isUsed) return finish(true);
  connection.hold();
  later.run(event, (goesOn) => {
    finish(goesOn);
    connection.unhold();
  });
}

export function detailsOf(packet: ConnectPacket, reasonCode: number): ConnectDetails {
  const { version, isCleanStart, keepAliveSec, properties, will } = packet;
  const isV5 = version === 5;
  return {
    isCleanStart,
    keepAliveSec,
    expirySec: isV5 ? (properties.sessionExpirySec ?? 0) : isCleanStart ? 0 : NEVER,
    hasWill: will !== undefined,
    connack: isV5 || reasonCode === 0 ? reasonCode : returnCode3(reasonCode),
  };
}

/** 0: it goes on. A listener that says why meant to refuse, though a 3.x return code is no reason code. */
function refusalOf(reasonCode: number, goesOn: boolean): number {
  if (reasonCode >= 0x80 && reasonCode <= 0xff) return reasonCode;
  return goesOn && reasonCode === 0 ? 0 : NOT_AUTHORIZED;
}

/** `done` gets 0, or the reason to refuse. */
export function askConnectHooks(
  connection: Connection,
  packet: ConnectPacket,
  done: (reasonCode: number) => void,
): void {
  const { clientConnect, clientConnectLater } = connection.context.engine.hooks;
  if (!clientConnect.isUsed && !clientConnectLater.isUsed) return done(0);
  const attempt: ConnectAttempt = { client: connection.info(), details: detailsOf(packet, 0), reasonCode: 0 };
  ask(connection, [clientConnectLater, clientConnect], attempt, (goesOn) => {
    done(refusalOf(attempt.reasonCode, goesOn));
  });
}

/** `done` gets what the items have become, and a reason code above 0x7f for each that is refused. */
export function askSubscribeHooks(
  connection: Connection,
  items: readonly SubscribeItem[],
  done: (items: readonly SubscribeItem[], refusals: readonly number[]) => void,
): void {
  const { clientSubscribe, clientSubscribeLater } = connection.context.engine.hooks;
  if (items.length === 0 || (!clientSubscribe.isUsed && !clientSubscribeLater.isUsed)) return done(items, []);
  const wishes = Object.freeze(items.map(wishOf)); // one for each filter, whatever becomes of it
  const request = { client: connection.info(), wishes };
  ask(connection, [clientSubscribeLater, clientSubscribe], request, (goesOn) => {
    const refusals = wishes.map(({ reasonCode }) => refusalOf(reasonCode, goesOn));
    done(
      wishes.map((wish, i) => itemOf(wish, items[i])),
      refusals,
    );
  });
}

function wishOf({ filter, options }: SubscribeItem): SubscribeWish {
  return {
    filter: filter.toString(),
    qos: (options & QOS_MASK) as 0 | 1 | 2,
    isNoLocal: (options & NO_LOCAL) !== 0,
    isRetainAsPublished: (options & RETAIN_AS_PUBLISHED) !== 0,
    retainHandling: ((options >> RETAIN_HANDLING_SHIFT) & 3) as 0 | 1 | 2,
    reasonCode: 0,
  };
}

function itemOf(wish: SubscribeWish, { id }: SubscribeItem): SubscribeItem {
  const flags = (wish.isNoLocal ? NO_LOCAL : 0) | (wish.isRetainAsPublished ? RETAIN_AS_PUBLISHED : 0);
  const options = (wish.qos & QOS_MASK) | flags | ((wish.retainHandling & 3) << RETAIN_HANDLING_SHIFT);
  return { filter: Buffer.from(String(wish.filter)), options, id };
}

/** `done` gets what the filters have become, or undefined when they are refused. */
export function askUnsubscribeHooks(
  connection: Connection,
  filters: readonly Buffer[],
  done: (filters: readonly Buffer[] | undefined) => void,
): void {
  const { clientUnsubscribe, clientUnsubscribeLater } = connection.context.engine.hooks;
  if (!clientUnsubscribe.isUsed && !clientUnsubscribeLater.isUsed) return done(filters);
  const request = { client: connection.info(), filters: filters.map(String) };
  ask(connection, [clientUnsubscribeLater, clientUnsubscribe], request, (goesOn) => {
    // One code a filter was promised.
    const texts = filters.map((filter, i) => request.filters[i] ?? String(filter));
    done(goesOn ? texts.map((text) => Buffer.from(String(text))) : undefined);
  });
}

/**
 * GOES_ON: `view` is what the hooks have made of it; STOPPED; TAKEN: somebody keeps it; a reason code of 0x80 or above: refused;
 * or HANDLE_AGAIN: the packet waits, and finds the answer when it is handled again.
 */
export function askPublishHooks(connection: Connection, view: MessageView): number {
  const { engine } = connection.context;
  const { extras } = connection;
  const isRepeat = view.qos === 2 && engine.sessions.receiptsFor(connection.session).has(published.packetId);
  if (isRepeat) return GOES_ON; // it is not routed
  if (extras.judged) return take(connection, view);
  const message = engine.delivery.describe(view);
  message.own();
  let isLater = false;
  engine.hooks.messagePublishLater.run(message, (goesOn) => {
    connection.extras.judged = { message, goesOn };
    if (isLater) connection.unhold();
  });
  if (extras.judged) return take(connection, view);
  isLater = true;
  connection.hold();
  return HANDLE_AGAIN;
}

function take({ extras }: Connection, view: MessageView): number {
  const { message, goesOn } = extras.judged!;
  extras.judged = null;
  if (!goesOn) return message.reasonCode >= 0x80 ? message.reasonCode : message.isTaken ? TAKEN : STOPPED;
  message.apply(view);
  return GOES_ON;
}
