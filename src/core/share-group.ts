/**
 * Share groups: of all subscriptions to `$share/NAME/FILTER`, one gets each message.
 *
 * A group stands in the topic index as one subscription whose target is −1 − group; emqttd's `$queue/FILTER` stands there
 * twice, under FILTER and under `$queue/FILTER`, so that a PUBLISH to the topic `$queue/x` reaches one of its members too.
 * Members are subscriptions that are listed with their sessions. Groups are few: plain objects.
 */
import { hashBytes } from "#base/bytes.ts";
import type { Random } from "#base/random.ts";
import type { ShareStrategy } from "./limits.ts";
import type { TopicIndex } from "./topic-index.ts";
import { queuePrefix, type SharedFilter } from "./topic.ts";

export interface ShareGroup {
  readonly key: string;
  readonly share: Buffer;
  readonly filter: Buffer;
  /** The group's own entries in the index. */
  readonly anchors: number[];
  /** Subscriptions of the members, in order of arrival; after those of this process those that stand for members of others. */
  readonly members: number[];
  localCount: number;
  /** Members of this process whose clients are connected; with several processes only. */
  connectedCount: number;
  /** Position of the member that got the last message; and the same among the members of this process. */
  cursor: number;
  localCursor: number;
  /** Names the group in other processes of this broker: two hashes of its filter, in the 27 bits of a Subscription Identifier. */
  readonly token: readonly [number, number];
}

export class ShareGroups {
  private readonly groups = new Map<number, ShareGroup>();
  private next = 0; // a number is never used again: waiting messages may still name it
  private readonly byKey = new Map<string, number>();
  private readonly byToken = new Map<number, number>();

  constructor(
    private readonly index: TopicIndex,
    private readonly strategy: ShareStrategy,
    private readonly random: Random,
  ) {}

  get count(): number {
    return this.byKey.size;
  }

  get(group: number): ShareGroup {
    return this.groups.get(group)!;
  }

  has(group: number): boolean {
    return this.groups.has(group);
  }

  /** The filter as it was subscribed to, share name and all. */
  filterOf(group: number): Buffer {
    const { share, filter } = this.get(group);
    if (share.equals(queueShare)) return Buffer.concat([queuePrefix, filter]);
    return Buffer.from(`$share/${share.toString()}/${filter.toString()}`);
  }

  find(shared: SharedFilter): number {
    return this.byKey.get(keyOf(shared)) ?? -1;
  }

  /** The group's number; it is made when it has no member yet. */
  ensure(shared: SharedFilter): number {
    const key = keyOf(shared);
    const known = this.byKey.get(key);
    if (known !== undefined) return known;
    const group = this.next++;
    const filter = Buffer.from(shared.filter);
    const anchors = [this.index.add(-1 - group, filter, 0, 0)];
    if (shared.share.equals(queueShare)) {
      anchors.push(this.index.add(-1 - group, Buffer.concat([queuePrefix, filter]), 0, 0));
    }
    const token = tokenOf(Buffer.from(key));
    const share = Buffer.from(shared.share);
    const members: number[] = [];
    const counts = { localCount: 0, connectedCount: 0, cursor: 0, localCursor: 0 };
    const entry = { key, share, filter, anchors, members, ...counts, token };
    this.groups.set(group, entry);
    this.byKey.set(key, group);
    this.byToken.set(tokenKey(...token), group);
    return group;
  }

  join(group: number, subscription: number): void {
    const entry = this.get(group);
    this.insert(entry, entry.localCount++, subscription);
  }

  private insert(entry: ShareGroup, at: number, subscription: number): void {
    entry.members.splice(at, 0, subscription);
    if (at <= entry.cursor && entry.members.length > 1) entry.cursor++;
  }

  /** The group that other processes call so, or −1. */
  findToken(first: number, second: number): number {
    return this.byToken.get(tokenKey(first, second)) ?? -1;
  }

  /** The session's membership, or −1. For a session with more subscriptions than the group has members. */
  memberOf(group: number, session: number): number {
    return this.get(group).members.find((sub) => this.index.target[sub] === session) ?? -1;
  }

  /** A member that stands for `count` of another process is listed so often, in one place. 0: it leaves. */
  setWeight(group: number, subscription: number, count: number): void {
    const entry = this.get(group);
    const { members } = entry;
    let known = members.reduce((sum, member) => (member === subscription ? sum + 1 : sum), 0);
    for (; known < count; known++) {
      const last = members.lastIndexOf(subscription);
      this.insert(entry, last < 0 ? members.length : last + 1, subscription);
    }
    for (; known > count; known--) this.leave(group, subscription);
  }

  /** Takes a member out; the last one takes the group with it. */
  leave(group: number, subscription: number): void {
    const entry = this.get(group);
    const at = entry.members.lastIndexOf(subscription);
    entry.members.splice(at, 1);
    if (at < entry.cursor) entry.cursor--;
    if (at < entry.localCursor) entry.localCursor--;
    if (at < entry.localCount) entry.localCount--;
    if (entry.members.length > 0) return;
    for (const anchor of entry.anchors) this.index.remove(anchor);
    this.byKey.delete(entry.key);
    this.byToken.delete(tokenKey(...entry.token));
    this.groups.delete(group);
  }

  /**
   * Where in the first `n` of `members` to begin looking for one that can take the message: all of them, or, when another process
   * has chosen this one, those that are here.
   */
  start(entry: ShareGroup, isForwarded: boolean, publisherKey: number, topicHash: number): number {
    const n = isForwarded ? entry.localCount : entry.members.length;
    const cursor = isForwarded ? entry.localCursor : entry.cursor;
    switch (this.strategy) {
      case "round-robin":
        return cursor + 1 >= n ? 0 : cursor + 1;
      case "sticky":
        return cursor < n ? cursor : 0;
      case "hash-client":
        return (publisherKey >>> 0) % n;
      case "hash-topic":
        return (topicHash >>> 0) % n;
      default: // random; local is random among members of this process, and all are
        return this.random.below(n);
    }
  }

  /** `position` took the message: a sticky group stays with it, and the next turn is the next member's. */
  chose(entry: ShareGroup, isForwarded: boolean, position: number): void {
    if (isForwarded) entry.localCursor = position;
    else entry.cursor = position;
  }
}

const queueShare = queuePrefix.subarray(0, -1);

const TOKEN_MASK = 0x7ff_ffff;

/** Never 0, which no Subscription Identifier is. */
function tokenOf(key: Buffer): readonly [number, number] {
  const hash = (seed: number): number => hashBytes(key, 0, key.length, seed) & TOKEN_MASK || 1;
  return [hash(1), hash(2)];
}

function tokenKey(first: number, second: number): number {
  return first * (TOKEN_MASK + 1) + second;
}

function keyOf(shared: SharedFilter): string {
  return `${shared.share.toString("utf8")}/${shared.filter.toString("utf8")}`; // a share name has no slash
}
