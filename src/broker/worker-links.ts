/**
 * What makes several worker processes one broker, seen from one of them: a connection to each other worker (forwards and interest,
 * mqtt/peer-connection.ts), and a trunk to each for the clients that were accepted here and belong there (fabric/relay.ts).
 *
 *   start ─► peer sockets open; connect to workers with lower numbers ─► every worker has told what it wants: `whenSynced`
 *         ─► relay socket opens; trunks to all others ─► `join` resolves: listeners may open
 *
 * A worker serves nobody before it knows what all others want: so what it acknowledges has gone to all who want it. A worker that
 * dies is waited for: what it is to get is kept in its session, here and on disk.
 */
import { join } from "node:path";
import type { Engine } from "#core/engine.ts";
import { Metrics } from "#core/metrics.ts";
import { ValueStamps } from "#core/peer-mark.ts";
import { PEER_PREFIX } from "#core/peers.ts";
import type { Link, Protocol } from "#core/ports.ts";
import { type Homes, homeOf } from "#fabric/home.ts";
import { PeerFabric } from "#fabric/interest.ts";
import { Trunk, WaitingClient } from "#fabric/relay.ts";
import { CLIENT_IDENTIFIER_NOT_VALID } from "#mqtt/codec/reason-code.ts";
import type { Connection } from "#mqtt/connection.ts";
import { MqttContext, type Reporter } from "#mqtt/context.ts";
import { PeerConnection, type PeerHost } from "#mqtt/peer-connection.ts";
import { connectLocally, listenLocally } from "#transport/local-socket.ts";
import { TcpTransport } from "#transport/tcp.ts";
import { Redial } from "./redial.ts";

/** How often it is looked whether a worker that is not there is back. */
const RETRY_MS = 50;
/** A worker whose connection has ended and that is not back by then has ended too: subscriptions do not wait for it. */
const GIVE_UP_MS = 2000;
/** Unsent bytes to another worker; beyond, those who send to it are slowed or lose QoS 0. */
const LINK_BYTES_MAX = 32 * 1024 * 1024;
const TOTAL_BYTES_MAX = 1024 * 1024 * 1024;

/** A socket, or the link of a plugin's client: another protocol can have it from now on. */
type MovableLink = Link & { protocol: Protocol | null };

function isMovable(link: Link): link is MovableLink {
  return "protocol" in link;
}

/** One of several workers. */
export interface WorkerPart extends Homes {
  /** Directory of the workers' sockets. */
  readonly socketDir: string;
}

/** What the links need once there is an engine. */
interface Joined {
  readonly engine: Engine;
  /** The clients' transport: its flusher is shared, so that all of a tick leaves together. */
  readonly transport: TcpTransport;
  readonly reporter: Reporter;
  readonly makeProtocol: (link: Link, listener: string) => Protocol;
}

export class WorkerLinks implements PeerHost {
  readonly fabric: PeerFabric;
  readonly stamps: ValueStamps;
  private readonly prefix = Buffer.from(PEER_PREFIX);
  private readonly trunks = new Map<number, Trunk>();
  private readonly waitingClients = new Map<number, Map<WaitingClient, MovableLink>>();
  /** Trunks that others have opened. */
  private readonly incoming = new Set<Trunk>();
  private readonly synced = new Set<number>();
  private readonly openPeers = new Set<PeerConnection>();
  private readonly stops: (() => void)[] = [];
  private readonly timers = new Set<Timer>();
  private readonly givingUp = new Map<number, Timer>();
  private waiting: (() => void)[] = [];
  private isStopped = false;

  constructor(private readonly part: WorkerPart) {
    this.fabric = new PeerFabric(part.seed);
    this.stamps = new ValueStamps(part.node, () => performance.timeOrigin + performance.now());
  }

  /** Links of clients that others have accepted for this worker. */
  get remoteCount(): number {
    let count = 0;
    for (const trunk of this.incoming) count += trunk.streamCount;
    return count;
  }

  get node(): number {
    return this.part.node;
  }

  /** Connects to the other workers; resolves when clients may come in. */
  async join(joined: Joined): Promise<void> {
    const { node, count, socketDir } = this.part;
    const { engine, transport: clients, reporter } = joined;
    const limits = { ...clients.limits, linkBytesMax: LINK_BYTES_MAX, totalBytesMax: TOTAL_BYTES_MAX };
    const { reportBug, flusher } = clients;
    const transport = new TcpTransport(limits, new Metrics(), reportBug, Number.MAX_SAFE_INTEGER, flusher);
    clients.sweepers.add((nowMs) => {
      transport.sweep(nowMs);
      this.giveUp(nowMs);
      this.fabric.tellWeights();
      for (const peer of this.openPeers) peer.checkSilence();
    });
    const context = new MqttContext(engine, { reporter, metrics: new Metrics() });
    const others = Array.from({ length: count }, (_, other) => other).filter((other) => other !== node);
    const pathOf = (kind: "peer" | "relay", of: number): string => join(socketDir, `${kind}-${of}.sock`);

    this.stops.push(
      listenLocally(pathOf("peer", node), transport, (link) => new PeerConnection(context, link, this, -1)),
    );
    const makeDialer =
      (kind: "peer" | "relay", makeProtocol: (link: Link, other: number) => Protocol) =>
      (other: number): [number, () => void] => {
        const connect = (made: (link: Link) => Protocol): Promise<boolean> =>
          connectLocally(pathOf(kind, other), transport, made);
        return [other, this.dialer(connect, (link) => makeProtocol(link, other))];
      };
    this.peerDialers = new Map(
      others.map(makeDialer("peer", (link, other) => new PeerConnection(context, link, this, other))),
    );
    for (const other of others) if (other < node) this.peerDialers.get(other)!();
    await this.until(() => this.synced.size === others.length);
    engine.peers!.releasePublishes();

    this.stops.push(listenLocally(pathOf("relay", node), transport, (link) => this.makeTrunk(link, joined, -1)));
    this.trunkDialers = new Map(others.map(makeDialer("relay", (link, other) => this.makeTrunk(link, joined, other))));
    for (const dial of this.trunkDialers.values()) dial();
    await this.until(() => this.trunks.size === others.length);
  }

