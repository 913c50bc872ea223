/** What the simulation knows of messages, inputs, sessions and links: plain data that client, network and twin share. */
import { encodePacket, type Properties } from "#test/support/packets.ts";

export type SimVersion = 4 | 5;

/** No expiry, of sessions and messages alike. */
export const NEVER = 0xffff_ffff;

/** A published message. Its number stands in its payload, so that it is known again wherever it turns up. */
export interface Message {
  readonly no: number;
  readonly topic: string;
  readonly qos: number;
  readonly isRetain: boolean;
  readonly isWill: boolean;
  /** Empty when it clears a retained message. */
  readonly payload: Uint8Array;
  readonly expirySec: number | undefined;
  readonly hasUserProperty: boolean;
  readonly publisher: string;
  readonly version: SimVersion;
  /** How often it was routed, as far as the twin knows. */
  routedCount: number;
}

export function numberIn(payload: Uint8Array): number {
  if (payload.length === 0) return -1;
  return parseInt(new TextDecoder().decode(payload.subarray(0, 12)), 10);
}

export interface SubscribeWish {
  readonly filter: string;
  readonly qos: number;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  readonly retainHandling: number;
}

export interface ConnectInput {
  readonly type: "connect";
  readonly clientId: string;
  readonly isCleanStart: boolean;
  readonly keepAliveSec: number;
  readonly expirySec: number;
  readonly receiveMax: number | undefined;
  readonly packetBytesMax: number | undefined;
  readonly aliasMax: number;
  readonly will: { readonly message: Message; readonly delaySec: number } | undefined;
}

export interface PublishInput {
  readonly type: "publish";
  readonly message: Message;
  readonly packetId: number;
  readonly isDup: boolean;
  /** 0 for none; `isAliasOnly` leaves the topic out. */
  readonly alias: number;
  readonly isAliasOnly: boolean;
}

/** What a client sends. */
export type Input =
  | ConnectInput
  | PublishInput
  | {
      readonly type: "puback" | "pubrec" | "pubrel" | "pubcomp";
      readonly packetId: number;
      readonly reasonCode: number;
    }
  | {
      readonly type: "subscribe";
      readonly packetId: number;
      readonly id: number;
      readonly wishes: readonly SubscribeWish[];
    }
  | { readonly type: "unsubscribe"; readonly packetId: number; readonly filters: readonly string[] }
  | { readonly type: "pingreq" }
  | { readonly type: "disconnect"; readonly reasonCode: number; readonly expirySec: number | undefined };

function messageProperties(message: Message): Properties {
  const properties: Properties = [];
  if (message.expirySec !== undefined) properties.push(["messageExpiryIntervalSec", message.expirySec]);
  if (message.hasUserProperty) properties.push(["userProperty", ["no", String(message.no)]]);
  return properties;
}

function encodeConnect(input: ConnectInput, version: SimVersion): Uint8Array {
  const { will, clientId, keepAliveSec, isCleanStart } = input;
  const properties: Properties = [];
  if (input.expirySec > 0) properties.push(["sessionExpiryIntervalSec", input.expirySec]);
  if (input.receiveMax !== undefined) properties.push(["receiveMaximum", input.receiveMax]);
  if (input.packetBytesMax !== undefined) properties.push(["maximumPacketSizeBytes", input.packetBytesMax]);
  if (input.aliasMax > 0) properties.push(["topicAliasMaximum", input.aliasMax]);
  const willProperties = will ? messageProperties(will.message) : [];
  if (will && will.delaySec > 0) willProperties.push(["willDelayIntervalSec", will.delaySec]);
  const packet = { type: "connect" as const, cleanStart: isCleanStart, keepAliveSec, clientId, properties };
  if (!will) return encodePacket(packet, version);
  const { topic, payload, qos, isRetain } = will.message;
  return encodePacket(
    { ...packet, will: { topic, payload, qos, retain: isRetain, properties: willProperties } },
    version,
  );
}

function encodePublish(input: PublishInput, version: SimVersion): Uint8Array {
  const { message, packetId, isDup, alias, isAliasOnly } = input;
  const properties = messageProperties(message);
  if (alias > 0) properties.push(["topicAlias", alias]);
  const { qos, isRetain: retain, payload } = message;
  const topic = isAliasOnly ? "" : message.topic;
  return encodePacket({ type: "publish", qos, retain, dup: isDup, topic, packetId, payload, properties }, version);
}

export function encodeInput(input: Input, version: SimVersion): Uint8Array {
  switch (input.type) {
    case "connect":
      return encodeConnect(input, version);
    case "publish":
      return encodePublish(input, version);
    case "subscribe": {
      const properties: Properties = input.id > 0 ? [["subscriptionIdentifier", input.id]] : [];
      const subscriptions = input.wishes.map((wish) => (version === 5 ? wish : { filter: wish.filter, qos: wish.qos }));
      return encodePacket({ type: "subscribe", packetId: input.packetId, properties, subscriptions }, version);
    }
    case "unsubscribe":
      return encodePacket({ type: "unsubscribe", packetId: input.packetId, filters: [...input.filters] }, version);
    case "pingreq":
      return encodePacket({ type: "pingreq" }, version);
    case "disconnect": {
      const { reasonCode, expirySec } = input;
      if (expirySec === undefined) return encodePacket({ type: "disconnect", reasonCode }, version);
      return encodePacket(
        { type: "disconnect", reasonCode, properties: [["sessionExpiryIntervalSec", expirySec]] },
        version,
      );
    }
    default: {
      const { type, packetId, reasonCode } = input;
      return encodePacket(reasonCode === 0 ? { type, packetId } : { type, packetId, reasonCode }, version);
    }
  }
}

