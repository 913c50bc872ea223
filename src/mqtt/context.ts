/** What all MQTT connections of an engine share: settings, scratch, the deadlines' timer kind, and whom to tell. */
import { Slab } from "#base/slab.ts";
import type { Engine } from "#core/engine.ts";
import { MessageView } from "#core/message.ts";
import type { Connection } from "./connection.ts";
import type { ClientInfo } from "#core/ports.ts";
import { OPEN } from "./connection-state.ts";
import { Layouts } from "./deliver.ts";

export interface MqttOptions {
  /** Handed to 5.0 clients that ask for it; "" for none. */
  readonly responseInformation?: string;
  /** 5.0 Server Reference that CONNACK and DISCONNECT name when the broker shuts down; "" for none. */
  readonly serverReference?: string;
  /** A client id that nobody can guess, for clients that bring none. */
  readonly makeClientId?: () => string;
  readonly reporter?: Reporter;
}

/** Who hears of faults. The bytes are borrowed. */
export interface Reporter {
  /** A peer broke the protocol and its link is being closed. */
  fault(connection: Connection, reasonCode: number, packet: Buffer): void;
  /** A handler threw: a bug of ours; the link is being closed. */
  bug(connection: Connection, error: unknown, packet: Buffer): void;
}

const silent: Reporter = { fault: () => {}, bug: () => {} };

export class MqttContext {
  readonly responseInformation: string;
  readonly serverReference: string;
  readonly makeClientId: () => string;
  readonly reporter: Reporter;
  /** The process has more to do than it can: CONNECT is refused. */
  isBusy = false;
  /** The PUBLISH that is being handled. */
  readonly incoming: MessageView = new MessageView();
  readonly layouts: Layouts = new Layouts();
  readonly deadlineKind: number;
  /** Connections with acknowledgements that wait for a commit. */
  readonly gated: Set<Connection> = new Set();
  private readonly numbers = new Slab();
  private readonly connections: (Connection | null)[] = [];

  constructor(
    readonly engine: Engine,
    options: MqttOptions = {},
  ) {
    this.responseInformation = options.responseInformation ?? "";
    this.serverReference = options.serverReference ?? "";
    this.makeClientId = options.makeClientId ?? (() => `mantou_${this.randomText()}${this.randomText()}`);
    this.reporter = options.reporter ?? silent;
    this.deadlineKind = engine.addTimerKind((number) => this.connections[number]?.handleDeadline());
    engine.onSafe = () => this.advanceGates();
  }

  /** Links with a protocol on them. */
  get connectionCount(): number {
    return this.numbers.count;
  }

  add(connection: Connection): number {
    const number = this.numbers.take();
    this.connections[number] = connection;
    return number;
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

  private advanceGates(): void {
    for (const connection of this.gated) connection.advanceGate();
  }

  private randomText(): string {
    return (this.engine.random.next() >>> 0).toString(36);
  }
}
