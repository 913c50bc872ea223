/** Which retained messages are kept, and until when: the policy above retained.ts. */
import type { TimerWheel } from "#base/timer-wheel.ts";
import type { Hooks } from "./hooks.ts";
import type { Limits } from "./limits.ts";
import { type MessagePool, MessageView, NEVER } from "./message.ts";
import type { Metrics } from "./metrics.ts";
import { isAskedFor } from "./peer-mark.ts";
import type { Store } from "./ports.ts";
import type { RetainedIndex } from "./retained.ts";

export interface RetainedKeeperParts {
  readonly limits: Limits;
  readonly messages: MessagePool;
  readonly retainedIndex: RetainedIndex;
  readonly metrics: Metrics;
  readonly hooks: Hooks;
  readonly timers: TimerWheel;
  readonly store: Store;
  readonly nowMs: number;
  readonly nowSec: number;
  readonly lifeFromSec: number;
  addTimerKind(fire: (owner: number) => void): number;
  noteSeq(seq: number): void;
}

/** Removals that are remembered; an older value overtaken by so many removals would stay. */
const REMOVED_MAX = 65_536;

export class RetainedKeeper {
  private readonly expiryKind: number;
  private readonly expired = new MessageView();
  /** Stamps of values that were removed, by topic, oldest first: an older value that comes later must not bring them back. */
  private readonly removed = new Map<string, number>();

  constructor(private readonly parts: RetainedKeeperParts) {
    this.expiryKind = parts.addTimerKind((node) => this.expire(node));
  }

  /**
   * Keeps a retained message, or forgets the topic's value when it is empty. Returns the pool's copy, of which one
   * reference is the caller's, or −1.
   */
  retain(view: MessageView): number {
    const { limits, messages, retainedIndex } = this.parts;
    const { countMax, payloadBytesMax, expirySec } = limits.retained;
    const known = retainedIndex.find(view.bytes, view.topicStart, view.topicEnd);
    if (view.valueStamp > 0 && this.isOld(view, known)) return -1;
    if (known >= 0) this.disarm(known);
    if (view.payloadStart === view.payloadEnd) {
      if (known >= 0) retainedIndex.remove(known); // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
      if (view.valueStamp > 0) this.keepRemoval(view);
      else if (known >= 0) this.note(view, -1, 0);
      return -1;
    }
    if (view.payloadEnd - view.payloadStart > payloadBytesMax) return this.refuse("retained_too_large", view, known);
    if (known < 0 && retainedIndex.count >= countMax) return this.refuse("retained_full", view, known);
    const lifeSec = this.parts.hooks.messageRetain.isUsed ? this.askHooks(view) : expirySec;
    if (lifeSec < 0) return this.refuse("stopped_by_hook", view, known);
    const message = messages.keep(view);
    if (message < 0) return this.refuse("memory_full", view, known);
    const node = retainedIndex.set(view, message); // [MQTT-3.3.1-5]
    const own = lifeSec > 0 ? this.parts.lifeFromSec + lifeSec : NEVER;
    const deadlineSec = view.expiryAtSec === NEVER ? own : view.expiryAtSec;
    this.arm(node, deadlineSec);
    this.note(view, message, deadlineSec);
    messages.addReference(message);
    return message;
  }

  release(message: number): void {
    this.parts.messages.release(message);
  }

  /** Visits the values, and those without payload that say of one that it was removed, for which another process asks by `mark`. */
  visitValues(mark: number, node: number, visit: (view: MessageView) => void): void {
    this.visitFrom(0, (view) => {
      if (isAskedFor(view.valueStamp, mark, node)) visit(view);
      return true;
    });
    for (const removal of this.removed) if (isAskedFor(removal[1], mark, node)) this.visitRemoval(removal, visit);
  }

  /** Visits values from a place in the table on, as long as `visit` answers true. Returns the place to go on from. */
  visitFrom(start: number, visit: (view: MessageView) => boolean): number {
    const { retainedIndex } = this.parts;
    const view = new MessageView();
    for (let at = start; at < retainedIndex.high; at++) {
      if (!retainedIndex.holds(at)) continue;
      retainedIndex.load(at, view);
      view.valueStamp = retainedIndex.valueStamp[at];
      if (!visit(view)) return at + 1;
    }
    return retainedIndex.high;
  }

  /** Topics whose value was removed, and the stamps of that. */
  removals(): [topic: string, stamp: number][] {
    return [...this.removed];
  }

  visitRemoval([topic, stamp]: readonly [topic: string, stamp: number], visit: (view: MessageView) => void): void {
    const bytes = Buffer.from(topic, "latin1");
    const view = new MessageView();
    view.reset(bytes, bytes.length);
    view.isRetain = true;
    view.valueStamp = stamp;
    visit(view);
  }

  /** Forgets a topic's value and tells no subscriber; false when there is none. */
  forget(topic: Buffer): boolean {
    const node = this.parts.retainedIndex.find(topic, 0, topic.length);
    if (node < 0) return false;
    this.disarm(node);
    this.parts.retainedIndex.load(node, this.expired);
    this.remove(this.expired, node);
    return true;
  }

