/**
 * Points where others may watch, change or stop what happens. A point nobody listens to costs one comparison.
 * Listeners run in order of priority, lowest first, synchronously; those of equal priority in order of arrival.
 */
import type { HookMessage } from "./hook-message.ts";
import type { DropReason } from "./metrics.ts";
import type { ClientInfo } from "./ports.ts";

export class HookPoint<A extends unknown[]> {
  private listeners: { priority: number; call: (...args: A) => unknown }[] = [];

  get isUsed(): boolean {
    return this.listeners.length !== 0;
  }

  /** Adds a listener; the function returned takes it off again. */
  add(call: (...args: A) => unknown, priority = 0): () => void {
    const listener = { priority, call };
    const at = this.listeners.findIndex((other) => other.priority > priority);
    this.listeners = at < 0 ? [...this.listeners, listener] : this.listeners.toSpliced(at, 0, listener);
    return () => {
      this.listeners = this.listeners.filter((other) => other !== listener);
    };
  }

  /** Calls the listeners until one answers `false`; true when none did. */
  run(...args: A): boolean {
    for (const listener of this.listeners) if (listener.call(...args) === false) return false;
    return true;
  }
}

export class Hooks {
  readonly clientConnected = new HookPoint<[client: ClientInfo]>();
  /** Access refused a CONNECT (`topic` undefined), a PUBLISH or a filter of a SUBSCRIBE. */
  readonly clientDenied = new HookPoint<
    [client: ClientInfo, action: "connect" | "publish" | "subscribe", topic: string | undefined, reasonCode: number]
  >();
  readonly clientDisconnected = new HookPoint<[client: ClientInfo, reasonCode: number]>();
  readonly sessionCreated = new HookPoint<[clientId: string]>();
  readonly sessionResumed = new HookPoint<[clientId: string]>();
  readonly sessionEnded = new HookPoint<[clientId: string]>();
  readonly sessionSubscribed = new HookPoint<[clientId: string, filter: string, qos: number]>();
  readonly sessionUnsubscribed = new HookPoint<[clientId: string, filter: string]>();
  /** May change the message; `false` stops it: it is acknowledged and goes nowhere. */
  readonly messagePublish = new HookPoint<[message: HookMessage]>();
  readonly messageDelivered = new HookPoint<[clientId: string, message: HookMessage]>();
  readonly messageAcked = new HookPoint<[clientId: string, packetId: number]>();
  /** `clientId` is undefined when nobody was to get the message. */
  readonly messageDropped = new HookPoint<[clientId: string | undefined, reason: DropReason, message: HookMessage]>();
}
