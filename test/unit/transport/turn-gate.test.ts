import { expect, test } from "bun:test";
import { TurnGate } from "#transport/turn-gate.ts";
import { StreamClient } from "./clients.ts";
import { listen } from "./listening.ts";
import { until } from "./until.ts";

const turn = () => new Promise(setImmediate);

test("sixty-four go on in a turn, the others in the next ones, in order; who has gone is not called", async () => {
  const gate = new TurnGate();
  const called: number[] = [];
  const waiting = Array.from({ length: 200 }, (_, i) => ({ goOn: () => void called.push(i) }));
  const atOnce = waiting.filter((one) => gate.takePlace() || void gate.wait(one));
  expect(atOnce).toHaveLength(64);
  gate.withdraw(waiting[70]!);
  expect(called).toEqual([]);
  const counts: number[] = [];
  for (let i = 0; i < 4; i++) {
    await turn();
    counts.push(called.length);
  }
  expect(counts).toEqual([64, 128, 135, 135]);
  expect(called).toEqual(Array.from({ length: 136 }, (_, i) => 64 + i).filter((i) => i !== 70));
  expect(gate.takePlace()).toBe(true);
});

test("hundreds that come at once all come in, with what they have said", async () => {
  await using listening = await listen();
  Bun.sleepSync(1);
  const count = 300;
  const clients = await Promise.all(
    Array.from({ length: count }, (_, i) =>
      StreamClient.connect({ host: "127.0.0.1", port: listening.port }, undefined, Buffer.from(`hello ${i}`)),
    ),
  );
  await until(() => listening.links.length === count && listening.links.every(({ length }) => length > 0));
  const heard = listening.links.map(({ bytes }) => bytes.toString()).toSorted();
  expect(heard).toEqual(Array.from({ length: count }, (_, i) => `hello ${i}`).toSorted());
  for (const client of clients) client.destroy();
  await until(() => listening.listener.connectionCount === 0);
});
