/**
 * What happened, as webhooks and message storage pass it on, and where it is seen: one listener a kind of event, whatever the number of
 * those who want it. An event is made once, and only when somebody wants it.
 *
 *   hook ─► wanted by an outlet (kind, topic filter)? ─► event ─► put into each of these
 */
import { randomBytes } from "node:crypto";
import fastJson from "fast-json-stringify";
import { type ClientInfo, type HookMessage, type PluginApi, topicMatcher } from "#plugins/plugin.ts";
import type { EventKind } from "./event-kind.ts";

export interface BrokerEvent {
  /** Unique; a receiver tells a repeat by it. */
  readonly id: string;
  readonly event: EventKind;
  /** Wall clock, milliseconds. */
  readonly ts: number;
  /** Whom it is about: the publisher, and for delivered, acked and dropped the receiver. */
  readonly clientid?: string | undefined;
  readonly username?: string | undefined;
  readonly ipaddress?: string | undefined;
  /** Of the message, or the filter of a subscription. */
  readonly topic?: string | undefined;
  readonly qos?: number | undefined;
  readonly retain?: boolean | undefined;
  readonly payload?: Buffer | undefined;
  /** Delivered, acked and dropped: who published it. */
  readonly publisher?: string | undefined;
  /** Reason code of a DISCONNECT or CONNACK, or why a message was dropped. */
  readonly reason?: string | undefined;
}

/** What somebody wants to hear of. */
export interface Interest {
  /** Without filters all topics. Events of clients and sessions have no topic. */
  wants(kind: EventKind, topic: string | undefined): boolean;
  readonly kinds: ReadonlySet<EventKind>;
}

export function interestOf(events: readonly EventKind[], filters: readonly string[]): Interest {
  const kinds = new Set(events);
  const fits = filters.map(topicMatcher);
  return {
    kinds,
    wants: (kind, topic) => kinds.has(kind) && (topic === undefined || fits.some((isFit) => isFit(topic))),
  };
}

export interface Observer extends Interest {
  put(event: BrokerEvent): void;
}

export function observe(api: PluginApi, observers: readonly Observer[]): void {
  const prefix = `${randomBytes(6).toString("hex")}-`;
  let number = 0;
  const give = (
    kind: EventKind,
    topic: string | undefined,
    make: () => Omit<BrokerEvent, "id" | "event" | "ts">,
  ): void => {
    let event: BrokerEvent | undefined;
    for (const observer of observers)
      if (observer.wants(kind, topic)) {
        event ??= { id: prefix + number++, event: kind, ts: Date.now(), ...make() };
        observer.put(event);
      }
  };
  const isWanted = (kind: EventKind): boolean => observers.some(({ kinds }) => kinds.has(kind));
  observeClients(api, isWanted, give);
  observeMessages(api, isWanted, give);
}

type Give = (kind: EventKind, topic: string | undefined, make: () => Omit<BrokerEvent, "id" | "event" | "ts">) => void;
type IsWanted = (kind: EventKind) => boolean;

function observeClients(api: PluginApi, isWanted: IsWanted, give: Give): void {
  const clientOf = ({ clientId: clientid, username, address: ipaddress }: ClientInfo) => ({
    clientid,
    username,
    ipaddress,
  });
  if (isWanted("client.connected"))
    api.on("client.connected", (client) => give("client.connected", undefined, () => clientOf(client)));
  if (isWanted("client.refused"))
    api.on("client.refused", (client, { connack }) =>
      give("client.refused", undefined, () => ({ ...clientOf(client), reason: `${connack}` })),
    );
  if (isWanted("client.disconnected"))
    api.on("client.disconnected", (client, reasonCode) =>
      give("client.disconnected", undefined, () => ({ ...clientOf(client), reason: `${reasonCode}` })),
    );
  for (const kind of ["session.created", "session.ended"] as const)
    if (isWanted(kind)) api.on(kind, (clientid) => give(kind, undefined, () => ({ clientid })));
  for (const kind of ["session.subscribed", "session.unsubscribed"] as const)
    if (isWanted(kind))
      api.on(kind, (clientid: string, topic: string, qos?: number) =>
        give(kind, topic, () => ({ clientid, topic, qos })),
      );
}

function observeMessages(api: PluginApi, isWanted: IsWanted, give: Give): void {
  const messageOf = ({ topic, qos, isRetain: retain, payload }: HookMessage) => ({ topic, qos, retain, payload });
  if (isWanted("message.publish"))
    api.on(
      "message.publish",
      (message) =>
        give("message.publish", message.topic, () => {
          const { username, address: ipaddress } = message.client ?? {};
          return { clientid: message.publisher, username, ipaddress, ...messageOf(message) };
        }),
      { priority: 1000 }, // as it has become
    );
  for (const kind of ["message.delivered", "message.acked"] as const)
    if (isWanted(kind))
      api.on(kind, (clientid: string, message: HookMessage) =>
        give(kind, message.topic, () => ({ clientid, publisher: message.publisher, ...messageOf(message) })),
      );
  if (isWanted("message.dropped"))
    api.on("message.dropped", (clientid, reason, message) =>
      give("message.dropped", message.topic, () => ({
        clientid,
        publisher: message.publisher,
        reason,
        ...messageOf(message),
      })),
    );
}

// ---- as bytes

const text = { type: "string" } as const;
const properties = {
  id: text,
  event: text,
  ts: { type: "integer" },
  clientid: text,
  username: text,
  ipaddress: text,
  topic: text,
  qos: { type: "integer" },
  retain: { type: "boolean" },
  payload: text,
  publisher: text,
  reason: text,
} as const;

export const eventSchema = { type: "object", properties } as const;

export type PayloadForm = "utf8" | "base64" | "none";

export function plainEvent(event: BrokerEvent, form: PayloadForm): Record<keyof BrokerEvent, unknown> {
  const payload = form === "none" ? undefined : event.payload?.toString(form);
  return { ...event, payload } as Record<keyof BrokerEvent, unknown>;
}

const writeEvent = fastJson(eventSchema);

export function encodeEvent(event: BrokerEvent): Uint8Array {
  return Buffer.from(writeEvent(plainEvent(event, "base64")));
}

/** Undefined for what is none. */
export function decodeEvent(body: Uint8Array): BrokerEvent | undefined {
  try {
    const event = JSON.parse(Buffer.from(body).toString()) as BrokerEvent & { readonly payload?: string };
    if (typeof event.id !== "string") return undefined;
    return event.payload === undefined ? event : { ...event, payload: Buffer.from(event.payload, "base64") };
  } catch {
    return undefined;
  }
}

/** What it takes in memory, roughly. */
export function bytesOfEvent({ topic = "", payload }: BrokerEvent): number {
  return 300 + topic.length + (payload?.length ?? 0);
}
