/**
 * From the `listeners` section to open listeners, and from one configuration to the next while they are open: a listener
 * whose section has not changed is left alone, a changed one is closed and opened anew, and connections outlive their listener.
 */
import { isDeepStrictEqual } from "node:util";
import { inPart } from "#base/error.ts";
import type { ListenerNote } from "#core/hook-event.ts";
import type { HttpMount, Link, Protocol } from "#core/ports.ts";
import { parseAddressBlock, parseAddressRule } from "#transport/address-rules.ts";
import type { Listener, ListenerHost, ListenerOptions } from "#transport/entrance.ts";
import type { HttpGuard } from "#transport/http-guard.ts";
import { openListener } from "#transport/listener.ts";
import type { TcpTransport } from "#transport/tcp.ts";
import { TlsCredentials, type TlsOptions } from "#transport/tls-credentials.ts";
import { formatBind } from "./bind-address.ts";
import { type ListenerConfig, listenerDefaults } from "./listener-schema.ts";

const REFRESH_MS = 10_000;
/** A WebSocket message may hold several packets. */
const MORE_MESSAGE_BYTES = 64 * 1024;

export interface ListenerSurroundings {
  readonly transport: TcpTransport;
  /** Largest MQTT packet. */
  readonly packetBytesMax: number;
  /** How many processes share the ports, and which of them this is. */
  readonly place: { readonly count: number; readonly node: number };
  /** What is served over HTTP on WebSocket listeners. */
  readonly mounts?: readonly HttpMount[];
  readonly guard?: HttpGuard | undefined;
  /** What makes the protocol of each link of a listener. */
  protocolFor(listener: Listening): (link: Link) => Protocol;
  notice(isProblem: boolean, text: string): void;
  /** A listener has begun or ceased to accept. */
  noteChange?(listener: ListenerNote, isOpen: boolean): void;
}

interface Open {
  readonly config: ListenerConfig;
  readonly listener: Listener;
}

export interface ListenerStatus {
  readonly name: string;
  readonly type: ListenerConfig["type"];
  readonly address: string;
  readonly isOpen: boolean;
  /** Those that came by it and are still there, also when it is closed. */
  readonly connectionCount: number;
  readonly connectionsMax?: number | undefined;
}

export class OpenListeners {
  private open: Open[] = [];
  /** Stopped, with connections still open. */
  private old: Open[] = [];
  /** Closed by `stopOne`. */
  private stopped: ListenerConfig[] = [];
  /** By a listener's name, what makes its links' protocol: also of links that another process has accepted. */
  private readonly makers = new Map<string, (link: Link) => Protocol>();
  private isRefreshing = false;
  private readonly timer: Timer;

  constructor(private readonly surroundings: ListenerSurroundings) {
    this.timer = setInterval(() => void this.refresh(), REFRESH_MS);
  }

  /** What these listeners' links speak, before they are opened. */
  prepare(configs: readonly ListenerConfig[]): void {
    for (const config of configs) this.makers.set(config.name, this.surroundings.protocolFor(withDefaults(config)));
  }

  /** A protocol on a link of the listener with that name. */
  makeProtocol(link: Link, name: string): Protocol {
    const make = this.makers.get(name);
    if (!make) throw new RangeError(`no listener ${name}`);
    return make(link);
  }

  /** In the order of the configuration, such as `tcp://127.0.0.1:1883` or `ws://127.0.0.1:8083/mqtt`. */
  get addresses(): string[] {
    return this.open.map(({ config, listener }) => addressOf(config, listener.port));
  }

  get configs(): ListenerConfig[] {
    return this.open.map(({ config }) => config);
  }

  get connectionCount(): number {
    return this.countOf(() => true);
  }

  /** The open ones in the order of the configuration, then those that were stopped. */
  list(): ListenerStatus[] {
    const status = (config: ListenerConfig, port: number | undefined): ListenerStatus => ({
      name: config.name,
      type: config.type,
      address: addressOf(config, port ?? config.bind.port),
      isOpen: port !== undefined,
      connectionCount: this.countOf((other) => other === config.name),
      connectionsMax: config.connectionsMax,
    });
    const open = this.open.map(({ config, listener }) => status(config, listener.port));
    return [...open, ...this.stopped.map((config) => status(config, undefined))];
  }

  /** Closes one listener; its connections stay. False when there is none of that name. */
  stopOne(name: string): boolean {
    const found = this.open.find(({ config }) => config.name === name);
    if (!found) return this.stopped.some((config) => config.name === name);
    this.close(found);
    this.open = this.open.filter((each) => each !== found);
    this.stopped.push(found.config);
    return true;
  }

  /** Opens one that `stopOne` closed. False when there is none of that name. Rejects as `apply` does. */
  async start(name: string): Promise<boolean> {
    const config = this.stopped.find((each) => each.name === name);
    if (!config) return this.open.some((each) => each.config.name === name);
    this.stopped = this.stopped.filter((each) => each !== config);
    try {
      await this.openNew(config);
    } catch (error) {
      this.stopped.push(config);
      throw error;
    }
    return true;
  }

  private countOf(isMeant: (name: string) => boolean): number {
    const meant = [...this.open, ...this.old].filter(({ config }) => isMeant(config.name));
    return meant.reduce((count, { listener }) => count + listener.connectionCount, 0);
  }

