/** src/core/outbox.ts and inflight.ts: what a session has waiting and under way, against arrays and Maps. */
import { Inflight } from "#core/inflight.ts";
import { DELIVERY, IDS, MESSAGE, Outbox } from "#core/outbox.ts";
import type { Recorder, Suite } from "./recorder.ts";

const OPS = 1000;

interface Waiting {
  readonly message: number;
  readonly delivery: number;
  readonly ids: number;
  readonly group: number;
}

export const suite: Suite = {
  about: "waiting and unacknowledged messages (src/core/outbox.ts, inflight.ts)",
  async run(recorder) {
    for (const depth of [10, 10_000]) await outbox(recorder, depth);
    for (const window of [1, 20, 1000]) await inOrder(recorder, window);
    await outOfOrder(recorder, 20);
    await outOfOrder(recorder, 1000);
    await qos2(recorder, 20);
    await qos2(recorder, 1000);
  },
};

async function outbox(recorder: Recorder, depth: number): Promise<void> {
  const ring = new Outbox();
  const array: Waiting[] = [];
  for (let i = 0; i < depth; i++) {
    ring.push(i, 1, 0, -1, 100);
    array.push({ message: i, delivery: 1, ids: 0, group: -1 });
  }
  await recorder.compare(`outbox, push and shift, ${depth} waiting`, OPS, {
    Outbox: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) {
        ring.push(i, 1, 0, -1, 100);
        const lane = ring.first()!;
        sum += lane.head.at(0, MESSAGE) + lane.head.at(0, DELIVERY) + lane.head.at(0, IDS);
        ring.shift(lane, 100);
      }
      return sum;
    },
    "array of objects": () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) {
        array.push({ message: i, delivery: 1, ids: 0, group: -1 });
        const { message, delivery, ids } = array.shift()!;
        sum += message + delivery + ids;
      }
      return sum;
    },
  });
}

async function inOrder(recorder: Recorder, window: number): Promise<void> {
  const inflight = new Inflight();
  const map = new Map<number, Waiting>();
  const ids = new Uint16Array(window);
  let lastId = 0;
  await recorder.compare(`inflight, push and PUBACK in order, window ${window}`, OPS, {
    Inflight: () => {
      for (let done = 0; done < OPS; done += window) {
        for (let i = 0; i < window; i++) ids[i] = inflight.push(i, 1, 0, -1);
        for (let i = 0; i < window; i++) inflight.remove(inflight.find(ids[i]));
      }
      return ids[0];
    },
    "Map by packet id": () => {
      for (let done = 0; done < OPS; done += window) {
        for (let i = 0; i < window; i++) {
          lastId = lastId === 65_535 ? 1 : lastId + 1;
          map.set((ids[i] = lastId), { message: i, delivery: 1, ids: 0, group: -1 });
        }
        for (let i = 0; i < window; i++) map.delete(ids[i]);
      }
      return ids[0];
    },
  });
}

/** Newest first, which 3.1.1 forbids and clients with threads do all the same. */
async function outOfOrder(recorder: Recorder, window: number): Promise<void> {
  const inflight = new Inflight();
  const ids = new Uint16Array(window);
  await recorder.time(`inflight, push and PUBACK newest first, window ${window}`, window, () => {
    for (let i = 0; i < window; i++) ids[i] = inflight.push(i, 1, 0, -1);
    for (let i = window - 1; i >= 0; i--) inflight.remove(inflight.find(ids[i]));
    return ids[0];
  });
}

/** A window of QoS 2: all PUBREC, then all PUBCOMP, in order. */
async function qos2(recorder: Recorder, window: number): Promise<void> {
  const inflight = new Inflight();
  const ids = new Uint16Array(window);
  await recorder.time(`inflight, push, PUBREC, PUBCOMP in order, window ${window}`, window, () => {
    for (let i = 0; i < window; i++) ids[i] = inflight.push(i, 2, 0, -1);
    for (let i = 0; i < window; i++) {
      inflight.remove(inflight.find(ids[i]));
      inflight.release(ids[i]);
    }
    for (let i = 0; i < window; i++) inflight.complete(ids[i]);
    return ids[0];
  });
}
