/**
 * What this process wants of the others: its filters, and how many subscriptions want each.
 *
 *   announce ─► count[filter]++ ─► first one: SUBSCRIBE to every peer ─► all have answered ─► complete
 *   withdraw ─► count[filter]−− ─► last one: UNSUBSCRIBE
 *   weigh    ─► weight[filter]  ─► from or to 0: SUBSCRIBE at once, else with the next `tellWeights`
 *   a peer's connection opens ─► it is told everything, then that this was all
 *   a peer's connection ends  ─► it may be alive, and serve clients: who announces waits until it is back or `giveUp`
 *
 * Shared filters are told with the number of members here that are connected, so that a group's messages are shared out by members
 * and not by processes, and pass by those that are away. A filter costs its bytes and about 29 more.
 */
import { BlockPool } from "#base/block-pool.ts";
import { ByteTable } from "#base/byte-table.ts";
import { grown, hashBytes } from "#base/bytes.ts";
import type { Fabric } from "#core/ports.ts";

/** A connection to another process; mqtt/peer-connection.ts. What it is to complete it completes after `removePeer` if it ends. */
export interface Peer {
  readonly node: number;
  subscribe(filter: Buffer, connectedCount: number, complete?: () => void): void;
  unsubscribe(filter: Buffer): void;
  whenKnown(complete: () => void): void;
  finishSync(complete: () => void): void;
}

export class PeerFabric implements Fabric {
  readonly isLocal = false;
  readonly forwarding = null;
  private readonly peers = new Set<Peer>();
  /** Who waits for processes whose connection has ended, until they know everything again. */
  private readonly missing = new Map<number, (() => void)[]>();
  private readonly filters: ByteTable;
  private counts = new Uint32Array(32);
  /** Of shared filters: members that are connected. */
  private weights = new Uint32Array(32);
  /** Filters whose weight the peers do not know yet. */
  private readonly untold = new Set<number>();
  private epoch = 0;

  constructor(private readonly seed: number) {
    this.filters = new ByteTable(new BlockPool());
  }

  /** A client id belongs to one process: here it is that one. */
  claim(_clientId: Buffer, complete: (epoch: number) => void): void {
    complete(++this.epoch);
  }

  announce(filter: Buffer, isNew: boolean, complete: () => void): void {
    const number = isNew ? this.numberOf(filter) : -1;
    const isTold = isNew && ++this.counts[number] === 1;
    let waiting = 1;
    const done = (): void => {
      if (--waiting === 0) complete();
    };
    for (const peer of this.peers) {
      waiting++;
      const told = (): void => this.whenNotMissing(peer.node, done);
      if (isTold) peer.subscribe(filter, this.weights[number], told);
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
    const number = this.find(filter);
    if (number < 0 || --this.counts[number] > 0) return;
    this.filters.remove(number);
    this.untold.delete(number);
    for (const peer of this.peers) peer.unsubscribe(filter);
  }

  weigh(filter: Buffer, connectedCount: number): void {
    const number = this.numberOf(filter);
    const before = this.weights[number];
    this.weights[number] = connectedCount;
    if (before === connectedCount || this.counts[number] === 0) return; // it is told with the filter
    this.untold.add(number);
    if (before === 0 || connectedCount === 0) this.tellWeights();
  }

  /** Tells the peers what has changed since; to be called once a second or so. */
  tellWeights(): void {
    for (const number of this.untold) {
      for (const peer of this.peers) peer.subscribe(this.filters.keyOf(number), this.weights[number]);
    }
    this.untold.clear();
  }

  addPeer(peer: Peer): void {
    this.peers.add(peer);
    for (let number = 0, left = this.filters.count; left > 0; number++) {
      if (number >= this.counts.length) break;
      if (this.counts[number] === 0) continue;
      peer.subscribe(this.filters.keyOf(number), this.weights[number]);
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

  private find(filter: Buffer): number {
    return this.filters.find(filter, 0, filter.length, hashBytes(filter, 0, filter.length, this.seed));
  }

  /** The filter's number; a new one nobody wants yet. */
  private numberOf(filter: Buffer): number {
    const known = this.find(filter);
    if (known >= 0) return known;
    const number = this.filters.add(filter, 0, filter.length, hashBytes(filter, 0, filter.length, this.seed));
    if (this.filters.capacity > this.counts.length) {
      this.counts = grown(this.counts, this.filters.capacity);
      this.weights = grown(this.weights, this.filters.capacity);
    }
    this.counts[number] = this.weights[number] = 0;
    return number;
  }
}
