/**
 * What this process wants of the others: its filters, and how many subscriptions want each.
 *
 *   announce ─► count[filter]++ ─► first one, or a share group's: SUBSCRIBE to every peer ─► all have answered ─► complete
 *   withdraw ─► count[filter]−− ─► last one: UNSUBSCRIBE
 *   a peer's connection opens ─► it is told everything, then that this was all
 *
 * Shared filters are told with the number of members here, so that a group's messages are shared out by members and not by
 * processes. A filter costs its bytes and about 25 more.
 */
import { BlockPool } from "#base/block-pool.ts";
import { ByteTable } from "#base/byte-table.ts";
import { grown, hashBytes } from "#base/bytes.ts";
import type { Fabric } from "#core/ports.ts";
import { isShared } from "#core/topic.ts";

/** A connection to another process; mqtt/peer-connection.ts. */
export interface Peer {
  subscribe(filter: Buffer, memberCount: number, complete?: () => void): void;
  unsubscribe(filter: Buffer): void;
  whenKnown(complete: () => void): void;
  finishSync(): void;
}

export class PeerFabric implements Fabric {
  readonly isLocal = false;
  readonly isForwarding = false;
  readonly forwardedSeq = 0;
  onForwarded = (): void => {};
  private readonly peers = new Set<Peer>();
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
      if (isTold) peer.subscribe(filter, count, done);
      else peer.whenKnown(done);
    }
    done();
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
    peer.finishSync();
  }

  removePeer(peer: Peer): void {
    this.peers.delete(peer);
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
