/** What one process tells the others, against what its subscriptions are; and who waits for whom. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Peer, PeerFabric } from "#fabric/interest.ts";
import { check } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";

/** Another process that answers when it is told to, oldest first. */
class FakePeer implements Peer {
  /** What it knows: of shared filters how many members are connected. */
  readonly known = new Map<string, number>();
  private readonly unanswered: (() => void)[] = [];
  hasSynced = false;
  toldCount = 0;

  constructor(readonly node: number) {}

  subscribe(filter: Buffer, connectedCount: number, complete: () => void = () => {}): void {
    this.known.set(filter.toString(), connectedCount);
    this.toldCount++;
    this.unanswered.push(complete);
  }
  unsubscribe(filter: Buffer): void {
    if (!this.known.delete(filter.toString())) throw new Error(`${filter.toString()} was not told`);
  }
  whenKnown(complete: () => void): void {
    if (this.unanswered.length === 0) complete();
    else this.unanswered.push(complete);
  }
  finishSync(complete: () => void): void {
    this.hasSynced = true;
    this.unanswered.push(complete);
  }
  answer(): void {
    for (const complete of this.unanswered.splice(0)) complete();
  }
}

const filters = ["a", "a/+", "#", "$share/g/a", "$queue/a"];

function fabricWith(...peers: FakePeer[]): PeerFabric {
  const fabric = new PeerFabric(1);
  for (const peer of peers) {
    fabric.addPeer(peer);
    peer.answer();
  }
  return fabric;
}

describe("interest", () => {
  test("every peer knows what is wanted, whenever it came and whatever it missed", () => {
    const step = fc.tuple(fc.nat(11), fc.nat(filters.length - 1), fc.nat(1));
    check(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const fabric = new PeerFabric(1);
        const counts = new Map<string, number>();
        const weights = new Map<string, number>();
        const peers: (FakePeer | null)[] = [null, null];
        let asked = 0;
        let told = 0;
        for (const [kind, which, node] of steps) {
          const filter = filters[which]!;
          const count = counts.get(filter) ?? 0;
          const peer = peers[node];
          if (kind < 4) {
            counts.set(filter, count + 1);
            asked++;
            fabric.announce(Buffer.from(filter), true, () => told++);
          } else if (kind < 6 && count > 0) {
            counts.set(filter, count - 1);
            if (count === 1) weights.delete(filter);
            fabric.withdraw(Buffer.from(filter));
          } else if (kind === 6 && !peer) fabric.addPeer((peers[node] = new FakePeer(node)));
          else if (kind === 7 && peer) {
            fabric.removePeer(peer);
            peer.answer();
            peers[node] = null;
          } else if (kind === 8) peer?.answer();
          else if (kind === 9 && !peer) fabric.giveUp(node);
          else if (kind === 10 && count > 0) {
            const before = weights.get(filter) ?? 0;
            weights.set(filter, (weights.get(filter) ?? 0) + 1);
            fabric.weigh(Buffer.from(filter), before + 1);
            if (before === 0) for (const each of peers) if (each) expect(each.known.get(filter)).toBe(1);
          } else if (kind === 11 && (weights.get(filter) ?? 0) > 0) {
            weights.set(filter, 0);
            fabric.weigh(Buffer.from(filter), 0);
            for (const each of peers) if (each) expect(each.known.get(filter)).toBe(0);
          }
        }
        fabric.tellWeights();
        const wanted = [...counts].filter(([, count]) => count > 0).map(([filter]) => filter);
        const known = wanted.map((filter): [string, number] => [filter, weights.get(filter) ?? 0]);
        for (const peer of peers) {
          if (!peer) continue;
          expect([...peer.known].toSorted()).toEqual(known.toSorted());
          expect(peer.hasSynced).toBe(true);
        }
        expect(fabric.filterCount).toBe(wanted.length);
        expect(told).toBeLessThanOrEqual(asked);
        for (const peer of peers) peer?.answer();
        for (const node of [0, 1]) fabric.giveUp(node);
        expect(told).toBe(asked);
      }),
      rounds(300, 3000, 30_000),
    );
  });

  test("who comes to a group and goes again is told once a while, the first and the last at once", () => {
    const peer = new FakePeer(1);
    const fabric = fabricWith(peer);
    const group = Buffer.from("$share/g/a");
    fabric.weigh(group, 1);
    fabric.announce(group, true, () => {});
    const known = (): number => peer.known.get("$share/g/a")!;
    const seen = [known()];
    for (let count = 2; count <= 100; count++) fabric.weigh(group, count);
    seen.push(known());
    fabric.tellWeights();
    seen.push(known());
    for (let count = 99; count >= 0; count--) fabric.weigh(group, count);
    seen.push(known());
    expect(seen).toEqual([1, 1, 100, 0]);
    peer.answer();
    expect(peer.toldCount).toBe(3);
  });

  test("an announcement completes when the last peer knows", () => {
    const peers = [new FakePeer(1), new FakePeer(2)] as const;
    const fabric = fabricWith(...peers);
    let told = 0;
    fabric.announce(Buffer.from("a"), true, () => told++);
    peers[0].answer();
    expect(told).toBe(0);
    peers[1].answer();
    expect(told).toBe(1);
  });

  test("one of a filter that is on its way waits for the first", () => {
    const peer = new FakePeer(1);
    const fabric = fabricWith(peer);
    const told: number[] = [];
    fabric.announce(Buffer.from("a"), true, () => told.push(1));
    fabric.announce(Buffer.from("a"), true, () => told.push(2));
    fabric.announce(Buffer.from("a"), false, () => told.push(3));
    expect(told).toEqual([]);
    peer.answer();
    expect(told).toEqual([1, 2, 3]);
  });

  test("a process whose connection has ended may be alive: who announces waits until it knows all again", () => {
    const before = new FakePeer(1);
    const fabric = fabricWith(before);
    const told: string[] = [];
    fabric.announce(Buffer.from("asked"), true, () => told.push("asked"));
    fabric.removePeer(before);
    before.answer(); // as a connection that ends does
    fabric.announce(Buffer.from("meanwhile"), true, () => told.push("meanwhile"));
    const after = new FakePeer(1);
    fabric.addPeer(after);
    fabric.announce(Buffer.from("then"), true, () => told.push("then"));
    expect(told).toEqual([]);
    after.answer();
    expect(told.toSorted()).toEqual(["asked", "meanwhile", "then"]);
  });

  test("nobody waits for a process that is given up", () => {
    const peer = new FakePeer(1);
    const fabric = fabricWith(peer);
    let told = 0;
    fabric.removePeer(peer);
    fabric.announce(Buffer.from("a"), true, () => told++);
    expect(told).toBe(0);
    fabric.giveUp(1);
    expect(told).toBe(1);
  });
});
