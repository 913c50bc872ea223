/** SUBSCRIBE and UNSUBSCRIBE: filters judged one by one, share groups joined and left, retained messages looked up. */
import type { Hooks } from "./hooks.ts";
import type { Leavings } from "./leavings.ts";
import type { Limits } from "./limits.ts";
import type { Fabric, Retained, Store } from "./ports.ts";
import type { Router } from "./router.ts";
import type { SessionTable } from "./session-table.ts";
import type { ShareGroups } from "./share-group.ts";
import { PEER, QOS_MASK, RETAIN_AS_PUBLISHED, RETAIN_HANDLING_SHIFT, type TopicIndex } from "./topic-index.ts";
import { isShared, isTopicFilter, parseShared } from "./topic.ts";

export interface SubscribeItem {
  readonly filter: Buffer;
  /** The options byte of SUBSCRIBE (MQTT 5.0 §3.8.3.1); for 3.x the QoS. */
  readonly options: number;
  /** Subscription Identifier, 0 for none. */
  readonly id: number;
}

/** 5.0 reason codes of SUBACK and UNSUBACK. */
const NO_SUBSCRIPTION_EXISTED = 0x11;
const FILTER_INVALID = 0x8f;
const QUOTA_EXCEEDED = 0x97;

const noFilter = Buffer.alloc(0);

const SEND_IF_NEW = 1;
const DO_NOT_SEND = 2;

export interface SubscriptionParts {
  readonly limits: Limits;
  readonly index: TopicIndex;
  readonly sessions: SessionTable;
  readonly groups: ShareGroups;
  readonly hooks: Hooks;
  readonly store: Store;
  readonly fabric: Fabric;
  readonly router: Router;
  readonly leavings: Leavings;
  /** Told the store's number of each change. */
  noteSeq(seq: number): void;
}

export class Subscriptions {
  constructor(private readonly parts: SubscriptionParts) {}

  /** Completes with one code an item when every new filter is known wherever it must be. */
  add(
    session: number,
    items: readonly SubscribeItem[],
    retained: Retained,
    complete: (codes: Uint8Array) => void,
  ): void {
    const codes = new Uint8Array(items.length);
    let waiting = 1;
    const done = (): void => {
      if (--waiting === 0) complete(codes);
    };
    items.forEach((item, i) => {
      const { fabric, sessions } = this.parts;
      const before = sessions.subscriptionCount[session];
      codes[i] = this.addOne(session, item, retained);
      if (codes[i] >= 0x80 || fabric.isLocal) return;
      waiting++;
      fabric.announce(this.nameOf(item.filter), sessions.subscriptionCount[session] > before, done);
    });
    done();
  }

  /** A filter as the other processes know it: of the two forms of one share group the same. */
  private nameOf(filter: Buffer): Buffer {
    const shared = isShared(filter) ? parseShared(filter) : undefined;
    return shared ? this.parts.groups.filterOf(this.parts.groups.find(shared)) : filter;
  }

  /** Whether a session has a subscription to exactly this filter. */
  has(session: number, filter: Buffer): boolean {
    const shared = isShared(filter) ? parseShared(filter) : undefined;
    if (!shared) return !isShared(filter) && this.parts.index.find(session, filter) >= 0;
    const group = this.parts.groups.find(shared);
    return group >= 0 && this.parts.index.findMember(session, group) >= 0;
  }

  /** One code a filter. */
  remove(session: number, filters: readonly Buffer[]): Uint8Array {
    return Uint8Array.from(filters, (filter) => this.removeOne(session, filter));
  }

  removeAll(session: number): void {
    const { index } = this.parts;
    for (let sub = index.firstOfSession(session); sub >= 0; sub = index.firstOfSession(session))
      this.drop(session, sub);
  }

