/** Bugs to plant in the broker, each of which the simulation must find. Every change is undone by the function returned. */
import { Delivery } from "#core/delivery.ts";
import type { Opened } from "#core/engine.ts";
import { Inflight } from "#core/inflight.ts";
import { MessagePool } from "#core/message.ts";
import { RetainedIndex } from "#core/retained.ts";
import { Router } from "#core/router.ts";
import { Wills } from "#core/will.ts";
import { Connection } from "#mqtt/connection.ts";
import type { Plant } from "./world.ts";

export type Method = (this: never, ...args: never[]) => unknown;

/** Replaces a method until undone; `make` gets the original. A name that does not exist is a mistake in this file. */
export function patch(target: object, name: string, make: (original: Method) => Method): () => void {
  const original: unknown = Reflect.get(target, name);
  if (typeof original !== "function") throw new Error(`there is no ${name} to plant a bug in`);
  const isOwn = Object.hasOwn(target, name);
  Reflect.set(target, name, make(original as Method));
  return () => void (isOwn ? Reflect.set(target, name, original) : Reflect.deleteProperty(target, name));
}

export const nothing = (): Method => () => {};

/** Every third call does nothing. */
export const forgetful = (original: Method): Method => {
  let count = 0;
  return function (...args) {
    return ++count % 3 === 0 ? undefined : original.apply(this, args);
  };
};

const twice = (original: Method): Method =>
  function (...args) {
    original.apply(this, args);
    return original.apply(this, args);
  };

export const plants: Record<string, Plant> = {
  "a QoS 2 receipt is not kept": (engine) => patch(engine, "addReceipt", () => () => true),
  "nothing is sent again after a reconnect": () => patch(Inflight.prototype, "rewind", nothing),
  "a packet id is used again while in use": () => patch(Inflight.prototype, "isUsed", () => () => false),
  "packet ids begin anywhere": () =>
    patch(
      Inflight.prototype,
      "nextId",
      (original) =>
        function (...args) {
          return ((original.apply(this, args) as number) % 7) + 1;
        },
    ),
  "a share group's message goes to two members": () => patch(Router.prototype, "dispatch", twice),
  "an acknowledgement leaves before the commit": () =>
    patch(Connection.prototype, "afterCommit", () => (action: () => void) => action() as never),
  "some wills are forgotten": () => patch(Wills.prototype, "get", forgetful),
  "DISCONNECT does not discard the will": (engine) => patch(engine, "discardWill", nothing),
  "the match cache is not told of a change": (engine) => patch(engine.index, "onExactChange", nothing),
  "an acknowledgement does not make room": () => patch(Router.prototype, "pump", forgetful),
  "the window is one too large": () =>
    patch(
      Delivery.prototype,
      "canSend",
      () =>
        function (this: Delivery, queue, sink) {
          return sink !== null && sink.isWritable && queue.outbox.count === 0 && queue.inflight.used <= sink.windowMax;
        } as Delivery["canSend"] as Method,
    ),
  "some messages leak": () => patch(MessagePool.prototype, "release", forgetful),
  "an acknowledged retained message is lost": () => patch(RetainedIndex.prototype, "visit", forgetful),
  "the old connection is not ended by a take-over": () => patch(Connection.prototype, "end", nothing),
  "a drop is not reported": () =>
    patch(Delivery.prototype, "drop", (original) => {
      const quiet = forgetful(original);
      return function (...args) {
        quiet.apply(this, args);
        return false;
      };
    }),
  "a QoS 2 message leaves before its commit": (engine) => patch(engine.store, "isDurable", () => () => true),
  "PUBREL leaves before the commit of PUBREC": (engine) =>
    patch(
      engine,
      "receive",
      (original) =>
        function (...args) {
          const isKnown = original.apply(this, args);
          engine.delivery.storeSeq = 0;
          return isKnown;
        },
    ),
  "what is held is not sent after its commit": (engine) => patch(engine.sender, "pumpCommitted", nothing),
  "some sessions are taken for not stored": (engine) => {
    let count = 0;
    return patch(
      engine.lifecycle,
      "open",
      (original) =>
        function (...args) {
          const opened = original.apply(this, args) as Opened;
          if (++count % 3 === 0) engine.sessions.isStored[opened.session] = 0;
          return opened;
        },
    );
  },
  "a message for a persistent session is not stored": (engine) => patch(engine.store, "enqueue", forgetful),
};
