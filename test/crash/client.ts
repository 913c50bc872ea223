/**
 * What all clients of a run have in common: coming in, their link, the log of both, and the end.
 *
 * A client lives in one loop until the run is over: it comes in when there is a broker, does what its kind does while the
 * link is open, and begins again when the link is gone. While the run drains it finishes what it has begun.
 */
import type { ConnackPacket, Packet, PacketInput, Properties, Version } from "#test/support/packets.ts";
import type { Dice } from "#test/simulation/weather.ts";
import type { Happening, History, Leaving, Will } from "./history.ts";
import { Link } from "./link.ts";

const CONNACK_MS = 15_000;
const CLOSE_MS = 10_000;

/** The run as a client sees it. */
export interface Ground {
  readonly history: History;
  readonly port: number;
  /** Clients finish what they have begun. */
  readonly isDraining: boolean;
  /** Clients that are away come back. */
  readonly isOver: boolean;
  /** The disk fails on purpose: refusals and closed links are right. */
  readonly isFailing: boolean;
  /** Resolves when there is a broker, or the run is over. */
  up(): Promise<void>;
  takeLinkNumber(): number;
}

export interface JoinOptions {
  readonly isClean: boolean;
  /** 5.0 only. */
  readonly expirySec: number;
  readonly receiveMax?: number | undefined;
  readonly will?: (Will & { readonly topic: string; readonly qos: number; readonly payload: string }) | undefined;
}

export abstract class CrashClient {
  protected link: Link | undefined;
  protected linkNumber = 0;
  /** Nothing is left to be done; only while draining. */
  abstract readonly isDone: boolean;
  #joining: ((connack: ConnackPacket | undefined) => void) | undefined;
  #closing: (() => void) | undefined;

  constructor(
    protected readonly ground: Ground,
    readonly id: string,
    readonly version: Version,
    protected readonly dice: Dice,
  ) {}

  /** Until the run is over, or this client has nothing to do any more. */
  abstract live(): Promise<void>;

  /** A packet that is not CONNACK, DISCONNECT or PINGRESP. */
  protected abstract handle(packet: Packet): void;

  /** What the client remembers of its last link is over. */
  protected handleLeft(): void {}

  /** CONNECT with Clean Start goes out: what the client remembers of its session is over. */
  protected handleClean(): void {}

  protected get isOpen(): boolean {
    return this.link?.isOpen === true;
  }

  protected log(happening: Happening): void {
    this.ground.history.add(this.id, this.linkNumber, happening);
  }

  protected send(packet: PacketInput): void {
    this.link?.send(packet);
  }

  protected fault(text: string): void {
    this.log({ what: "fault", text });
  }

  /** Connects; undefined when that came to nothing. A link that is still open is taken over: what it brings is not heeded. */
  protected async join(options: JoinOptions): Promise<ConnackPacket | undefined> {
    const { ground, version } = this;
    const old = this.isOpen ? this.link : undefined;
    if (old !== undefined) this.#leave("cut", false);
    await ground.up();
    const handlers = {
      packet: (packet: Packet) => this.link === link && this.#take(packet),
      fault: (text: string) => this.link === link && this.fault(text),
      closed: () => this.link === link && this.#handleClosed(),
    };
    const link = ground.isOver ? undefined : await Link.open(ground.port, version, handlers).catch(() => undefined);
    if (link === undefined) {
      old?.cut();
      await Bun.sleep(5);
      return undefined;
    }
    this.link = link;
    this.linkNumber = ground.takeLinkNumber();
    const { isClean, expirySec, will } = options;
    this.log({
      what: "connect",
      isClean,
      expirySec,
      version,
      will: will && { key: will.key, delaySec: will.delaySec },
    });
    if (isClean) this.handleClean();
    this.send(connectPacket(this.id, version, options));
    const connack = await this.#connack();
    old?.cut();
    if (connack === undefined) return undefined;
    if (connack.reasonCode !== 0) {
      if (!ground.isFailing) this.fault(`refused with ${connack.reasonCode}`);
      this.cut();
      await Bun.sleep(20);
      return undefined;
    }
    return connack;
  }

  /** Ends the link without a word. */
  protected cut(): void {
    if (!this.isOpen) return;
    this.link?.cut();
    this.#leave("cut", false);
  }

  /** DISCONNECT, then waits until the broker has closed. */
  protected async disconnect(endsSession = false): Promise<void> {
    const { link } = this;
    if (!this.isOpen || link === undefined) return;
    const properties: Properties = endsSession ? [["sessionExpiryIntervalSec", 0]] : [];
    this.send(this.version === 5 ? { type: "disconnect", reasonCode: 0, properties } : { type: "disconnect" });
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), CLOSE_MS);
    this.#closing = () => resolve(true);
    const isClosed = await promise;
    clearTimeout(timer);
    this.#closing = undefined;
    if (!isClosed) this.fault("the broker did not close after DISCONNECT");
    link.cut();
    this.#leave(isClosed ? "disconnect" : "cut", endsSession);
  }

  #leave(how: Leaving, endsSession: boolean): void {
    this.log({ what: "left", how, endsSession });
    this.link = undefined;
    this.handleLeft();
  }

  #take(packet: Packet): void {
    if (this.#closing !== undefined) return; // it has taken its leave
    if (packet.type === "connack") {
      this.log({ what: "connack", isPresent: packet.sessionPresent, code: packet.reasonCode });
      this.#joining?.(packet);
    } else if (packet.type === "disconnect") {
      const code = packet.reasonCode ?? 0;
      if (!this.ground.isFailing) this.fault(`DISCONNECT with reason code 0x${code.toString(16)}`);
    } else if (packet.type === "auth") {
      this.fault("AUTH, which nobody asked for");
    } else if (packet.type !== "pingresp") {
      this.handle(packet);
    }
  }

  #handleClosed(): void {
    if (this.#closing !== undefined) return this.#closing();
    this.#leave("lost", false);
    this.#joining?.(undefined);
  }

  async #connack(): Promise<ConnackPacket | undefined> {
    const { promise, resolve } = Promise.withResolvers<ConnackPacket | undefined>();
    this.#joining = resolve;
    const timer = setTimeout(() => {
      if (!this.ground.isFailing) this.fault(`no CONNACK within ${CONNACK_MS} ms`);
      this.cut();
      resolve(undefined);
    }, CONNACK_MS);
    const connack = await promise;
    clearTimeout(timer);
    this.#joining = undefined;
    return connack;
  }
}

function connectPacket(clientId: string, version: Version, options: JoinOptions): PacketInput {
  const { isClean, expirySec, receiveMax, will } = options;
  const properties: Properties = [];
  if (expirySec > 0) properties.push(["sessionExpiryIntervalSec", expirySec]);
  if (receiveMax !== undefined) properties.push(["receiveMaximum", receiveMax]);
  const willProperties: Properties = will && will.delaySec > 0 ? [["willDelayIntervalSec", will.delaySec]] : [];
  const message = will && { topic: will.topic, qos: will.qos, payload: will.payload };
  return {
    type: "connect",
    clientId,
    cleanStart: isClean,
    keepAliveSec: 0,
    ...(version === 5 ? { properties } : {}),
    ...(message === undefined ? {} : { will: version === 5 ? { ...message, properties: willProperties } : message }),
  };
}