  private addOne(session: number, item: SubscribeItem, retained: Retained): number {
    const { limits, index, sessions, hooks } = this.parts;
    const shared = isShared(item.filter) ? parseShared(item.filter) : undefined;
    const filter = shared ? shared.filter : item.filter;
    if (isShared(item.filter) && !shared) return FILTER_INVALID;
    if (!isTopicFilter(filter, 0, filter.length, limits.mqtt)) return FILTER_INVALID;
    if (!this.parts.store.isWritable && sessions.isStored[session] !== 0) return QUOTA_EXCEEDED;
    const qos = Math.min(item.options & QOS_MASK, limits.mqtt.qosMax);
    const options = (item.options & ~QOS_MASK) | qos;
    const group = shared ? this.parts.groups.find(shared) : -1;
    let sub = shared ? (group < 0 ? -1 : index.findMember(session, group)) : index.find(session, filter);
    const isNew = sub < 0;
    if (isNew && sessions.subscriptionCount[session] >= limits.session.subscriptionCountMax) return QUOTA_EXCEEDED;
    if (!isNew) {
      index.change(sub, options, item.id); // [MQTT-3.8.4-3]
    } else if (shared) {
      sub = this.join(session, this.parts.groups.ensure(shared), options, item.id);
    } else {
      sub = index.add(session, filter, options, item.id);
    }
    if (isNew) sessions.addSubscription(session);
    this.note("subscribed", session, sub);
    if (hooks.sessionSubscribed.isUsed) {
      hooks.sessionSubscribed.run(sessions.clientId(session), item.filter.toString(), qos);
    }
    const handling = (item.options >> RETAIN_HANDLING_SHIFT) & 3;
    const isWanted = !shared && handling !== DO_NOT_SEND && (isNew || handling !== SEND_IF_NEW); // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    if (isWanted) this.lookUp(session, Buffer.from(filter), { sub, options, id: item.id }, retained);
    return qos; // [MQTT-3.8.4-7]
  }

  /** A subscription as a store had it; its filter was valid when it was made. */
  restore(session: number, { filter, options, id }: SubscribeItem): void {
    const shared = isShared(filter) ? parseShared(filter) : undefined;
    if (shared) this.join(session, this.parts.groups.ensure(shared), options, id);
    else this.parts.index.add(session, Buffer.from(filter), options, id);
    this.parts.sessions.addSubscription(session);
    if (!this.parts.fabric.isLocal) this.parts.fabric.announce(this.nameOf(filter), true, () => {});
  }

  /** A session's client has come or gone: other processes hear how many members of its share groups are there. */
  noteLink(session: number, isConnected: boolean): void {
    const { index, groups, fabric } = this.parts;
    if (fabric.isLocal || groups.count === 0) return;
    for (let sub = index.firstOfSession(session); sub >= 0; sub = index.nextOf[sub]) {
      const group = index.groupOf(sub);
      if (group >= 0 && (index.options[sub] & PEER) === 0) this.weigh(group, isConnected ? 1 : -1);
    }
  }

  private weigh(group: number, change: number): void {
    const { groups, fabric } = this.parts;
    const entry = groups.get(group);
    entry.connectedCount += change;
    fabric.weigh(groups.filterOf(group), entry.connectedCount);
  }

  /**
   * Another process of this broker wants messages of this filter, a shared one for members there of which `connectedCount` are
   * connected. They are sent to its session, whose subscriptions no store keeps: it says them again when it comes back. Returns the
   * subscription.
   */
  addPeer(session: number, filter: Buffer, connectedCount: number): number {
    const { index, groups } = this.parts;
    const shared = isShared(filter) ? parseShared(filter) : undefined;
    const options = PEER | RETAIN_AS_PUBLISHED | 2;
    if (!shared) {
      const sub = index.find(session, filter);
      return sub < 0 ? index.add(session, filter, options, 0) : sub;
    }
    const group = groups.ensure(shared);
    const known = groups.memberOf(group, session);
    const sub = known < 0 ? index.addMember(session, group, options, 0) : known;
    index.id[sub] = connectedCount; // see router.ts
    groups.setWeight(group, sub, Math.max(connectedCount, 1));
    return sub;
  }

