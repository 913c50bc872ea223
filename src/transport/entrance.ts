/** What the arrivals of one listener share, and the last step of each: a socket becomes a link. */
import { Pacer } from "#base/pacer.ts";
import type { Protocol } from "#core/ports.ts";
import type { Link } from "#core/ports.ts";
import type { AddressBlock, AddressRule } from "./address-rules.ts";
import { Admission } from "./admission.ts";
import type { HttpGuard } from "./http-guard.ts";
import { PacedLink } from "./paced-link.ts";
import { type IdentityAs, type IdentityFrom } from "./peer-certificate.ts";
import { type ByteSocket, KnownLink, type Peer, TcpLink, type TcpTransport } from "./tcp.ts";
import { TlsCredentials, type TlsOptions } from "./tls-credentials.ts";
import type { WebSocketOptions } from "./websocket-upgrade.ts";

export interface ListenerOptions {
  readonly name: string;
  /** A path for a Unix socket. */
  readonly bind: { readonly host: string; readonly port: number } | { readonly path: string };
  /** Other processes listen on the same port. */
  readonly isShared: boolean;
  readonly connectionsMax: number;
  readonly rules: readonly AddressRule[];
  /** Connections a second; 0: any. */
  readonly acceptRate: number;
  readonly addressRate: number;
  /** Peers that must send a PROXY header. */
  readonly proxyFrom: readonly AddressBlock[];
  /** Most time until a connection is a link: PROXY header, TLS handshake, WebSocket upgrade. */
  readonly handshakeSecMax: number;
  /** TLS handshakes under way. */
  readonly handshakesMax: number;
  readonly tls?: TlsOptions | undefined;
  readonly identityAs: IdentityAs;
  readonly identityFrom: IdentityFrom;
  readonly webSocket?: WebSocketOptions | undefined;
  /** Bytes a second that a client may send, and how many at once; 0: any. */
  readonly readRateBytes: number;
  readonly readBurstBytes: number;
  /** Largest WebSocket message. */
  readonly messageBytesMax: number;
}

/** Whom a listener serves. */
export interface ListenerHost {
  readonly transport: TcpTransport;
  /** Called for each link. */
  makeProtocol(link: Link): Protocol;
  /** Something that an operator should know. */
  notice(isProblem: boolean, text: string): void;
  /** Of HTTP connections, on WebSocket listeners. */
  readonly guard?: HttpGuard | undefined;
}

export interface Listener {
  /** The port that was given, or picked for 0; 0 for a Unix socket. */
  readonly port: number;
  readonly connectionCount: number;
  /** Looks for changed certificate files. */
  refresh(): Promise<void>;
  /** No new links; those that are open stay. Connections that are no links yet are closed. */
  stop(): void;
}

export class Entrance {
  readonly transport: TcpTransport;
  readonly admission: Admission;
  readonly credentials: TlsCredentials | undefined;

  constructor(
    readonly options: ListenerOptions,
    readonly host: ListenerHost,
  ) {
    this.transport = host.transport;
    this.admission = new Admission(host.transport, { ...options, waitMsMax: options.handshakeSecMax * 1000 });
    this.credentials = options.tls && new TlsCredentials(options.tls);
  }

  /** Makes the link and its protocol. `peer` is what is known besides the socket. */
  makeLink(socket: ByteSocket, peer: Peer | undefined): TcpLink {
    const { transport, options } = this;
    let link: TcpLink;
    if (options.readRateBytes > 0) {
      const pacer = new Pacer(options.readRateBytes, options.readBurstBytes);
      link = new PacedLink(transport, socket, peer ?? peerOf(socket), pacer);
    } else {
      link = peer ? new KnownLink(transport, socket, peer) : new TcpLink(transport, socket);
    }
    link.protocol = this.host.makeProtocol(link);
    return link;
  }

  /** Looks for changed certificate files; true when they are in use now. */
  async refresh(): Promise<boolean> {
    const { credentials, host, options } = this;
    if (!credentials) return false;
    try {
      const isNew = await credentials.refresh();
      if (isNew) host.notice(false, `listener ${options.name}: its certificates have changed and are in use`);
      return isNew;
    } catch (error) {
      host.notice(true, `listener ${options.name}: keeps its old certificates: ${(error as Error).message}`);
      return false;
    }
  }
}

function peerOf(socket: ByteSocket): Peer {
  return { address: socket.remoteAddress ?? "", port: socket.remotePort ?? 0, identity: undefined };
}

/** Why an address could not be listened on, for people. */
export function listenFault(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  if (code === "EADDRINUSE") return "is in use by another process";
  if (code === "EACCES") return "needs rights that this user has not";
  return `cannot be listened on: ${code ?? ""} ${message ?? String(error)}`;
}
