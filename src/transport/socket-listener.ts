/**
 * Listeners on Bun.listen: TCP, TLS, Unix sockets, and WebSockets with our own framing. A plain connection is a link at once; what
 * has more to show first is an arrival (`arrival.ts`).
 *
 * Two places deserve a word. Bun has no certificates by name, no reload and no handshake deadline on a TLS listener: so TLS begins on the plain
 * socket, with `upgradeTLS` and the bytes already read, which is measured to cost 8 % more than a TLS listener per handshake and
 * per packet. And Bun listens with a queue of 512 connections: `listen-backlog.ts` raises it.
 */
import type { Socket, SocketListener } from "bun";
import { connect } from "node:net";
import { lstatSync, unlinkSync } from "node:fs";
import { MantouError } from "#base/error.ts";
import { Arrival, type Lobby } from "./arrival.ts";
import { Entrance, type Listener, listenFault, type ListenerHost, type ListenerOptions } from "./entrance.ts";
import { HandshakeGate } from "./handshake-gate.ts";
import { raiseBacklog } from "./listen-backlog.ts";
import type { Receiver, TcpTransport } from "./tcp.ts";

const PROBE_MS = 1000;

/** Throws MantouError `listen_failed` or `certificate_invalid`. */
export async function listenOnSocket(options: ListenerOptions, host: ListenerHost): Promise<Listener> {
  const entrance = new Entrance(options, host);
  const { admission, transport } = entrance;
  const lobby = makeLobby(entrance);
  const isPlain = !entrance.credentials && !options.webSocket;
  const accept = (socket: Socket<Receiver>): void => {
    if (!admission.takePlace()) return socket.terminate();
    let waitMs = 0;
    if (options.proxyFrom.length > 0 && isProxy(options, socket)) waitMs = -1;
    else if (!admission.isOpen) {
      waitMs = admission.waitMs(socket.remoteAddress ?? "");
      if (waitMs < 0) {
        admission.leavePlace();
        return socket.terminate();
      }
    }
    if (isPlain && waitMs === 0 && transport.turnGate.takePlace()) {
      socket.data = entrance.makeLink(socket, undefined);
      return;
    }
    const arrival = new Arrival(lobby, socket);
    socket.data = arrival;
    arrival.begin(waitMs);
  };
  const handlers = {
    open: accept,
    data: (socket: Socket<Receiver>, chunk: Buffer): void => socket.data?.handleData(chunk),
    drain: (socket: Socket<Receiver>): void => socket.data?.handleDrain(),
    close: (socket: Socket<Receiver>): void => {
      if (!socket.data) return;
      admission.leavePlace();
      socket.data.handleClosed();
    },
    error: (_socket: Socket<Receiver>, error: Error): void => transport.reportBug(error),
  };
  const listener = await open(options, handlers);
  raiseBacklog((listener as SocketListener<Receiver> & { fd?: number }).fd ?? -1);
  const stopSweep = sweepArrivals(transport, lobby, options.handshakeSecMax * 1000);
  return {
    port: (listener as { port?: number }).port ?? 0,
    get connectionCount() {
      return admission.connectionCount;
    },
    refresh: async () => void (await entrance.refresh()),
    stop: () => {
      listener.stop();
      stopSweep();
      for (const arrival of lobby.arrivals) arrival.cut();
    },
  };
}

function isProxy({ proxyFrom }: ListenerOptions, { remoteAddress = "" }: { remoteAddress?: string }): boolean {
  return proxyFrom.some((block) => block.has(remoteAddress));
}

/** Bun's types do not have `reusePort`. */
function sharing({ isShared }: ListenerOptions): { exclusive: boolean } {
  return isShared ? ({ exclusive: false, reusePort: true } as { exclusive: boolean }) : { exclusive: true };
}

type Handlers = Parameters<typeof Bun.listen<Receiver>>[0]["socket"];

async function open(options: ListenerOptions, socket: Handlers): Promise<SocketListener<Receiver>> {
  const { bind, name } = options;
  const text = "path" in bind ? bind.path : `${bind.host}:${bind.port}`;
  try {
    if (!("path" in bind))
      return Bun.listen<Receiver>({ hostname: bind.host, port: bind.port, ...sharing(options), socket });
    await removeStaleSocket(bind.path);
    return Bun.listen<Receiver>({ unix: bind.path, socket }) as unknown as SocketListener<Receiver>;
  } catch (error) {
    throw new MantouError("listen_failed", `listener ${name}: ${text} ${listenFault(error)}`);
  }
}

/** A Unix socket that nobody listens on was left behind by a process that was killed. */
async function removeStaleSocket(path: string): Promise<void> {
  const isSocket = !path.startsWith("\0") && (lstatSync(path, { throwIfNoEntry: false })?.isSocket() ?? false);
  if (!isSocket) return;
  const isUsed = await new Promise<boolean>((resolve) => {
    const probe = connect({ path, timeout: PROBE_MS });
    const done = (isUsed: boolean): void => {
      probe.destroy();
      resolve(isUsed);
    };
    probe.once("connect", () => done(true));
    probe.once("timeout", () => done(true));
    probe.once("error", () => done(false));
  });
  if (!isUsed) unlinkSync(path);
}

function makeLobby(entrance: Entrance): Lobby {
  const { options, transport } = entrance;
  const verify = options.tls?.verify ?? "none";
  let upgrading: Arrival | undefined;
  const handlers = {
    open: (socket: Socket<Receiver>): void => {
      upgrading!.setTlsSocket(socket); // within the call of upgradeTLS
      socket.data = upgrading!;
    },
    handshake: (socket: Socket<Receiver>, isDone: boolean): void => {
      if (socket.data instanceof Arrival) socket.data.handleHandshake(isDone);
    },
    data: (socket: Socket<Receiver>, chunk: Buffer): void => socket.data?.handleData(chunk),
    drain: (socket: Socket<Receiver>): void => socket.data?.handleDrain(),
    close: (socket: Socket<Receiver>): void => socket.data?.handleClosed(),
    error: (_socket: Socket<Receiver>, error: Error): void => {
      if (!isOfPeer(error)) transport.reportBug(error);
    },
  };
  return {
    entrance,
    gate: new HandshakeGate(options.handshakesMax),
    arrivals: new Set(),
    startTls(arrival, socket, context, hello) {
      const tls = { secureContext: context, requestCert: verify !== "none", rejectUnauthorized: verify === "required" };
      upgrading = arrival;
      (socket as unknown as Upgradable).upgradeTLS({ isServer: true, tls, initialData: hello, socket: handlers });
      upgrading = undefined;
    },
  };
}

/** Bun's `upgradeTLS` on the server's side is not in its types. */
interface Upgradable {
  upgradeTLS(options: { isServer: true; tls: object; initialData: Buffer; socket: object }): unknown;
}

/** A broken record or connection, as opposed to a bug in a handler. */
function isOfPeer(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" && /^(ERR_SSL|ERR_TLS|E[A-Z]+$)/.test(code);
}

/** Cuts arrivals that are past their deadline. Returns how to stop it. */
function sweepArrivals(transport: TcpTransport, { arrivals }: Lobby, deadlineMs: number): () => void {
  const sweep = (nowMs: number): void => {
    for (const arrival of arrivals) {
      if (nowMs - arrival.sinceMs < deadlineMs) break;
      arrival.expire();
    }
  };
  transport.sweepers.add(sweep);
  return () => void transport.sweepers.delete(sweep);
}