  /** It does not want them any more. */
  removePeer(session: number, filter: Buffer): void {
    const { index, groups } = this.parts;
    const shared = isShared(filter) ? parseShared(filter) : undefined;
    const group = shared ? groups.find(shared) : -1;
    const sub = shared ? (group < 0 ? -1 : groups.memberOf(group, session)) : index.find(session, filter);
    if (sub >= 0) this.dropPeer(session, sub);
  }

  /** Drops a subscription of a peer. */
  dropPeer(session: number, sub: number): void {
    const { index, groups } = this.parts;
    const group = index.groupOf(sub);
    if (group >= 0) groups.setWeight(group, sub, 0);
    index.remove(sub);
    if (group >= 0 && groups.has(group)) this.parts.leavings.handOver(session, (other) => other === group);
  }

  private join(session: number, group: number, options: number, id: number): number {
    const { index, groups, sessions, fabric } = this.parts;
    const sub = index.addMember(session, group, options, id);
    groups.join(group, sub);
    if (!fabric.isLocal && sessions.sinks[session] !== null) this.weigh(group, 1);
    return sub;
  }

  private lookUp(
    session: number,
    filter: Buffer,
    wish: { sub: number; options: number; id: number },
    retained: Retained,
  ): void {
    const epoch = this.parts.sessions.epoch[session];
    retained.lookUp(filter, (cursor) => {
      if (this.parts.sessions.epoch[session] !== epoch) return cursor.close();
      const { sub: subscription, options, id } = wish;
      this.parts.router.addReplay(session, { cursor, subscription, options, id });
    });
  }

  private removeOne(session: number, filter: Buffer): number {
    const { index, groups, hooks } = this.parts;
    const shared = isShared(filter) ? parseShared(filter) : undefined;
    if (filter.length === 0 || (isShared(filter) && !shared)) return FILTER_INVALID;
    if (!isTopicFilter(shared?.filter ?? filter, 0, (shared?.filter ?? filter).length, this.parts.limits.mqtt)) {
      return FILTER_INVALID;
    }
    const group = shared ? groups.find(shared) : -1;
    const sub = shared ? (group < 0 ? -1 : index.findMember(session, group)) : index.find(session, filter);
    if (sub < 0) return NO_SUBSCRIPTION_EXISTED; // [MQTT-3.10.4-5]
    this.drop(session, sub); // [MQTT-3.10.4-1]
    if (hooks.sessionUnsubscribed.isUsed) {
      hooks.sessionUnsubscribed.run(this.parts.sessions.clientId(session), filter.toString());
    }
    return 0;
  }

  private drop(session: number, sub: number): void {
    const { index, groups, fabric } = this.parts;
    if ((index.options[sub] & PEER) !== 0) return this.dropPeer(session, sub);
    const group = index.groupOf(sub);
    const filter = fabric.isLocal ? noFilter : group < 0 ? index.filterOf(sub) : groups.filterOf(group);
    this.parts.router.dropReplays(session, sub);
    this.note("unsubscribed", session, sub);
    index.remove(sub);
    if (group >= 0) this.leave(session, group, sub);
    this.parts.sessions.removeSubscription(session);
    if (!fabric.isLocal) fabric.withdraw(filter);
  }

  /** What waits for a member that leaves goes to those who stay. */
  private leave(session: number, group: number, sub: number): void {
    const { groups, sessions, fabric } = this.parts;
    if (!fabric.isLocal && sessions.sinks[session] !== null) this.weigh(group, -1);
    groups.leave(group, sub);
    if (groups.has(group)) this.parts.leavings.handOver(session, (other) => other === group);
  }

  private note(record: "subscribed" | "unsubscribed", session: number, sub: number): void {
    if (this.parts.sessions.isStored[session] === 0) return;
    this.parts.noteSeq(this.parts.store.append(record, session, sub));
  }
}