  /** This value of a topic is here, or a newer one, or that it was removed since. */
  isKnown(view: MessageView): boolean {
    const { retainedIndex } = this.parts;
    const known = retainedIndex.find(view.bytes, view.topicStart, view.topicEnd);
    const stamp = known >= 0 ? retainedIndex.valueStamp[known] : (this.removed.get(topicOf(view)) ?? 0);
    return stamp >= view.valueStamp;
  }

  /** Another process's value is greater. */
  private isOld(view: MessageView, known: number): boolean {
    if (known >= 0) return this.parts.retainedIndex.valueStamp[known] > view.valueStamp;
    if (this.removed.size === 0) return false;
    const topic = topicOf(view);
    if ((this.removed.get(topic) ?? 0) > view.valueStamp) return true;
    this.removed.delete(topic);
    return false;
  }

  /** The store keeps it too, as a value without payload: the older value may come after the next start. */
  private keepRemoval(view: MessageView): void {
    const { messages } = this.parts;
    this.noteRemoved(topicOf(view), view.valueStamp);
    if (this.parts.store.isVolatile) return;
    const message = messages.keep(view);
    this.note(view, message, NEVER);
    if (message >= 0) messages.release(message);
  }

  private noteRemoved(topic: string, stamp: number): void {
    this.removed.delete(topic);
    this.removed.set(topic, stamp);
    if (this.removed.size <= REMOVED_MAX) return;
    const [oldest] = this.removed.keys();
    this.removed.delete(oldest);
    const bytes = Buffer.from(oldest, "latin1");
    const view = new MessageView();
    view.reset(bytes, bytes.length);
    this.note(view, -1, 0);
  }

  /** Seconds that a message which says nothing itself is kept, 0 for ever; −1: not at all. */
  private askHooks(view: MessageView): number {
    const payloadBytes = view.payloadEnd - view.payloadStart;
    const attempt = { topic: view.topicText(), payloadBytes, expirySec: this.parts.limits.retained.expirySec };
    return this.parts.hooks.messageRetain.run(attempt) ? attempt.expirySec : -1;
  }

  private arm(node: number, deadlineSec: number): void {
    if (deadlineSec === NEVER) return;
    const { nowMs, lifeFromSec, timers, retainedIndex } = this.parts;
    retainedIndex.timer[node] = timers.arm(nowMs + (deadlineSec - lifeFromSec) * 1000, this.expiryKind, node);
  }

  private disarm(node: number): void {
    const { retainedIndex, timers } = this.parts;
    if (retainedIndex.timer[node] >= 0) timers.cancel(retainedIndex.timer[node]);
    retainedIndex.timer[node] = -1;
  }

  private expire(node: number): void {
    const { retainedIndex } = this.parts;
    retainedIndex.timer[node] = -1;
    retainedIndex.load(node, this.expired);
    const stamp = retainedIndex.valueStamp[node];
    if (stamp > 0) this.noteRemoved(topicOf(this.expired), stamp);
    this.remove(this.expired, node);
  }

  /** An old value must not stand for the new one that could not be kept. */
  private refuse(
    reason: "retained_full" | "retained_too_large" | "memory_full" | "stopped_by_hook",
    view: MessageView,
    known: number,
  ): number {
    this.parts.metrics.add(`retained.refused.${reason}`);
    if (known >= 0) this.remove(view, known);
    return -1;
  }

  private remove(view: MessageView, node: number): void {
    this.note(view, -1, 0);
    this.parts.retainedIndex.remove(node);
  }

  private note(view: MessageView, message: number, deadlineSec: number): void {
    if (!this.parts.store.isVolatile) this.parts.noteSeq(this.parts.store.retain(view, message, deadlineSec));
  }

  /**
   * Keeps a value that a store had, unless its time is over or a newer one came meanwhile; the reference is the keeper's. False
   * when there is no value.
   */
  restore(view: MessageView, message: number, deadlineSec: number): boolean {
    const { nowSec, retainedIndex } = this.parts;
    const isOver = deadlineSec <= nowSec;
    if (retainedIndex.find(view.bytes, view.topicStart, view.topicEnd) >= 0) return this.restoreNone(message);
    if (view.valueStamp > 0 && (isOver || view.payloadStart === view.payloadEnd)) {
      this.noteRemoved(topicOf(view), view.valueStamp);
    }
    if (isOver) this.note(view, -1, 0);
    if (isOver || view.payloadStart === view.payloadEnd) return this.restoreNone(message);
    this.arm(retainedIndex.set(view, message), deadlineSec);
    return true;
  }

  private restoreNone(message: number): false {
    this.parts.messages.release(message);
    return false;
  }
}

function topicOf({ bytes, topicStart, topicEnd }: MessageView): string {
  return bytes.toString("latin1", topicStart, topicEnd);
}
