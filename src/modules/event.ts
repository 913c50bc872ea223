/**
 * What happened, as webhooks and message storage pass it on, and where it is seen: one listener a kind of event, whatever the number of
 * those who want it. An event is made once, and only when somebody wants it.
 *
 *   hook ─► wanted by an outlet (kind, topic filter)? ─► event ─► put into each of these
 */
import { randomBytes } from "node:crypto";
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
  const give: Give = (kind, topic, fill) => {
    let event: Draft | undefined;
    for (const observer of observers)
      if (observer.wants(kind, topic)) {
        if (!event) fill((event = draftOf(prefix + number++, kind, topic)));
        observer.put(event);
      }
  };
  const isWanted = (kind: EventKind): boolean => observers.some(({ kinds }) => kinds.has(kind));
  observeClients(api, isWanted, give);
  observeMessages(api, isWanted, give);
}

type Draft = { -readonly [K in keyof BrokerEvent]: BrokerEvent[K] };
type Give = (kind: EventKind, topic: string | undefined, fill: (event: Draft) => void) => void;
type IsWanted = (kind: EventKind) => boolean;

/** All of one shape. */
function draftOf(id: string, event: EventKind, topic: string | undefined): Draft {
  const rest = { clientid: undefined, username: undefined, ipaddress: undefined, qos: undefined, retain: undefined };
  return { id, event, ts: Date.now(), topic, ...rest, payload: undefined, publisher: undefined, reason: undefined };
}

function fillClient(event: Draft, { clientId, username, address }: ClientInfo): void {
  event.clientid = clientId;
  event.username = username;
  event.ipaddress = address;
}

function fillMessage(event: Draft, { qos, isRetain, payload }: HookMessage): void {
  event.qos = qos;
  event.retain = isRetain;
  event.payload = payload;
}

function observeClients(api: PluginApi, isWanted: IsWanted, give: Give): void {
  if (isWanted("client.connected"))
    api.on("client.connected", (client) => give("client.connected", undefined, (event) => fillClient(event, client)));
  const tell = (kind: "client.refused" | "client.disconnected", client: ClientInfo, reason: number): void =>
    give(kind, undefined, (event) => {
      fillClient(event, client);
      event.reason = `${reason}`;
    });
  if (isWanted("client.refused"))
    api.on("client.refused", (client, { connack }) => tell("client.refused", client, connack));
  if (isWanted("client.disconnected"))
    api.on("client.disconnected", (client, reasonCode) => tell("client.disconnected", client, reasonCode));
  for (const kind of ["session.created", "session.ended"] as const)
    if (isWanted(kind))
      api.on(kind, (clientId) =>
        give(kind, undefined, (event) => {
          event.clientid = clientId;
        }),
      );
  for (const kind of ["session.subscribed", "session.unsubscribed"] as const)
    if (isWanted(kind))
      api.on(kind, (clientId: string, filter: string, qos?: number) =>
        give(kind, filter, (event) => {
          event.clientid = clientId;
          event.qos = qos;
        }),
      );
}

function observeMessages(api: PluginApi, isWanted: IsWanted, give: Give): void {
  if (isWanted("message.publish"))
    api.on(
      "message.publish",
      (message) =>
        give("message.publish", message.topic, (event) => {
          const { client } = message;
          if (client) fillClient(event, client);
          else event.clientid = message.publisher;
          fillMessage(event, message);
        }),
      { priority: 1000 }, // as it has become
    );
  const tell = (kind: EventKind, clientId: string | undefined, message: HookMessage, reason?: string): void =>
    give(kind, message.topic, (event) => {
      event.clientid = clientId;
      event.publisher = message.publisher;
      event.reason = reason;
      fillMessage(event, message);
    });
  for (const kind of ["message.delivered", "message.acked"] as const)
    if (isWanted(kind)) api.on(kind, (clientId: string, message: HookMessage) => tell(kind, clientId, message));
  if (isWanted("message.dropped"))
    api.on("message.dropped", (clientId, reason, message) => tell("message.dropped", clientId, message, reason));
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

/** Field by field: objects of one shape are what JSON writers are fast with. */
export function plainEvent(event: BrokerEvent, form: PayloadForm): Readonly<Record<keyof BrokerEvent, unknown>> {
  const { id, ts, clientid, username, ipaddress, topic, qos, retain, publisher, reason } = event;
  const payload = form === "none" ? undefined : event.payload?.toString(form);
  return { id, event: event.event, ts, clientid, username, ipaddress, topic, qos, retain, payload, publisher, reason };
}

/** For the disk. */
export function encodeEvent(event: BrokerEvent): Uint8Array {
  return Buffer.from(JSON.stringify(plainEvent(event, "base64")));
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
