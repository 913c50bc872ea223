/** What a crash run remembers of clients, sessions, links and messages: plain data, see crash-ledger.ts. */
import { isMatch, type LinkModel, type Message, sharedParts } from "./model.ts";

/** A subscription from its SUBSCRIBE on. Times are events: calls into the broker, counted. */
export class Grant {
  /** SUBACK was sent. */
  firmAt = Infinity;
  /** UNSUBSCRIBE, or another SUBSCRIBE of the same filter, reached the broker. */
  leavingAt = Infinity;
  /** And was acknowledged. */
  goneAt = Infinity;

  constructor(
    readonly filter: string,
    readonly qos: number,
    readonly askedAt: number,
  ) {}

  get isShared(): boolean {
    return sharedParts(this.filter) !== undefined;
  }

  matches(topic: string): boolean {
    return isMatch(sharedParts(this.filter)?.filter ?? this.filter, topic);
  }

  /** Acknowledged before `first`, and nobody has asked to end it. */
  isFirmSince(first: number): boolean {
    return this.firmAt <= first && this.leavingAt === Infinity;
  }
}

/** A session as its client knows it: from a start without anything until the next. */
export class Epoch {
  /** It outlives its connection, as far as the client has asked and been told. */
  isKept = false;
  readonly grants: Grant[] = [];
  /** Live messages that must arrive. */
  readonly owed = new Set<Message>();
  readonly seen = new Set<Message>();
  /** By filter: when the client last asked for its end, or for QoS 0. */
  readonly lapses = new Map<string, number>();
  /** Of these at QoS 2. */
  readonly exact = new Set<Message>();
  /** Number of the newest message, by publisher, topic and QoS. */
  readonly newest = new Map<string, number>();

  constructor(readonly clientId: string) {}
}

/** `none`: there is no session. `kept`: there is one that does not expire. `limited`: one that may have expired. */
export type Presence = "none" | "kept" | "limited" | "unknown";

export class ClientRecord {
  epoch: Epoch;
  presence: Presence = "none";
  expirySec = 0;
  /** When the client left its last link, and the broker noticed; ms. */
  leftMs = 0;
  lostMs = 0;
  /** The link that the broker has for it. */
  link: LinkRecord | undefined;
  will: WillRecord | undefined;
  /** Life of the broker in which its last CONNECT arrived. */
  followedIn = -1;

  constructor(readonly id: string) {
    this.epoch = new Epoch(id);
  }
}

export class WillRecord {
  /** CONNACK of its connection was sent. */
  isConfirmed = false;
  isDiscarded = false;
  /** There was no memory for it, and that was reported. */
  isRefused = false;
  /** A later connection of its client was told that it is connected. */
  isSuperseded = false;
  /** When the broker noticed that the connection was gone; Infinity while it has not. */
  lostMs = Infinity;
  /** When the broker was ready again after the crash that ended the connection. */
  restoredMs = Infinity;
  /** By life of the broker. */
  readonly routedIn = new Set<number>();

  constructor(
    readonly message: Message,
    readonly delaySec: number,
    readonly askedAt: number,
    /** Life of the broker in which it was given. */
    readonly life: number,
    readonly isKept: boolean,
  ) {}
}

export class LinkRecord {
  /** Packet ids of what was published on it. */
  readonly published = new Map<number, Message>();
  readonly subscribes = new Map<number, Grant[]>();
  readonly unsubscribes = new Map<number, Grant[]>();
  will: WillRecord | undefined;
  /** Of the connection before: its time had come before CONNECT did. */
  comeTrue: WillRecord | undefined;
  expirySec = 0;
  /** When CONNECT reached the broker; Infinity while it has not. */
  heardAt = Infinity;
  /** The broker has left it. */
  isLost = false;
  /** Session present, as it must be; undefined when either is right. */
  mustBePresent: boolean | undefined;
  /** After this its session may have expired before CONNECT was answered. */
  presentUntilMs = Infinity;

  constructor(
    readonly client: ClientRecord,
    public epoch: Epoch,
    readonly model: LinkModel,
  ) {}
}

/** When a message reached the broker. */
export class Story {
  lastHandedAt: number;
  isAcknowledged = false;

  constructor(readonly firstHandedAt: number) {
    this.lastHandedAt = firstHandedAt;
  }
}
