/** The hook points by the names that plugins use: one line a point of `core/hooks.ts`. */
import type { HookPoint, Hooks } from "#core/hooks.ts";

export const hookPoints = {
  "client.connected": "clientConnected",
  "client.denied": "clientDenied",
  "client.disconnected": "clientDisconnected",
  "session.created": "sessionCreated",
  "session.resumed": "sessionResumed",
  "session.ended": "sessionEnded",
  "session.subscribed": "sessionSubscribed",
  "session.unsubscribed": "sessionUnsubscribed",
  "message.publish": "messagePublish",
  "message.delivered": "messageDelivered",
  "message.acked": "messageAcked",
  "message.dropped": "messageDropped",
} as const satisfies Readonly<Record<string, keyof Hooks>>;

export type HookName = keyof typeof hookPoints;

/** What a point calls: synchronously, so what it answers counts only if it is not a promise. */
export type HookListener<N extends HookName> =
  Hooks[(typeof hookPoints)[N]] extends HookPoint<infer A> ? (...args: A) => unknown : never;
