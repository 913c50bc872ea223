/**
 * Sessions in columns. A session's number is that of its client id in the table of ids, so finding it is one probe.
 *
 *   columns   sink, queue, epoch, expirySec, expiryTimer, createdSec, subscriptionCount, isStored, isPeer
 *   queue     made when the session first needs it: outbox, inflight, receipts
 *
 * An idle, subscribed session without queue costs about 50 bytes here and its client id.
 */
import type { BlockPool } from "#base/block-pool.ts";
import { ByteTable } from "#base/byte-table.ts";
import { grown, hashBytes } from "#base/bytes.ts";
import { U16Set } from "#base/u16-set.ts";
import { Inflight } from "./inflight.ts";
import { Outbox } from "./outbox.ts";
import type { Sink } from "./ports.ts";

/** What a session has under way. */
export class SessionQueue {
  readonly outbox: Outbox = new Outbox();
  readonly inflight: Inflight = new Inflight();
  /** QoS 2 packet ids received and not released. Made when needed. */
  receipts: U16Set | null = null;
  /** Timer of retransmission for 3.x, or -1, and the oldest packet id when it was armed. */
  retryTimer = -1;
  retryId = 0;
  droppedCount = 0;
  /** What was in flight when the broker stopped, as the store has it, until the client is back. */
  stored: Buffer | null = null;
  storedCount = 0;

  /** What is in flight must be fetched before the client may have it. */
  get isOnDisk(): boolean {
    return this.stored !== null;
  }

  /** Something could be sent when the window or the link allows. */
  get hasWaiting(): boolean {
    return this.outbox.count > 0 || this.inflight.sentCount !== this.inflight.count;
  }
}

export class SessionTable {
  private readonly ids: ByteTable;
  /** The connection that holds the session, or null while its client is away. */
  readonly sinks: (Sink | null)[] = [];
  private readonly queues: (SessionQueue | null)[] = [];
  epoch = new Uint32Array(32);
  expirySec = new Uint32Array(32);
  expiryTimer = new Int32Array(32);
  createdSec = new Uint32Array(32);
  subscriptionCount = new Uint32Array(32);
  /** Sessions that have a subscription. */
  subscriberCount = 0;
  /** 1 when the store has the session. */
  isStored = new Uint8Array(32);
  /** 1 when it stands for another process of this broker. */
  isPeer = new Uint8Array(32);

  constructor(
    pool: BlockPool,
    private readonly seed: number,
  ) {
    this.ids = new ByteTable(pool);
  }

  get count(): number {
    return this.ids.count;
  }

  /** Session numbers are below this. */
  get high(): number {
    return this.sinks.length;
  }

  /** True while a session has the number. */
  has(session: number): boolean {
    return this.ids.has(session);
  }

  find(clientId: Buffer): number {
    return this.ids.find(clientId, 0, clientId.length, this.hash(clientId));
  }

  create(clientId: Buffer, createdSec: number): number {
    const session = this.ids.add(clientId, 0, clientId.length, this.hash(clientId));
    if (session >= this.epoch.length) this.grow();
    this.sinks[session] = null;
    this.queues[session] = null;
    this.epoch[session] = 0;
    this.expirySec[session] = 0;
    this.expiryTimer[session] = -1;
    this.createdSec[session] = createdSec;
    this.subscriptionCount[session] = 0;
    this.isStored[session] = 0;
    this.isPeer[session] = 0;
    return session;
  }

  remove(session: number): void {
    this.ids.remove(session);
    this.sinks[session] = null;
    this.queues[session] = null;
  }

  clientId(session: number): string {
    return this.ids.textOf(session);
  }

  /** Hash of the client id, never 0. */
  keyOf(session: number): number {
    return this.ids.hashOf(session) || 1;
  }

  addSubscription(session: number): void {
    if (this.subscriptionCount[session]++ === 0) this.subscriberCount++;
  }

  removeSubscription(session: number): void {
    if (--this.subscriptionCount[session] === 0) this.subscriberCount--;
  }

  /** Outlives its connection. */
  isPersistent(session: number): boolean {
    return this.expirySec[session] > 0;
  }

  queueOf(session: number): SessionQueue | null {
    return this.queues[session];
  }

  queueFor(session: number): SessionQueue {
    return (this.queues[session] ??= new SessionQueue());
  }

  receiptsFor(session: number): U16Set {
    return (this.queueFor(session).receipts ??= new U16Set());
  }

  private hash(clientId: Buffer): number {
    return hashBytes(clientId, 0, clientId.length, this.seed);
  }

  private grow(): void {
    const capacity = this.ids.capacity;
    this.epoch = grown(this.epoch, capacity);
    this.expirySec = grown(this.expirySec, capacity);
    this.expiryTimer = grown(this.expiryTimer, capacity);
    this.createdSec = grown(this.createdSec, capacity);
    this.subscriptionCount = grown(this.subscriptionCount, capacity);
    this.isStored = grown(this.isStored, capacity);
    this.isPeer = grown(this.isPeer, capacity);
  }
}
