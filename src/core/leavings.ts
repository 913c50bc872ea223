/**
 * What those leave who go: the messages that wait for a session that ends or whose client went away.
 *
 *   client away     messages of share groups ─► members who are connected; the rest waits
 *   session ended   messages of share groups ─► other members; the rest is dropped, some thousand a turn
 */
import type { Delivery } from "./delivery.ts";
import { type MessagePool, MessageView } from "./message.ts";
import type { DropReason, Metrics } from "./metrics.ts";
import {
  DELIVERY,
  DELIVERY_QOS,
  DELIVERY_SENT,
  GROUP,
  IDS,
  type Lane,
  MESSAGE,
  type Outbox,
  type Ring,
  SEQ,
} from "./outbox.ts";
import type { Store } from "./ports.ts";
import type { Priorities } from "./priorities.ts";
import { ANY_MEMBER, CONNECTED, type Router } from "./router.ts";
import type { SessionTable } from "./session-table.ts";

/** Some tenths of a millisecond; a million at once would stop the loop for a tenth of a second. */
const DROPPED_PER_TURN = 2000;

export interface LeavingsParts {
  readonly messages: MessagePool;
  readonly sessions: SessionTable;
  readonly metrics: Metrics;
  readonly delivery: Delivery;
  readonly router: Router;
  readonly store: Store;
  readonly priorities: Priorities | null;
}

export class Leavings {
  private readonly messages: MessagePool;
  private readonly sessions: SessionTable;
  private readonly metrics: Metrics;
  private readonly delivery: Delivery;
  private readonly router: Router;
  private readonly store: Store;
  private readonly priorities: Priorities | null;
  private readonly stored = new MessageView();

  /** `later` gets what is left of a long piece of work, for the next turn. */
  constructor(
    parts: LeavingsParts,
    private readonly later: (task: () => void) => void,
  ) {
    this.messages = parts.messages;
    this.sessions = parts.sessions;
    this.metrics = parts.metrics;
    this.delivery = parts.delivery;
    this.router = parts.router;
    this.store = parts.store;
    this.priorities = parts.priorities;
  }

  /** Offers a message of a member that leaves to the others; false when none takes it. */
  private redispatch(message: number, group: number, session: number, leastReady: number): boolean {
    const view = this.stored;
    this.messages.load(message, view);
    this.delivery.kept = message;
    this.delivery.lane = this.priorities === null ? 0 : this.priorities.laneOf(view);
    if (!this.router.dispatch(view, group, session, leastReady)) return false;
    this.metrics.add("messages.redispatched");
    return true;
  }

  /** Frees everything a session has waiting in memory; messages that came through a share group go to its other members. */
  discard(session: number, isGroupAlive: (group: number) => boolean): void {
    const queue = this.sessions.queueOf(session);
    if (queue === null) return;
    const { inflight, outbox } = queue;
    for (let i = 0; i < inflight.positions; i++) {
      if (inflight.packetIdAt(i) === 0) continue;
      // A QoS 2 message that was sent may have arrived: it must go to nobody else. [MQTT-4.8.2-5]
      const delivery = inflight.field(i, DELIVERY);
      const mayMove = (delivery & DELIVERY_QOS) === 1 || (delivery & DELIVERY_SENT) === 0;
      const isFree = mayMove && isGroupAlive(inflight.field(i, GROUP));
      this.store.forget(inflight.field(i, SEQ), inflight.field(i, MESSAGE));
      this.discardOne(
        session,
        inflight.field(i, MESSAGE),
        inflight.field(i, IDS),
        isFree ? inflight.field(i, GROUP) : -1,
      );
    }
    const client = this.delivery.clientOf(session);
    for (const { head, tail } of outbox.lanes) {
      for (const ring of [head, tail]) {
        if (ring.groupedCount === 0) this.discardPart(client, ring);
        else this.discardRing(session, ring, isGroupAlive);
      }
    }
  }

  /** What waited for a session that is gone, and for nobody else. */
  private discardPart(client: string | undefined, ring: Ring): void {
    for (let left = DROPPED_PER_TURN; left > 0 && ring.count > 0; left--) {
      const message = ring.at(0, MESSAGE);
      const ids = ring.at(0, IDS);
      this.store.forget(ring.at(0, SEQ), message);
      ring.shift();
      const isExpired = this.messages.expiryOf(message) <= this.delivery.nowSec;
      this.messages.load(message, this.stored);
      this.delivery.dropFor(client, isExpired ? "expired" : "session_ended", this.stored);
      this.delivery.free(message, ids);
    }
    if (ring.count > 0) this.later(() => this.discardPart(client, ring));
  }

  private discardRing(session: number, ring: Ring, isGroupAlive: (group: number) => boolean): void {
    for (let i = 0; i < ring.count; i++) {
      const group = ring.at(i, GROUP);
      this.store.forget(ring.at(i, SEQ), ring.at(i, MESSAGE));
      this.discardOne(session, ring.at(i, MESSAGE), ring.at(i, IDS), isGroupAlive(group) ? group : -1);
    }
  }

  /** A message of a session that has ended: to another member of its share group if that is alive (else −1), or dropped. */
  discardOne(session: number, message: number, ids: number, group: number): void {
    const isExpired = this.messages.expiryOf(message) <= this.delivery.nowSec;
    if (isExpired || group < 0 || !this.redispatch(message, group, session, ANY_MEMBER)) {
      this.messages.load(message, this.stored);
      this.delivery.drop(isExpired ? "expired" : "session_ended", session, this.stored);
    }
    this.delivery.free(message, ids);
  }

  /** A message is dropped that is not in its session's queue any more; its reference goes. `client` as in `Delivery.dropFor`. */
  dropStored(reason: DropReason, client: string | undefined, message: number): void {
    this.messages.load(message, this.stored);
    this.delivery.dropFor(client, reason, this.stored);
    this.messages.release(message);
  }

  /** Waiting messages that came through a share group go to members who are connected; what none takes stays. */
  handOver(session: number, isOffered: (group: number) => boolean): void {
    const queue = this.sessions.queueOf(session);
    if (queue === null) return;
    this.router.isForStored = this.sessions.isStored[session] !== 0;
    for (const lane of queue.outbox.lanes) {
      this.handOverRing(session, queue.outbox, lane, lane.head, isOffered);
      this.handOverRing(session, queue.outbox, lane, lane.tail, isOffered);
    }
    this.router.isForStored = false;
  }

  private handOverRing(
    session: number,
    outbox: Outbox,
    lane: Lane,
    ring: Ring,
    isOffered: (group: number) => boolean,
  ): void {
    if (ring.groupedCount === 0) return;
    for (let left = ring.count; left > 0; left--) {
      const message = ring.at(0, MESSAGE);
      const delivery = ring.at(0, DELIVERY);
      const ids = ring.at(0, IDS);
      const group = ring.at(0, GROUP);
      const seq = ring.at(0, SEQ);
      ring.shift();
      const isExpired = this.messages.expiryOf(message) <= this.delivery.nowSec;
      if (group >= 0 && isOffered(group) && !isExpired && this.redispatch(message, group, session, CONNECTED)) {
        outbox.count--;
        outbox.bytes -= this.messages.bytesOf(message);
        lane.memoryBytes -= this.messages.bytesOf(message);
        if (ring === lane.tail) lane.tailBytes -= this.messages.bytesOf(message);
        if (this.sessions.isStored[session] !== 0) this.store.withdraw(session, seq, message);
        this.delivery.free(message, ids);
      } else {
        ring.push(message, delivery, ids, group, seq);
      }
    }
  }
}