  /**
   * Opens what `configs` says and closes what it does not say any more. Throws MantouError `certificate_invalid`, and nothing has
   * changed; or `listen_failed`: then the listeners that could not be opened are missing, all others are open. Those named in `closed`
   * are as after `stopOne`.
   */
  async apply(configs: readonly ListenerConfig[], closed: readonly string[] = []): Promise<void> {
    this.prepare(configs);
    const { node } = this.surroundings.place;
    if (node > 0) configs = configs.filter(({ bind }) => bind.path === undefined); // a path cannot be shared: process 0 has it
    const kept = this.open.filter((each) => configs.some((config) => isDeepStrictEqual(config, each.config)));
    for (const config of configs) checkCredentials(config);
    for (const each of this.open) if (!kept.includes(each)) this.close(each);
    this.open = kept;
    this.stopped = configs.filter(({ name }) => closed.includes(name));
    const failures: unknown[] = [];
    for (const config of configs) {
      if (this.stopped.includes(config)) continue;
      if (kept.some((each) => isDeepStrictEqual(config, each.config))) continue;
      try {
        await this.openNew(config);
      } catch (error) {
        failures.push(error);
      }
    }
    const position = ({ config }: Open): number => configs.findIndex((other) => isDeepStrictEqual(config, other));
    this.open.sort((a, b) => position(a) - position(b));
    if (failures.length > 0) throw failures[0];
  }

  /** Looks for changed certificate files. */
  async refresh(): Promise<void> {
    if (this.isRefreshing) return;
    this.isRefreshing = true;
    try {
      for (const { listener } of this.open) await listener.refresh();
    } catch (error) {
      this.surroundings.transport.reportBug(error);
    } finally {
      this.isRefreshing = false;
    }
  }

  /** No new connections; those that are open stay. */
  stop(): void {
    clearInterval(this.timer);
    for (const each of this.open) this.close(each);
    this.open = [];
  }

  private async openNew(config: ListenerConfig): Promise<void> {
    const opened = { config, listener: await openOne(config, this.surroundings, this.makers.get(config.name)!) };
    this.open.push(opened);
    this.surroundings.noteChange?.(noteOf(opened), true);
  }

  private close(closed: Open): void {
    const note = noteOf(closed);
    closed.listener.stop();
    this.surroundings.noteChange?.(note, false);
    this.old = [...this.old.filter(({ listener }) => listener.connectionCount > 0), closed];
  }
}

/** Throws MantouError `certificate_invalid` where a file of the listener is missing, or they do not fit together. */
export function checkCredentials(config: ListenerConfig): void {
  if (config.cert === undefined) return;
  try {
    new TlsCredentials(tlsOf(withDefaults(config)));
  } catch (error) {
    throw inPart(`listener ${config.name}`, error);
  }
}

function noteOf({ config, listener }: Open): ListenerNote {
  return { name: config.name, address: addressOf(config, listener.port) };
}

function addressOf({ type, bind, path }: ListenerConfig, port: number): string {
  const isWebSocket = type === "ws" || type === "wss";
  return `${type}://${formatBind({ ...bind, port })}${isWebSocket ? (path ?? listenerDefaults.path) : ""}`;
}

function openOne(
  config: ListenerConfig,
  surroundings: ListenerSurroundings,
  makeProtocol: (link: Link) => Protocol,
): Promise<Listener> {
  const { transport, mounts, guard } = surroundings;
  const host: ListenerHost = {
    transport,
    guard,
    makeProtocol,
    notice: (isProblem, text) => surroundings.notice(isProblem, text),
  };
  return openListener(toOptions(config, surroundings), host, mounts);
}

/** Part of a limit that falls to one of `count` processes: the kernel spreads connections evenly. */
function share(limit: number, count: number): number {
  return Math.ceil(limit / count);
}

function toOptions(config: ListenerConfig, surroundings: ListenerSurroundings): ListenerOptions {
  const { count: processCount } = surroundings.place;
  const listener = withDefaults(config);
  const { type, bind, path, origins = [], access = [], proxyFrom = [] } = listener;
  const isTls = type === "tls" || type === "wss";
  const isWebSocket = type === "ws" || type === "wss";
  return {
    name: listener.name,
    bind: bind.path === undefined ? bind : { path: bind.path },
    isShared: processCount > 1,
    connectionsMax: share(listener.connectionsMax ?? Number.MAX_SAFE_INTEGER, processCount),
    rules: access.map((text) => parseAddressRule(text)!),
    acceptRate: share(listener.acceptRate, processCount),
    addressRate: listener.addressRate,
    proxyFrom: proxyFrom.map((text) => parseAddressBlock(text)!),
    handshakeSecMax: listener.handshakeSecMax,
    handshakesMax: listener.handshakesMax,
    tls: isTls ? tlsOf(listener) : undefined,
    identityAs: listener.identityAs,
    identityFrom: listener.identityFrom,
    webSocket: isWebSocket ? { path, origins: origins.map((origin) => origin.toLowerCase()) } : undefined,
    readRateBytes: listener.readRateBytes,
    readBurstBytes: listener.readBurstBytes ?? listener.readRateBytes,
    messageBytesMax: surroundings.packetBytesMax + MORE_MESSAGE_BYTES,
  };
}

/** A listener with the defaults of what it leaves out. */
export type Listening = ListenerConfig & { [K in keyof typeof listenerDefaults]: NonNullable<ListenerConfig[K]> };

function withDefaults(config: ListenerConfig): Listening {
  const given = Object.entries(config).filter(([, value]) => value !== undefined);
  return { ...listenerDefaults, ...Object.fromEntries(given) } as Listening;
}

function tlsOf(listener: Listening): TlsOptions {
  const { cert, key, moreCertificates = [], ca, crl, verify, tlsVersionMin, ciphers } = listener;
  const certificates = [{ cert: cert!, key: key! }, ...moreCertificates];
  return { certificates, ca, crl, verify, versionMin: tlsVersionMin, ciphers };
}
