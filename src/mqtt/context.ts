/** What all MQTT connections of an engine share: settings, scratch, the deadlines' timer kind, and whom to tell. */
import { grown } from "#base/bytes.ts";
import { Slab } from "#base/slab.ts";
import type { Engine } from "#core/engine.ts";
import { MessageView } from "#core/message.ts";
import type { Connection } from "./connection.ts";
import { snapshotOf } from "./connection-extras.ts";
import type { Metrics } from "#core/metrics.ts";
import type { ClientInfo, Protocol } from "#core/ports.ts";
import { MOVED, OPEN } from "./connection-state.ts";
import { Layouts } from "./deliver.ts";
import { handleDeadline } from "./keep-alive.ts";
import { endRest } from "./pacing.ts";

/** How often acknowledgements leave while the broker is busy. */
const LET_OUT_MS = 250;

export interface MqttOptions {
  /** Handed to 5.0 clients that ask for it; "" for none. */
  readonly responseInformation?: string;
  /** 5.0 Server Reference that CONNACK and DISCONNECT name when the broker shuts down; "" for none. */
  readonly serverReference?: string;
  /** A client id that nobody can guess, for clients that bring none. */
  readonly makeClientId?: () => string;
  readonly reporter?: Reporter;
  readonly placement?: Placement | undefined;
  /** The engine's, unless these are connections that no operator asks about. */
  readonly metrics?: Metrics;
}

/**
 * Says where a client that asks to come in belongs: undefined for here, another protocol that has taken its link over, or the
 * reason code with which it is refused.
 */
export type Placement = (connection: Connection, clientId: Buffer) => Protocol | number | undefined;

/** Who hears of faults. The bytes are borrowed. */
export interface Reporter {
  /** A peer broke the protocol and its link is being closed. */
  fault(connection: Connection, reasonCode: number, packet: Buffer): void;
  /** A handler threw: a bug of ours; the link is being closed. */
  bug(connection: Connection, error: unknown, packet: Buffer): void;
}

/** Who sees packets while somebody traces. All bytes are borrowed. A packet is told before it is handled, or when it is sent. */
export interface PacketTap {
  received(connection: Connection, bytes: Buffer, start: number, end: number): void;
  /** What was told last has not been handled and will be told again. */
  postponed(connection: Connection): void;
  sent(connection: Connection, bytes: Buffer, start: number, end: number): void;
  delivered(connection: Connection, view: MessageView, flags: number, packetId: number): void;
}

const silent: Reporter = { fault: () => {}, bug: () => {} };

export class MqttContext {
  /** These two may be changed. */
  responseInformation: string;
  serverReference: string;
  readonly makeClientId: () => string;
  readonly reporter: Reporter;
  /** Where connections, packets and bytes are counted. */
  readonly metrics: Metrics;
  /** With several processes: finds the one that has the client's session. */
  readonly placement: Placement | undefined;
  private moved: Protocol | null = null;
  /**
   * The process has more to do than it can (`setBusy`): CONNECT is refused, QoS 0 that clients publish is dropped, and acknowledgements
   * to publishers leave only now and then, so that their receive maximum slows them.
   */
  isBusy = false;
  /** PUBLISH is looked at: busy, or some listener has a rate. */
  isGuarded = false;
  private hasPacers = false;
  private letOutTimer = -1;
  private shedFrom: Connection | null = null;
  private shedCount = 0;
  private shedAtMs = 0;
  /** Null while nobody traces: then it costs one comparison a packet. */
  tap: PacketTap | null = null;
  /** The PUBLISH that is being handled. */
  readonly incoming: MessageView = new MessageView();
  readonly layouts: Layouts = new Layouts();
  readonly deadlineKind: number;
  /** Of clients that are not read for a while; see pacing.ts. */
  readonly restKind: number;
  private readonly letOutKind: number;
  /** Connections with acknowledgements that wait for a commit. */
  readonly gated: Set<{ readonly gatedCount: number; advanceGate(): void }> = new Set();
  private readonly numbers = new Slab();
  private readonly connections: (Connection | null)[] = [];
  /** By connection: seconds from `startSec` to its CONNACK, and in the lowest bit whether it began with Clean Start. */
  private openedAt = new Uint32Array(64);
  private readonly startSec: number;

  constructor(
    readonly engine: Engine,
    options: MqttOptions = {},
  ) {
    this.responseInformation = options.responseInformation ?? "";
    this.serverReference = options.serverReference ?? "";
    this.makeClientId = options.makeClientId ?? (() => `mantou_${this.randomText()}${this.randomText()}`);
    this.reporter = options.reporter ?? silent;
    this.placement = options.placement;
    this.metrics = options.metrics ?? engine.metrics;
    this.startSec = engine.nowSec;
    this.deadlineKind = engine.addTimerKind((number) => {
      const connection = this.connections[number];
      if (connection) handleDeadline(connection);
    });
    this.restKind = engine.addTimerKind((number) => {
      const connection = this.connections[number];
      if (connection) endRest(connection);
    });
    this.letOutKind = engine.addTimerKind(() => this.letOut());
    const others = engine.onSafe;
    engine.onSafe = () => {
      others();
      this.advanceGates();
    };
  }