  /** Where a client belongs: see mqtt/context.ts. */
  place(connection: Connection, clientId: Buffer): Protocol | number | undefined {
    if (clientId.subarray(0, this.prefix.length).equals(this.prefix)) return CLIENT_IDENTIFIER_NOT_VALID;
    const home = homeOf(clientId, this.part);
    const { link } = connection;
    if (home === this.part.node || !isMovable(link)) return undefined;
    const trunk = this.trunks.get(home);
    return (link.protocol = trunk ? trunk.relay(link, connection.listener) : this.wait(home, link, connection));
  }

  /** The client's worker is being started again. A refusal would end many clients' attempts, so it waits as long as it may. */
  private wait(home: number, link: MovableLink, { listener, context: { engine } }: Connection): Protocol {
    const deadlineMs = engine.nowMs + engine.limits.mqtt.connectTimeoutSec * 1000;
    const client = new WaitingClient(link, listener, deadlineMs);
    const clients = this.waitingClients.get(home);
    if (clients) clients.set(client, link);
    else this.waitingClients.set(home, new Map([[client, link]]));
    return client;
  }

  /** Clients whose worker did not come back in time, or that have gone. */
  private giveUp(nowMs: number): void {
    for (const clients of this.waitingClients.values()) {
      for (const client of clients.keys()) {
        if (!client.isGone && nowMs < client.deadlineMs) continue;
        clients.delete(client);
        if (!client.isGone) client.giveUp();
      }
    }
  }

  /** Draws client ids until one belongs here. */
  makeClientId(draw: () => string): string {
    for (;;) {
      const clientId = draw();
      if (homeOf(Buffer.from(clientId), this.part) === this.part.node) return clientId;
    }
  }

  stop(): void {
    this.isStopped = true;
    for (const stop of this.stops) stop();
    for (const timer of [...this.timers, ...this.givingUp.values()]) clearTimeout(timer);
  }

  // ---- PeerHost

  readSec(): number {
    return Date.now() / 1000;
  }

  handleOpen(peer: PeerConnection): void {
    clearTimeout(this.givingUp.get(peer.node));
    this.givingUp.delete(peer.node);
    this.openPeers.add(peer);
    this.fabric.addPeer(peer);
  }

  handleSynced(peer: PeerConnection): void {
    this.synced.add(peer.node);
    this.lookAgain();
  }

  handleGone(peer: PeerConnection): void {
    this.fabric.removePeer(peer);
    this.openPeers.delete(peer);
    this.synced.delete(peer.node); // as long as this worker serves nobody, others do not wait for it with new filters
    this.giveUpLater(peer.node);
    if (peer.node < this.part.node) this.peerDialers.get(peer.node)?.();
  }

  /** Connections that do not come about meanwhile do not put it off. */
  private giveUpLater(node: number): void {
    if (this.givingUp.has(node)) return;
    const timer = setTimeout(() => {
      this.givingUp.delete(node);
      this.fabric.giveUp(node);
    }, GIVE_UP_MS);
    this.givingUp.set(node, timer);
  }

  /** What connects to another worker, and again when that connection has ended: by and by, should it end as soon as it is there. */
  private peerDialers: ReadonlyMap<number, () => void> = new Map();
  private trunkDialers: ReadonlyMap<number, () => void> = new Map();

  /** `other`: the worker that this trunk goes to, or −1 for one that comes from another. */
  private makeTrunk(link: Link, { makeProtocol }: Joined, other: number): Trunk {
    const trunk = new Trunk(link, {
      makeProtocol,
      handleGone: () => {
        this.incoming.delete(trunk);
        if (this.trunks.get(other) !== trunk) return;
        this.trunks.delete(other);
        this.trunkDialers.get(other)?.();
      },
    });
    if (other < 0) this.incoming.add(trunk);
    else this.trunks.set(other, trunk);
    for (const [client, clientLink] of this.waitingClients.get(other) ?? []) {
      if (!client.isGone) clientLink.protocol = client.goOn(trunk);
    }
    this.waitingClients.delete(other);
    this.lookAgain();
    return trunk;
  }

  private dialer(
    connect: (makeProtocol: (link: Link) => Protocol) => Promise<boolean>,
    makeProtocol: (link: Link) => Protocol,
  ): () => void {
    const redial = new Redial();
    const opened = (link: Link): Protocol => {
      redial.noteOpen(performance.now());
      return makeProtocol(link);
    };
    const dial = (): void => {
      void connect(opened).then((isOpen) => {
        if (!isOpen) this.after(RETRY_MS, dial);
      });
    };
    return () => this.after(redial.nextPauseMs(performance.now()), dial);
  }

  private after(delayMs: number, action: () => void): void {
    if (this.isStopped) return;
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      action();
    }, delayMs);
    this.timers.add(timer);
  }

  private until(isDone: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (isDone()) resolve();
        else this.waiting.push(look);
      };
      look();
    });
  }

  private lookAgain(): void {
    for (const look of this.waiting.splice(0)) look();
  }
}
