/**
 * Wills over crashes: kept with their sessions, sent once when their time has come, and not after their client is back.
 * Routing is seen by a hook, in runs that have it.
 */
import { type ClientRecord, WillRecord } from "./crash-records.ts";
import { type ConnectInput, type Message, Violation } from "./model.ts";

/** The wheel's ticks, and a store that counts in seconds. */
const TIMER_SLACK_MS = 2500;

export abstract class CrashWills {
  /** Calls into the broker so far. */
  event = 0;
  /** Starts of the broker so far, and when the last had restored what the disk had. */
  life = 0;
  readyMs = 0;
  nowMs = 0;
  willGraceSec = 0;
  /** The hook is there: what is routed is seen. */
  seesRoutes = false;
  private readonly wills = new Map<Message, WillRecord>();
  requiredWillCount = 0;

  abstract readonly clients: ReadonlyMap<string, ClientRecord>;

  protected giveWill({ message, delaySec }: NonNullable<ConnectInput["will"]>, isKept: boolean): WillRecord {
    const will = new WillRecord(message, delaySec, this.event, this.life, isKept);
    this.wills.set(message, will);
    return will;
  }

  protected refuseWill(message: Message): void {
    const will = this.wills.get(message);
    if (will) will.isRefused = true;
  }

  /** Hook: the broker routes a will. */
  onWillRouted(message: Message): void {
    const will = this.wills.get(message);
    const complain = (what: string): never => {
      throw new Violation(`the will ${message.no} of ${message.publisher} is published ${what}`);
    };
    if (!will) return complain("and was never given");
    if (will.isSuperseded) return complain("after its client was back");
    if (will.routedIn.has(this.life)) return complain("twice");
    const isHere = will.life === this.life;
    if (isHere && will.isDiscarded) return complain("after DISCONNECT");
    will.routedIn.add(this.life);
    // A client that is on its way back may end its old session, and an expiry does: then it is due at once.
    if (!will.isKept || isHere || this.clients.get(message.publisher)!.followedIn === this.life) return;
    const dueMs = this.earliestMs(will);
    if (this.nowMs < dueMs - TIMER_SLACK_MS) complain(`at ${this.nowMs}, due at ${dueMs}`);
  }

  /** The broker has restored what the disk had. */
  onReady(): void {
    this.readyMs = this.nowMs;
    for (const will of this.wills.values())
      if (will.life < this.life) will.restoredMs = Math.min(will.restoredMs, this.nowMs);
  }

  /** When a will that outlived its broker is due. It may have been noted that its connection ended, or not. */
  private earliestMs({ lostMs, restoredMs, delaySec, life }: WillRecord): number {
    if (lostMs < Infinity) return lostMs + delaySec * 1000;
    return restoredMs + (life + 1 === this.life ? this.afterCrashSec(delaySec) : delaySec) * 1000;
  }

  private latestMs({ lostMs, delaySec, life }: WillRecord): number {
    if (life === this.life) return lostMs + delaySec * 1000;
    const noted = lostMs < Infinity ? lostMs + delaySec * 1000 : 0;
    return Math.max(noted, this.readyMs + this.afterCrashSec(delaySec) * 1000);
  }

  private afterCrashSec(delaySec: number): number {
    return Math.max(delaySec, this.willGraceSec);
  }

  /** The client's next CONNECT reaches the broker: a will whose time had come was published. Returns it, or undefined. */
  protected follow(client: ClientRecord): WillRecord | undefined {
    const { will } = client;
    client.will = undefined;
    client.followedIn = this.life;
    if (!will) return undefined;
    const isDue = this.nowMs > this.latestMs(will) + TIMER_SLACK_MS && !will.isRefused;
    if (!isDue || !will.isConfirmed || !will.isKept || will.isDiscarded || !this.seesRoutes) return undefined;
    const { message, routedIn } = will;
    this.requiredWillCount++;
    if (routedIn.size > 0) return message.expirySec === undefined ? will : undefined;
    throw new Violation(`the will ${message.no} of ${client.id} was due at ${this.latestMs(will)} and has not come`);
  }

  /** CONNACK is out: what the client left behind before must not be published any more. */
  protected supersede(clientId: string, heardAt: number): void {
    for (const will of this.wills.values()) {
      if (will.askedAt < heardAt && will.message.publisher === clientId) will.isSuperseded = true;
    }
  }
}
