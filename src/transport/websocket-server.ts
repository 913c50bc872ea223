/**
 * WebSocket listeners on Bun.serve, whose engine is uWebSockets; other HTTP requests to the same port go to what is mounted there.
 *
 * A link writes into the WebSocket as into a socket, a frame of at most 64 KiB a write. Bun takes every frame whole and
 * queues what the kernel refuses: the link hears of that frame as taken only when the queue is empty, so its unsent bytes are the
 * truth, a queue holds one frame, and a peer that reads nothing is found as on TCP.
 *
 * Certificates: one TLS entry a server name. Bun cannot replace them on an open server, so a second server is opened on the same port
 * (SO_REUSEPORT) and the first one stops listening; its connections live on. Bun accepts by itself: the listener's limits are
 * looked at when the upgrade is asked for, and connections that have not asked for anything after about 12 seconds are closed by Bun, also
 * those that say a byte now and then.
 */
import type { Server, ServerWebSocket } from "bun";
import { MantouError } from "#base/error.ts";
import type { HttpMount, HttpPeer } from "#core/ports.ts";
import { Entrance, type Listener, listenFault, type ListenerHost, type ListenerOptions } from "./entrance.ts";
import { HttpDoor } from "./http-door.ts";
import { openWithBacklog } from "./listen-backlog.ts";
import type { ByteSocket, TcpLink } from "./tcp.ts";
import { NORMAL, UNSUPPORTED_DATA } from "./websocket-frame.ts";
import { isUpgrade, judgeUpgrade, keptHeaders, type Refusal, TOO_LARGE } from "./websocket-upgrade.ts";

const FRAME_BYTES_MAX = 64 * 1024;
const HTTP_IDLE_SEC = 10;
const HTTP_BODY_BYTES_MAX = 8 * 1024 * 1024;

interface Upgraded {
  readonly peer: Omit<HttpPeer, "listener">;
  readonly headers: Readonly<Record<string, string>>;
  socket: ServeSocket | undefined;
}

type WebSocket = ServerWebSocket<Upgraded>;

/** Throws MantouError `listen_failed` or `certificate_invalid`. */
export function listenOnServe(
  options: ListenerOptions,
  host: ListenerHost,
  mounts: readonly HttpMount[] = [],
): Listener {
  const entrance = new Entrance(options, host);
  const { admission } = entrance;
  const serve = (port: number): Server<Upgraded> => openWithBacklog(() => openServer(entrance, port, mounts));
  if ("path" in options.bind) throw new TypeError("a WebSocket listener binds a port");
  const isProbed = entrance.credentials !== undefined && !options.isShared;
  const door = new HttpDoor(serve, isProbed ? probePort(options.name, options.bind) : options.bind.port);
  const leave = host.guard?.add(door);
  return {
    port: door.port,
    get connectionCount() {
      return admission.connectionCount;
    },
    async refresh() {
      if (await entrance.refresh()) door.replace();
    },
    stop() {
      leave?.();
      void door.stop(false);
    },
  };
}

/**
 * A port that is shared would not tell that somebody else has it: so it is bound once without sharing. Returns the port, which
 * was picked for 0. Throws MantouError `listen_failed`.
 */
export function probePort(name: string, { host, port }: { host: string; port: number }): number {
  try {
    const probe = Bun.listen({ hostname: host, port, exclusive: true, socket: { data() {} } });
    probe.stop(true);
    return probe.port;
  } catch (error) {
    throw new MantouError("listen_failed", `listener ${name}: ${host}:${port} ${listenFault(error)}`);
  }
}

function openServer(entrance: Entrance, port: number, mounts: readonly HttpMount[]): Server<Upgraded> {
  const { options, transport, credentials } = entrance;
  const { host } = options.bind as { host: string };
  try {
    return Bun.serve<Upgraded>({
      hostname: host,
      port,
      idleTimeout: HTTP_IDLE_SEC,
      maxRequestBodySize: HTTP_BODY_BYTES_MAX,
      development: false,
      reusePort: credentials !== undefined || options.isShared, // said in both cases: left out, it may be true
      ...(credentials && { tls: credentials.forServe() }),
      fetch: (request, server) => answer(request, server, entrance, mounts),
      error: (error) => {
        transport.reportBug(error);
        return new Response("Internal Server Error", { status: 500 });
      },
      websocket: {
        idleTimeout: 0, // MQTT has its own
        maxPayloadLength: options.messageBytesMax,
        backpressureLimit: 4 * FRAME_BYTES_MAX, // never reached: a link waits for its frame
        closeOnBackpressureLimit: true,
        perMessageDeflate: false,
        open: (ws) => openLink(ws, entrance),
        message: (ws, message) => ws.data.socket?.handleMessage(message),
        drain: (ws) => ws.data.socket?.link.handleDrain(),
        close: (ws) => {
          entrance.admission.leavePlace();
          ws.data.socket?.link.handleClosed();
        },
      },
    });
  } catch (error) {
    throw new MantouError("listen_failed", `listener ${options.name}: ${host}:${port} ${listenFault(error)}`);
  }
}

