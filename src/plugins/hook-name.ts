/** The hook points by the names that plugins use: one line a point of `core/hooks.ts`. */
import type { Attempt, AuthenticateAnswer, AuthorizeAnswer, Question } from "#access/backend.ts";
import type { HookPoint, Hooks, LaterPoint } from "#core/hooks.ts";

export const hookPoints = {
  "client.connect": "clientConnect",
  "client.connected": "clientConnected",
  "client.refused": "clientRefused",
  "client.denied": "clientDenied",
  "client.disconnected": "clientDisconnected",
  "client.subscribe": "clientSubscribe",
  "client.unsubscribe": "clientUnsubscribe",
  "session.created": "sessionCreated",
  "session.resumed": "sessionResumed",
  "session.taken-over": "sessionTakenOver",
  "session.expired": "sessionExpired",
  "session.ended": "sessionEnded",
  "session.subscribed": "sessionSubscribed",
  "session.unsubscribed": "sessionUnsubscribed",
  "message.publish": "messagePublish",
  "message.retain": "messageRetain",
  "message.delivered": "messageDelivered",
  "message.acked": "messageAcked",
  "message.dropped": "messageDropped",
  "will.published": "willPublished",
  "will.dropped": "willDropped",
  "listener.opened": "listenerOpened",
  "listener.closed": "listenerClosed",
  "alarm.set": "alarmSet",
  "alarm.cleared": "alarmCleared",
} as const satisfies Readonly<Record<string, keyof Hooks>>;

type PointName = keyof typeof hookPoints;

/** Those whose listeners decide: they stand before the configured access backends, and may take their time. */
interface Deciders {
  "client.authenticate": (attempt: Attempt) => Decision<AuthenticateAnswer>;
  "client.authorize": (question: Question) => Decision<AuthorizeAnswer>;
}

/** Nothing, as `ignore`, leaves it to the next. */
type Decision<A> = Verdict | A | undefined | void | Promise<Verdict | A | undefined | void>;
type Verdict = "allow" | "deny" | "ignore";

export type HookName = PointName | keyof Deciders;

/** Those at which a client can be made to wait. */
export const laterPoints = {
  "client.connect": "clientConnectLater",
  "client.subscribe": "clientSubscribeLater",
  "client.unsubscribe": "clientUnsubscribeLater",
  "message.publish": "messagePublishLater",
} as const satisfies Readonly<Partial<Record<PointName, keyof Hooks>>>;

export type LaterHookName = keyof typeof laterPoints;

/** Its answer is waited for; false as that of the synchronous form. */
export type LaterHookListener<N extends LaterHookName> =
  Hooks[(typeof laterPoints)[N]] extends LaterPoint<infer E> ? (event: E) => Promise<unknown> : never;

/** What a point calls: synchronously, so what it answers counts only if it is not a promise; but for those that decide. */
export type HookListener<N extends HookName> = N extends keyof Deciders
  ? Deciders[N]
  : N extends PointName
    ? Hooks[(typeof hookPoints)[N]] extends HookPoint<infer A>
      ? (...args: A) => unknown
      : never
    : never;