  /** Links with a protocol on them. */
  get connectionCount(): number {
    return this.numbers.count;
  }

  /** Who has a link from the handler's answer MOVED on; asked once. */
  takeMoved(): Protocol | null {
    const { moved } = this;
    this.moved = null;
    return moved;
  }

  /** Where the client belongs: 0 for here, MOVED, or a reason code. */
  place(connection: Connection, clientId: Buffer): number {
    const place = this.placement?.(connection, clientId) ?? 0;
    if (typeof place === "number") return place;
    this.moved = place;
    return MOVED;
  }

  add(connection: Connection): number {
    const number = this.numbers.take();
    this.connections[number] = connection;
    return number;
  }

  /** Connections are below this, for walks over all of them by number. */
  get high(): number {
    return this.numbers.high;
  }

  /** The connection of a number, if it is open. */
  openAt(number: number): Connection | null {
    const connection = this.connections[number] ?? null;
    return connection?.state === OPEN ? connection : null;
  }

  /** CONNACK is out. */
  noteOpen(number: number, isCleanStart: boolean): void {
    while (number >= this.openedAt.length) this.openedAt = grown(this.openedAt, this.openedAt.length * 2);
    const sec = Math.max(0, this.engine.nowSec - this.startSec);
    this.openedAt[number] = sec * 2 + (isCleanStart ? 1 : 0);
  }

  /** When CONNACK went out, wall clock in seconds. */
  openedSecOf(number: number): number {
    return this.startSec + Math.floor(this.openedAt[number] / 2);
  }

  isCleanStart(number: number): boolean {
    return this.openedAt[number] % 2 === 1;
  }

  remove(number: number): void {
    this.connections[number] = null;
    this.numbers.give(number);
  }

  /** Every open connection is told the reason and closed. */
  endAll(reasonCode: number): void {
    for (const connection of this.connections) connection?.end(reasonCode);
  }

  /** Ends the open connections of the clients that are meant; returns how many. */
  endWhere(isMeant: (client: ClientInfo) => boolean, reasonCode: number): number {
    const meant = this.connections.filter((connection) => connection?.state === OPEN && isMeant(connection.info()));
    for (const connection of meant) connection?.end(reasonCode);
    return meant.length;
  }

  /** Each open connection's client, whose description stays as it is now: a link forgets its address when it closes. */
  keepClients(each: (client: ClientInfo) => void): void {
    for (const connection of this.connections) {
      if (connection?.state !== OPEN) continue;
      connection.extras.client ??= snapshotOf(connection.info());
      each(connection.extras.client);
    }
  }

  /** Answers of a connection that may wait. While acknowledgements are withheld it is held before 5.0 would call it a fault. */
  get gatedCountMax(): number {
    const { gatedCountMax, receiveMax } = this.engine.limits.mqtt;
    return this.isBusy ? Math.max(1, Math.min(gatedCountMax, receiveMax - 1)) : gatedCountMax;
  }

  setBusy(isBusy: boolean): void {
    if (isBusy === this.isBusy) return;
    this.isBusy = isBusy;
    this.isGuarded = isBusy || this.hasPacers;
    if (isBusy) return this.armLetOut();
    this.engine.timers.cancel(this.letOutTimer);
    this.advanceGates();
  }

  /** Some connection has a message rate. */
  notePacer(): void {
    this.hasPacers = this.isGuarded = true;
  }

  /** A QoS 0 message was dropped since the broker is busy; how many of the same client in a row, since the clock last moved. */
  noteShed(connection: Connection): number {
    const { nowMs } = this.engine;
    const isRow = connection === this.shedFrom && nowMs === this.shedAtMs;
    this.shedCount = isRow ? this.shedCount + 1 : 1;
    this.shedFrom = connection;
    this.shedAtMs = nowMs;
    return this.shedCount;
  }

  private armLetOut(): void {
    const { timers, nowMs } = this.engine;
    this.letOutTimer = timers.arm(nowMs + LET_OUT_MS, this.letOutKind, 0);
  }

  /** Busy: withheld acknowledgements leave, all at once. */
  private letOut(): void {
    this.armLetOut();
    const waiting = [...this.gated]; // what they send now waits for the next time
    for (const connection of waiting) connection.advanceGate();
  }

  private advanceGates(): void {
    if (this.isBusy) return;
    for (const connection of this.gated) connection.advanceGate();
  }

  private randomText(): string {
    return (this.engine.random.next() >>> 0).toString(36);
  }
}