function answer(
  request: Request,
  server: Server<Upgraded>,
  entrance: Entrance,
  mounts: readonly HttpMount[],
): Response | Promise<Response> | undefined {
  const { options, admission, transport } = entrance;
  const path = new URL(request.url).pathname;
  const { address = "", port = 0 } = server.requestIP(request) ?? {};
  const get = (name: string): string | null => request.headers.get(name);
  const mount = path === options.webSocket!.path && isUpgrade(get) ? undefined : mountFor(path, mounts);
  if (mount) return Promise.resolve(mount.fetch(request, { address, port, listener: options.name }));
  const refuse = (refusal: Refusal): Response => {
    transport.metrics.add("connections.refused.upgrade");
    return respond(refusal);
  };
  if (request.method !== "GET") return refuse({ status: 405, reason: "Method Not Allowed" });
  const judgement = judgeUpgrade(path, get, options.webSocket!);
  if ("status" in judgement) return refuse(judgement);
  const headers = keptHeaders(request.headers);
  if (!headers) return refuse(TOO_LARGE);
  if (transport.isBusy) {
    transport.metrics.add("connections.refused.busy");
    return new Response("Service Unavailable", { status: 503, headers: { "Retry-After": "10" } });
  }
  if (!admission.takePlace()) return new Response("Service Unavailable", { status: 503 });
  const waitMs = admission.waitMs(address);
  const enter = (): Response | undefined => {
    const data: Upgraded = { peer: { address, port }, headers, socket: undefined };
    if (server.upgrade(request, { headers: { "Sec-WebSocket-Protocol": judgement.protocol }, data })) return undefined;
    admission.leavePlace();
    return new Response("Bad Request", { status: 400 });
  };
  if (waitMs === 0) return enter();
  if (waitMs > 0) return Bun.sleep(waitMs).then(enter) as Promise<Response>;
  admission.leavePlace();
  return new Response("Too Many Requests", { status: 429, headers: { "Retry-After": "10" } });
}

function respond({ status, reason }: Refusal): Response {
  const headers = status === 426 ? { Upgrade: "websocket", "Sec-WebSocket-Version": "13" } : {};
  return new Response(reason, { status, headers });
}

function mountFor(path: string, mounts: readonly HttpMount[]): HttpMount | undefined {
  const isBelow = (mount: HttpMount): boolean => path === mount.path || path.startsWith(`${mount.path}/`);
  return mounts.filter(isBelow).toSorted((a, b) => b.path.length - a.path.length)[0];
}

function openLink(ws: WebSocket, entrance: Entrance): void {
  const { peer, headers } = ws.data;
  const socket = new ServeSocket(ws);
  socket.onText = () => entrance.transport.metrics.add("connections.closed.websocket");
  ws.data.socket = socket;
  socket.link = entrance.makeLink(socket, { ...peer, identity: { headers } });
}

/** What a link writes to: Bun's WebSocket. */
class ServeSocket implements ByteSocket {
  link!: TcpLink;
  onText: () => void = () => {};
  private closeCode = NORMAL;
  /** Bytes of a frame that Bun has queued and the link still counts as unsent. */
  private queued = 0;

  constructor(private readonly ws: WebSocket) {}

  get remoteAddress(): string {
    return this.ws.data.peer.address;
  }

  get remotePort(): number {
    return this.ws.data.peer.port;
  }

  handleMessage(message: string | Buffer): void {
    if (typeof message !== "string") return this.link.handleData(message);
    if (this.closeCode !== NORMAL) return;
    this.closeCode = UNSUPPORTED_DATA; // [MQTT-6.0.0-1]
    this.onText();
    this.link.end();
  }

  write(bytes: Buffer, start: number, size: number): number {
    if (this.queued > 0 && this.ws.getBufferedAmount() > 0) return 0;
    let taken = this.queued;
    this.queued = 0;
    while (taken < size) {
      const length = Math.min(size - taken, FRAME_BYTES_MAX);
      const result = this.ws.sendBinary(bytes.subarray(start + taken, start + taken + length));
      if (result > 0) taken += length;
      else {
        if (result === -1) this.queued = length;
        return taken; // 0: closed, its event follows
      }
    }
    return taken;
  }

  pause(): void {
    (this.ws as unknown as { pause(): void }).pause();
  }

  resume(): void {
    (this.ws as unknown as { resume(): void }).resume();
  }

  shutdown(): void {
    this.ws.close(this.closeCode);
  }

  terminate(): void {
    this.ws.terminate();
  }
}
