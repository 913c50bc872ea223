/**
 * A connection from its acceptance until it is a link. A plain TCP connection is a link at once; others go through what their
 * listener asks for, in this order:
 *
 *   accepted ─► PROXY header ─► admitted ─► its turn ─► ClientHello ─► handshake ─► WebSocket upgrade ─► link
 *               (proxyFrom)     (rules, rates)          (tls, wss)                  (ws, wss)
 *
 * All of it has one deadline, so that whoever says nothing, or a byte a second, costs little and not for long. Bytes that belong to the next
 * step are kept, at most 16 KiB while a step is incomplete. TLS begins on the plain socket (`upgradeTLS`), which is why a
 * header may come before it, the certificate is chosen by name and replaced at any time, and handshakes wait for their turn.
 */
import type { Socket } from "bun";
import type { X509Certificate } from "node:crypto";
import type { MetricName } from "#core/metrics.ts";
import type { PeerIdentity } from "#core/ports.ts";
import { readServerName } from "./client-hello.ts";
import type { Entrance } from "./entrance.ts";
import { FramedSocket } from "./framed-socket.ts";
import type { HandshakeGate } from "./handshake-gate.ts";
import { identityText, readCertificate, usable } from "./peer-certificate.ts";
import { readProxyHeader } from "./proxy-protocol.ts";
import type { Peer, Receiver } from "./tcp.ts";
import {
  acceptResponse,
  judgeUpgrade,
  keptHeaders,
  readRequest,
  type Refusal,
  refusalResponse,
  TOO_LARGE,
} from "./websocket-upgrade.ts";

const PROXY = 0;
const WAITING = 1;
const HELLO = 2;
const QUEUED = 3;
const HANDSHAKE = 4;
const UPGRADE = 5;
const OVER = 6;
const GATE = 7;

const HELD_BYTES_MAX = 16 * 1024 + 512;
const noBytes = Buffer.alloc(0);

/** What a TLS socket of Bun has besides the typed members. */
type TlsSocket = Socket<Receiver> & { getPeerX509Certificate(): X509Certificate | undefined; authorized: boolean };

/** What arrivals of one listener share besides the entrance. */
export interface Lobby {
  readonly entrance: Entrance;
  readonly gate: HandshakeGate;
  /** Those that are no links yet, the oldest first. */
  readonly arrivals: Set<Arrival>;
  /** Turns the plain socket into a TLS one, whose events go to `arrival`. */
  startTls(arrival: Arrival, socket: Socket<Receiver>, context: unknown, hello: Buffer): void;
}

/** Stays with the plain socket when TLS has begun on it: all that happens is told to the TLS socket too. */
const sealed: Receiver = { handleData() {}, handleDrain() {}, handleClosed() {} };

export class Arrival implements Receiver {
  sinceMs: number = performance.now();
  private stage = PROXY;
  private held: Buffer = noBytes;
  private timer: Timer | undefined;
  /** As the PROXY header says. */
  private source: { readonly address: string; readonly port: number } | undefined;
  private identity: PeerIdentity | undefined;

  constructor(
    private readonly lobby: Lobby,
    private socket: Socket<Receiver>,
  ) {}

  /** `waitMs` as the admission has said, or −1 when a PROXY header has to come first. */
  begin(waitMs: number): void {
    this.lobby.arrivals.add(this);
    if (waitMs >= 0) this.wait(waitMs);
  }

