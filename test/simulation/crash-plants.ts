/** Bugs to plant in each life of the broker, each of which the crash runs must find. What is returned undoes them. */
import type { Opened } from "#core/engine.ts";
import { Inflight } from "#core/inflight.ts";
import type { StoreRecord } from "#core/ports.ts";
import { Connection } from "#mqtt/connection.ts";
import { Change } from "#store/session-log.ts";
import type { CrashPlant, Life } from "./crash-life.ts";
import { forgetful, type Method, nothing, patch } from "./plants.ts";

const LOW_31 = 0x7fff_ffff;

/** The store is not told of a kind of change; of every one, or of each third. */
function untold({ store }: Life, untoldRecord: StoreRecord, every = 1): () => void {
  let count = 0;
  const { append } = store;
  return patch(
    store,
    "append",
    () =>
      ((record: StoreRecord, session: number, item: number) => {
        if (record === untoldRecord && ++count % every === 0) return 0;
        return append.call(store, record, session, item);
      }) as never,
  );
}

/** After a call nothing is waited for. */
function unawaited(life: Life, target: object, name: string): () => void {
  return patch(
    target,
    name,
    (original) =>
      function (...args) {
        const result = original.apply(this, args);
        life.engine.delivery.storeSeq = 0;
        return result;
      },
  );
}

/**
 * Exactly once is treated as at least once: a QoS 2 message is sent before its commit, and when PUBREC comes before that,
 * it is never written.
 */
function elideAtPubrec({ store, engine }: Life): () => void {
  const sent = new Map<string, { seq: number; message: number }>();
  const { append, enqueue } = store;
  const undo = [
    patch(store, "isDurable", () => () => true),
    patch(
      store,
      "enqueue",
      () =>
        ((...args: Parameters<typeof enqueue>) => {
          const [session, message, delivery, , , packetId] = args;
          const seq = enqueue.apply(store, args);
          if ((delivery & 3) !== 2 || packetId === 0) return seq;
          sent.set(`${session} ${packetId}`, { seq: seq & LOW_31, message });
          engine["later"](() => engine.pump(session));
          return seq;
        }) as never,
    ),
    patch(
      store,
      "append",
      () =>
        ((record: StoreRecord, session: number, item: number) => {
          const entry = record === "received" ? sent.get(`${session} ${item}`) : undefined;
          if (entry && store["elide"](entry.seq, entry.message)) return 0;
          return append.call(store, record, session, item);
        }) as never,
    ),
  ];
  return () => undo.reverse().forEach((each) => each());
}

/** The acknowledgement of a repeated packet does not wait; nor does CONNACK of a session that goes on, which hides that. */
function answerDupAtOnce(life: Life): () => void {
  const { engine } = life;
  const undo = [
    unawaited(life, engine, "awaitAll"),
    patch(
      engine.lifecycle,
      "open",
      (original) =>
        function (...args) {
          const opened = original.apply(this, args) as Opened;
          if (opened.isPresent) engine.delivery.storeSeq = 0;
          return opened;
        },
    ),
  ];
  return () => undo.reverse().forEach((each) => each());
}

export const crashPlants: Record<string, CrashPlant> = {
  "an acknowledgement leaves before the commit": () =>
    patch(
      Connection.prototype,
      "acknowledge",
      () =>
        function (this: Connection, type: number, packetId: number, reasonCode: number) {
          this["sendAck"](type, packetId, this.isV5 ? reasonCode : 0);
        } as Method,
    ),
  "CONNACK and SUBACK leave before the commit": () =>
    patch(Connection.prototype, "afterCommit", () => (action: () => void) => action() as never),
  "a QoS 2 message is elided at PUBREC": elideAtPubrec,
  "a DUP is answered before its original's commit": answerDupAtOnce,
  "a QoS 2 PUBLISH leaves before its commit": ({ store }) => patch(store, "isDurable", () => () => true),
  "PUBREL leaves before the commit of PUBREC": (life) => unawaited(life, life.engine, "receive"),
  "some receipts are not stored": (life) => untold(life, "receipt-added", 3),
  "the end of a session is not stored": (life) => untold(life, "session-ended"),
  "the end of a subscription is not stored": (life) => untold(life, "unsubscribed"),
  "a will that was sent stays in the store": (life) => untold(life, "will-gone"),
  "some retained messages are not stored": ({ store }) => patch(store, "retain", forgetful),
  "some changes do not reach the log": ({ store }) => patch(store, "writeChange", forgetful),
  "a message that is handed over stays where it was": ({ store }) => patch(store, "withdraw", nothing),
  "a page that was loaded is loaded again": ({ store }) =>
    patch(
      store["paging"],
      "notePage",
      (original) =>
        function (...args) {
          if ((args as unknown[])[0] !== Change.loaded) original.apply(this, args);
        },
    ),
  "the log is trimmed and some sessions have no snapshot": ({ store }) =>
    patch(store["checkpoint"], "touch", forgetful),
  "a page is deleted before the snapshot that does without it": ({ store }) =>
    patch(
      store["checkpoint"],
      "addDeadPage",
      () => ((number: number, page: number) => store["parts"].putDropPage(number, page)) as never,
    ),
  "new entries name bodies that were collected": ({ store }) =>
    patch(
      store["parts"],
      "bodyOf",
      (original) =>
        function (...args) {
          const [message] = args as unknown as [number];
          const known = Math.abs(store["parts"].engine.messages.bodyNumberOf(message));
          return known || original.apply(this, args);
        },
    ),
  "what was in flight is not fetched": ({ store, engine }) =>
    patch(
      store,
      "fetch",
      () =>
        ((session: number, complete: () => void) => {
          engine.sessions.queueOf(session)!.stored = null;
          complete();
        }) as never,
    ),
  "a packet id is used again while in use": () => patch(Inflight.prototype, "isUsed", () => () => false),
  "a will is not given the grace after a crash": ({ engine }) =>
    patch(
      engine.lifecycle,
      "armRestored",
      (original) =>
        function (...args) {
          const [session, closedAtSec] = args as unknown as [number, number | undefined];
          original.apply(this, [session, closedAtSec ?? engine.nowSec] as never);
        },
    ),
  "a batch is called safe before it is": ({ disk }) =>
    patch(
      disk,
      "write",
      (original) =>
        function (...args) {
          original.apply(this, args);
          disk["answers"].push(() => disk.onCommitted({ batch: (args as unknown as [number])[0], commitMs: 0 }));
        },
    ),
};