/** One line for people. */
export function describeInput(input: Input): string {
  const { type, ...fields } = input;
  const shorten = (key: string, value: unknown): unknown => (key === "payload" ? undefined : value);
  return `${type} ${JSON.stringify(fields, shorten)}`;
}

/** WAITING until first sent, SENT until PUBACK or PUBREC, RELEASED until PUBCOMP. */
export const WAITING = 0;
export const SENT = 1;
export const RELEASED = 2;
export const DONE = 3;
export const DROPPED = 4;

/** One delivery of one message that the broker owes. */
export interface Expectation {
  readonly seq: number;
  readonly message: Message;
  readonly kind: "live" | "replay" | "group";
  /** Of a group's only the message's: the member's subscription lowers it. */
  qos: number;
  readonly isRetain: boolean;
  readonly ids: readonly number[];
  readonly expiryAtSec: number;
  /** Of retained messages: greater is newer. */
  readonly version: number;
  state: number;
  /** Who has it, or is to have it. For a group nobody until it is sent. */
  session: SessionModel | null;
  packetId: number;
  /** Packet id under which the store has it before it is sent, or 0. */
  heldId: number;
  /** Sent once, then too large for the next connection: the client may or may not have it. */
  isUncertain: boolean;
  /** The link it was last sent on. */
  link: LinkModel | null;
  /** For a group: its name, and who may get the message. */
  readonly group: string;
  readonly eligible: Set<SessionModel>;
  /** Nobody in the group could take it at its QoS: it may vanish without a word. */
  readonly isOptional: boolean;
}

export interface SubscriptionModel extends SubscribeWish {
  readonly id: number;
}

/** The retained messages a SUBSCRIBE asked for. */
export interface ReplayModel {
  readonly filter: string;
  readonly pending: Map<string, Expectation>;
  /** Deadlines after which the topic's value may have gone. */
  readonly deadlines: Map<string, number>;
}

export interface RetainedModel {
  readonly message: Message;
  readonly expiryAtSec: number;
  /** When the broker forgets it, in ms of the simulation's clock; Infinity for never. */
  readonly deadlineMs: number;
  readonly version: number;
}

export class SessionModel {
  readonly subscriptions = new Map<string, SubscriptionModel>();
  link: LinkModel | null = null;
  expirySec = 0;
  /** It has had an expiry: a durable store, where there is one, knows it. */
  isStored = false;
  endDeadlineMs = Infinity;
  isEnding = false;
  isEnded = false;
  will: { readonly message: Message; readonly delaySec: number } | undefined;
  willDueMs = Infinity;
  waiting: Expectation[] = [];
  /** By packet id, in order of sending. */
  readonly inflight = new Map<number, Expectation>();
  replays: ReplayModel[] = [];
  /** Newest retained value that was sent, by topic. */
  readonly seen = new Map<string, Expectation>();
  readonly lastSeq = new Map<string, number>();
  /** QoS 2 packet ids received and not released, with the store number that their PUBREC waits for. */
  readonly receipts = new Map<number, { required: number }>();
  hasUsedIds = false;
  isOverflowed = false;
  /** Of which a copy was dropped: of a live copy and a retained one nobody says which. */
  readonly dropped = new Set<Message>();
  /** The call in which it lost its link: before that moment it had one. */
  lostInCall = -1;
  lastLink: LinkModel | null = null;

  constructor(readonly clientId: string) {}
}

/** An answer that the broker owes on a link, in the order in which it must come. */
export interface Owed {
  readonly type: "puback" | "pubrec" | "pubrel" | "pubcomp" | "suback" | "unsuback";
  readonly packetId: number;
  /** Reason codes that are right; empty when any success is. */
  readonly codes: readonly number[];
  /** Store number it waits for. −1 while the packet is being handled. */
  required: number;
  readonly receipt: { required: number } | undefined;
}

export class LinkModel {
  version: SimVersion = 4;
  state: "new" | "opening" | "open" | "closed" = "new";
  session: SessionModel | null = null;
  isPresent = false;
  isTakenOver = false;
  /** The twin knows that the broker has, or must have, left it. */
  isLost = false;
  isWritable = true;
  lastPacketMs = 0;
  silenceMaxMs = 0;
  windowMax = 0;
  packetBytesMax = Infinity;
  aliasMax = 0;
  connackRequired = 0;
  pingsOwed = 0;
  owed: Owed[] = [];
  /** Packets that came before CONNACK. */
  held: Input[] = [];
  readonly aliases = new Map<number, string>();
  /** Released ids whose PUBREL must come again after CONNACK. */
  readonly resumeOwed = new Set<number>();

  constructor(
    readonly no: number,
    readonly openedMs: number,
  ) {}
}

export class Violation extends Error {}

/** Topic matching by the book, for one pair. */
export function isMatch(filter: string, topic: string): boolean {
  const f = filter.split("/");
  const t = topic.split("/");
  if (topic.startsWith("$") && (f[0] === "+" || f[0] === "#")) return false;
  for (let i = 0; i < f.length; i++) {
    if (f[i] === "#") return true;
    if (i >= t.length || (f[i] !== "+" && f[i] !== t[i])) return false;
  }
  return f.length === t.length;
}

/** Share name and filter of a shared subscription, or undefined. */
export function sharedParts(filter: string): { group: string; filter: string } | undefined {
  if (filter.startsWith("$queue/")) return { group: filter, filter: filter.slice("$queue/".length) };
  if (!filter.startsWith("$share/")) return undefined;
  return { group: filter, filter: filter.slice(filter.indexOf("/", "$share/".length) + 1) };
}