  handleData(chunk: Buffer): void {
    if (this.stage === OVER) return;
    this.held = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk]);
    this.advance();
  }

  handleDrain(): void {}

  handleClosed(): void {
    this.finish();
  }

  /** The sweep's look: over when the deadline has passed. */
  expire(): void {
    if (this.stage === OVER)
      this.cut(); // refused, and the client does not close
    else this.refuse("connections.refused.handshake_timeout");
  }

  private advance(): void {
    if (this.stage === PROXY) this.readProxy();
    else if (this.stage === HELLO) this.readHello();
    else if (this.stage === UPGRADE) this.readUpgrade();
    else if (this.held.length > HELD_BYTES_MAX) this.refuse("connections.refused.handshake");
  }

  // ---- PROXY header

  private readProxy(): void {
    const header = readProxyHeader(this.held);
    if (header === undefined) return;
    if (header === null) return this.refuse("connections.refused.proxy");
    this.held = this.held.subarray(header.size);
    this.source = header.source;
    const { identityAs } = this.lobby.entrance.options;
    if (header.commonName !== undefined && identityAs !== "none") {
      const name = usable(header.commonName);
      if (name === undefined) return this.refuse("connections.refused.identity");
      this.identity = { [identityAs]: name };
    }
    const waitMs = this.lobby.entrance.admission.waitMs(this.source?.address ?? this.socket.remoteAddress ?? "");
    if (waitMs < 0) return this.cut();
    this.wait(waitMs);
  }

  // ---- its turn

  private wait(waitMs: number): void {
    const { turnGate } = this.lobby.entrance.transport;
    if (waitMs === 0 && turnGate.takePlace()) return this.proceed();
    this.stage = WAITING;
    this.socket.pause();
    if (waitMs > 0) {
      this.timer = setTimeout(() => this.goOn(), waitMs);
      return;
    }
    this.stage = GATE;
    turnGate.wait(this);
  }

  /** It has waited long enough. */
  goOn(): void {
    this.sinceMs = performance.now();
    this.lobby.arrivals.delete(this); // the oldest stay first
    this.lobby.arrivals.add(this);
    this.socket.resume();
    this.proceed();
  }

  private proceed(): void {
    if (!this.lobby.entrance.credentials) return this.converse();
    this.stage = HELLO;
    if (this.held.length > 0) this.readHello();
  }

  // ---- TLS

  private readHello(): void {
    if (readServerName(this.held) === undefined) {
      if (this.held.length > HELD_BYTES_MAX) this.refuse("connections.refused.handshake");
      return;
    }
    this.stage = QUEUED;
    this.lobby.gate.enter(this);
  }

  startHandshake(): void {
    const { lobby, socket, held } = this;
    const credentials = lobby.entrance.credentials!;
    const context = credentials.contextFor(credentials.isNameNeeded ? readServerName(held)! : "");
    this.stage = HANDSHAKE;
    this.held = noBytes;
    socket.data = sealed;
    lobby.startTls(this, socket, context, held);
  }

  /** The socket is the TLS one now. */
  setTlsSocket(socket: Socket<Receiver>): void {
    this.socket = socket;
  }

  handleHandshake(isDone: boolean): void {
    if (this.stage !== HANDSHAKE) return;
    this.lobby.gate.leave();
    this.stage = UPGRADE;
    if (!isDone || !this.readIdentity()) return this.refuse("connections.refused.handshake");
    const { identityAs, tls } = this.lobby.entrance.options;
    const isMissing = tls!.verify === "required" && identityAs !== "none" && this.identity?.[identityAs] === undefined;
    if (isMissing) return this.refuse("connections.refused.identity");
    this.converse();
  }

  /** False when the client must not come in. */
  private readIdentity(): boolean {
    const { identityAs, identityFrom, tls } = this.lobby.entrance.options;
    if (tls!.verify === "none") return true;
    const socket = this.socket as TlsSocket;
    const x509 = socket.getPeerX509Certificate();
    if (!x509) return tls!.verify === "optional";
    if (!socket.authorized) return false;
    const certificate = readCertificate(x509);
    const text = identityAs === "none" ? undefined : identityText(certificate, identityFrom);
    this.identity = { ...this.identity, certificate, ...(text !== undefined && { [identityAs]: text }) };
    return true;
  }

  // ---- WebSocket

  private converse(): void {
    if (!this.lobby.entrance.options.webSocket) return this.becomeLink(this.held);
    this.stage = UPGRADE;
    if (this.held.length > 0) this.readUpgrade();
  }

  private readUpgrade(): void {
    const request = readRequest(this.held);
    if (request === undefined) return;
    if ("status" in request) return this.refuseUpgrade(request);
    const { path, headers } = request;
    const judgement = judgeUpgrade(path, (name) => headers.get(name) ?? null, this.lobby.entrance.options.webSocket!);
    if ("status" in judgement) return this.refuseUpgrade(judgement);
    const kept = keptHeaders(headers);
    if (!kept) return this.refuseUpgrade(TOO_LARGE);
    this.identity = { ...this.identity, headers: kept };
    const response = acceptResponse(headers.get("sec-websocket-key")!, judgement.protocol);
    if (this.socket.write(response) !== response.length) return this.refuse("connections.refused.upgrade");
    this.becomeWebSocket(this.held.subarray(request.size));
  }

  private refuseUpgrade(refusal: Refusal): void {
    this.lobby.entrance.transport.metrics.add("connections.refused.upgrade");
    this.finish();
    this.lobby.arrivals.add(this); // until it closes
    this.sinceMs = performance.now();
    this.socket.write(refusalResponse(refusal));
    this.socket.end();
  }

  // ---- the end

  private becomeLink(rest: Buffer): void {
    const { entrance } = this.lobby;
    const { socket } = this;
    this.finish();
    const link = entrance.makeLink(socket, this.peer());
    socket.data = link;
    if (rest.length > 0) link.handleData(rest);
  }

  private becomeWebSocket(rest: Buffer): void {
    const { entrance } = this.lobby;
    this.finish();
    const framed = new FramedSocket(this.socket, entrance.transport.metrics);
    framed.link = entrance.makeLink(framed, this.peer());
    this.socket.data = framed;
    if (rest.length > 0) framed.handleData(rest);
  }

  private peer(): Peer | undefined {
    const { source, socket, identity } = this;
    if (!source && !identity) return undefined;
    const address = source?.address ?? socket.remoteAddress ?? "";
    return { address, port: source?.port ?? socket.remotePort ?? 0, identity };
  }

  private refuse(metric: MetricName): void {
    this.lobby.entrance.transport.metrics.add(metric);
    this.cut();
  }

  /** Closes at once, uncounted. */
  cut(): void {
    this.finish();
    this.socket.terminate();
  }

  private finish(): void {
    const { stage, lobby } = this;
    this.stage = OVER;
    this.held = noBytes;
    clearTimeout(this.timer);
    lobby.arrivals.delete(this);
    if (stage === HANDSHAKE) lobby.gate.leave();
    if (stage === QUEUED) lobby.gate.withdraw(this);
    if (stage === GATE) lobby.entrance.transport.turnGate.withdraw(this);
  }
}
