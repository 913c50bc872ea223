/**
 * What this process wants of the others: its filters, and how many subscriptions want each.
 *
 *   announce ─► count[filter]++ ─► first one, or a share group's: SUBSCRIBE to every peer ─► all have answered ─► complete
 *   withdraw ─► count[filter]−− ─► last one: UNSUBSCRIBE
 *   a peer's connection opens ─► it is told everything, then that this was all
 *   a peer's connection ends  ─► it may be alive, and serve clients: who announces waits until it is back or `giveUp`
 *
 * Shared filters are told with the number of members here, so that a group's messages are shared out by members and not by
 * processes. A filter costs its bytes and about 25 more.
 */
import { BlockPool } from "#base/block-pool.ts";
import { ByteTable } from "#base/byte-table.ts";
import { grown, hashBytes } from "#base/bytes.ts";
import type { Fabric } from "#core/ports.ts";
import { isShared } from "#core/topic.ts";

/** A connection to another process; mqtt/peer-connection.ts. What it is to complete it completes after `removePeer` if it ends. */
export interface Peer {
  readonly node: number;
  subscribe(filter: Buffer, memberCount: number, complete?: () => void): void;
  unsubscribe(filter: Buffer): void;
  whenKnown(complete: () => void): void;
  finishSync(complete: () => void): void;
}

export class PeerFabric implements Fabric {
  readonly isLocal = false;
  readonly isForwarding = false;
  readonly forwardedSeq = 0;
  onForwarded = (): void => {};
  private readonly peers = new Set<Peer>();
  /** Who waits for processes whose connection has ended, until they know everything again. */
  private readonly missing = new Map<number, (() => void)[]>();
  private readonly filters: ByteTable;
  private counts = new Uint32Array(32);
  private epoch = 0;

  constructor(private readonly seed: number) {
    this.filters = new ByteTable(new BlockPool());
  }

  /** A client id belongs to one process: here it is that one. */
  claim(_clientId: Buffer, complete: (epoch: number) => void): void {
    complete(++this.epoch);
  }

  announce(filter: Buffer, isNew: boolean, complete: () => void): void {
    const count = isNew ? this.add(filter, 1) : 0;
    const isTold = isNew && (count === 1 || isShared(filter));
    let waiting = 1;
    const done = (): void => {
      if (--waiting === 0) complete();
    };
    for (const peer of this.peers) {
      waiting++;
      const told = (): void => this.whenNotMissing(peer.node, done);
      if (isTold) peer.subscribe(filter, count, told);
      else peer.whenKnown(told);
    }
    for (const [node, waits] of this.missing) {
      if (this.hasPeer(node)) continue; // it is asked already
      waiting++;
      waits.push(done);
    }
    done();
  }

  private hasPeer(node: number): boolean {
    for (const peer of this.peers) if (peer.node === node) return true;
    return false;
  }

  private whenNotMissing(node: number, action: () => void): void {
    const waits = this.missing.get(node);
    if (waits) waits.push(action);
    else action();
  }

  withdraw(filter: Buffer): void {
    const count = this.add(filter, -1);
    for (const peer of this.peers) {
      if (count === 0) peer.unsubscribe(filter);
      else if (isShared(filter)) peer.subscribe(filter, count);
    }
  }

  forward(): number {
    return 0; // peers are sessions of the engine
  }

  addPeer(peer: Peer): void {
    this.peers.add(peer);
    for (let number = 0, left = this.filters.count; left > 0; number++) {
      if (number >= this.counts.length) break;
      if (this.counts[number] === 0) continue;
      peer.subscribe(this.filters.keyOf(number), this.counts[number]);
      left--;
    }
    peer.finishSync(() => {
      if (this.peers.has(peer)) this.giveUp(peer.node);
    });
  }

  removePeer(peer: Peer): void {
    if (this.peers.delete(peer) && !this.missing.has(peer.node)) this.missing.set(peer.node, []);
  }

  /** The process has ended, or knows all again: nobody waits for it any more. When it starts anew it first asks what is wanted. */
  giveUp(node: number): void {
    const waits = this.missing.get(node) ?? [];
    this.missing.delete(node);
    for (const wait of waits) wait();
  }

  /** Distinct filters that the others are told of. */
  get filterCount(): number {
    return this.filters.count;
  }

  /** Changes a filter's count by `change` and returns it. */
  private add(filter: Buffer, change: 1 | -1): number {
    const hash = hashBytes(filter, 0, filter.length, this.seed);
    let number = this.filters.find(filter, 0, filter.length, hash);
    if (number < 0) {
      if (change < 0) return 0;
      number = this.filters.add(filter, 0, filter.length, hash);
      if (this.filters.capacity > this.counts.length) this.counts = grown(this.counts, this.filters.capacity);
      this.counts[number] = 0;
    }
    const count = (this.counts[number] += change);
    if (count === 0) this.filters.remove(number);
    return count;
  }
}
