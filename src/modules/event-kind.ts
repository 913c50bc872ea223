/** Events that can be passed on: the hooks of the same names. Apart from event.ts, since the configuration has to know them at every start. */
export const eventKinds = [
  "client.connected",
  "client.disconnected",
  "client.refused",
  "session.created",
  "session.ended",
  "session.subscribed",
  "session.unsubscribed",
  "message.publish",
  "message.delivered",
  "message.acked",
  "message.dropped",
] as const;

export type EventKind = (typeof eventKinds)[number];
