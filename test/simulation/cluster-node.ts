/**
 * One process of a cluster run: engine, durable store, and its side of the connections to the others. Like a worker it serves
 * nobody before all others have said what they want; what of it a crash takes away is `life`.
 */
import { Engine } from "#core/engine.ts";
import { ValueStamps } from "#core/peer-mark.ts";
import { PeerFabric } from "#fabric/interest.ts";
import { MqttContext } from "#mqtt/context.ts";
import { PeerConnection, type PeerHost } from "#mqtt/peer-connection.ts";
import { DurableStore } from "#store/durable-store.ts";
import type { RestoreInfo } from "#store/restore.ts";
import { MemoryLog } from "#test/support/memory-log.ts";
import { CrashDisk } from "./crash-disk.ts";
import type { CrashWeather } from "./crash-weather.ts";
import type { PipeEnd } from "./cluster-pipe.ts";
import type { Dice } from "./weather.ts";

/** What a node asks of its world. */
export interface NodeHost {
  readonly nodeCount: number;
  readonly weather: CrashWeather;
  /** Wall clock, milliseconds. */
  readonly nowMs: number;
  readonly dice: Dice;
  readonly seed: number;
  onBug(error: unknown): void;
  onRestored(node: ClusterNode, info: RestoreInfo): void;
  onServing(node: ClusterNode): void;
}

export class ClusterLife implements PeerHost {
  readonly disk: CrashDisk;
  readonly store: DurableStore;
  readonly engine: Engine;
  readonly context: MqttContext;
  readonly fabric: PeerFabric;
  readonly stamps: ValueStamps;
  private readonly peerContext: MqttContext;
  private readonly synced = new Set<number>();
  /** Nodes that this one is to connect to. */
  readonly wanted = new Set<number>();
  readonly peers = new Set<PeerConnection>();
  isServing = false;
  isWorkAsked = false;

  constructor(
    readonly owner: ClusterNode,
    private readonly host: NodeHost,
    log: MemoryLog,
  ) {
    const { weather, dice, seed } = host;
    const { number } = owner;
    const startMs = dice.below(1_000_000) - host.nowMs;
    this.monotonicMs = () => startMs + host.nowMs;
    this.fabric = new PeerFabric(seed);
    const skewMs = dice.pick([0, 0, 0, -5000, 700]);
    this.stamps = new ValueStamps(number, () => host.nowMs + skewMs + 1_800_000_000_000);
    this.disk = new CrashDisk(log, weather.isInstant);
    this.store = new DurableStore({
      backend: this.disk,
      nowMs: this.monotonicMs,
      wakeAfter: () => {}, // `tick` comes with every step
      limits: weather.store,
    });
    this.engine = new Engine({
      limits: weather.limits,
      seed: seed * 16 + number,
      nowMs: this.monotonicMs(),
      nowSec: Math.floor(host.nowMs / 1000),
      store: this.store,
      fabric: this.fabric,
      stamps: this.stamps,
      onWork: () => (this.isWorkAsked = true),
      onBug: (error) => host.onBug(error),
    });
    const reporter = {
      fault: (_: unknown, reasonCode: number, bytes: Buffer) =>
        host.onBug(new Error(`a fault: ${reasonCode} ${bytes.toString("hex")}`)),
      bug: (_: unknown, error: unknown) => host.onBug(error),
    };
    this.context = new MqttContext(this.engine, { reporter });
    this.peerContext = new MqttContext(this.engine, {
      reporter,
      metrics: new Engine({ seed: 1, nowMs: 0, nowSec: 0 }).metrics,
    });
    for (let other = 0; other < number; other++) this.wanted.add(other);
  }

  readonly monotonicMs: () => number;

  get node(): number {
    return this.owner.number;
  }

  start(): void {
    this.store.attach(this.engine, (info) => this.host.onRestored(this.owner, info));
  }

  /** Makes what speaks on a new connection: to `other`, or (−1) from another node. */
  connect(end: PipeEnd, other: number): void {
    this.wanted.delete(other);
    const peer = new PeerConnection(this.peerContext, end, this, other);
    end.protocol = peer;
    this.peers.add(peer);
  }

  handleOpen(peer: PeerConnection): void {
    this.fabric.addPeer(peer);
  }

  handleSynced(peer: PeerConnection): void {
    this.synced.add(peer.node);
    if (this.isServing || this.synced.size < this.host.nodeCount - 1) return;
    this.isServing = true;
    this.engine.peers!.releasePublishes();
    this.host.onServing(this.owner);
  }

  readSec(): number {
    return this.engine.nowSec;
  }

  handleGone(peer: PeerConnection): void {
    this.fabric.removePeer(peer);
    this.synced.delete(peer.node);
    this.peers.delete(peer);
    if (peer.node >= 0 && peer.node < this.node) this.wanted.add(peer.node);
  }

  /** Messages for other nodes that are not there yet. */
  get peerBacklog(): number {
    let count = 0;
    for (const session of this.engine.router.peers) {
      const queue = this.engine.sessions.queueOf(session);
      if (queue) count += queue.outbox.count + queue.inflight.total;
    }
    return count;
  }

  get isRestless(): string {
    const { engine, disk, store } = this;
    if (!this.isServing) return "is not serving";
    if (this.peers.size !== this.host.nodeCount - 1) return "is not connected to all";
    if (this.peerBacklog > 0) return "has messages for others";
    if (engine.router.hasReplays) return "has replays";
    if (disk.answerCount > 0) return "reads";
    if (disk.waitingCount > 0 || store.durableSeq < engine.delivery.lastSeq) return "commits";
    return this.isWorkAsked ? "has work" : "";
  }
}

export class ClusterNode {
  life: ClusterLife | undefined;
  log = new MemoryLog();
  downUntil = 0;

  constructor(readonly number: number) {}
}
