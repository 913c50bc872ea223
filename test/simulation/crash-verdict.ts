/** The end of a crash run, when all is drained: what survives one more crash, retained messages, and what is left over. */
import type { Engine } from "#core/engine.ts";
import type { MemoryLog } from "#test/support/memory-log.ts";
import type { CrashWorld } from "./crash-world.ts";
import { type Message, numberIn } from "./model.ts";

/** Sessions and subscriptions that were acknowledged are there again: seen by messages to every topic. */
export function crashOnceMore(world: CrashWorld): void {
  world.crash(true);
  world.start();
  world.heal();
  const publisher = world.addClient("publisher");
  world.script.comeBack(publisher, true);
  world.calm(() => publisher.isConnected);
  for (const topic of ["a", "a/b", "b/x", "b/y", "c/1", "s/a", "s/b", "r/none"]) {
    for (const qos of [1, 2]) {
      publisher.publish(world.script.makeMessage(publisher, topic, qos, false), false);
      world.calm(() => world.unrest() === "");
    }
  }
  world.ledger.checkKept();
}

/** What a new subscriber is sent is what was acknowledged last. */
export function compareRetained(world: CrashWorld): void {
  const { ledger, clients, script } = world;
  const observer = world.addClient("observer");
  const values = new Map<string, Message>();
  observer.onDelivered = ({ topic, payload, retain }) => {
    if (retain) values.set(topic, ledger.messages[numberIn(payload)]!);
  };
  script.comeBack(observer, true);
  world.calm(() => observer.isConnected);
  observer.subscribe([{ filter: "r/#", qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0 }], 0);
  world.calm(() => world.unrest() === "");
  if (world.weather.isCrowded) return; // values may have been refused
  ledger.checkRetained(values, (message) => clients.some(({ published }) => published.has(message)));
}

/** All sessions end: engine and disk have nothing left but the retained messages. */
export function checkNothingLeft(world: CrashWorld): void {
  const { clients, script } = world;
  for (const client of clients) {
    world.cut(client);
    script.comeBack(client, true);
  }
  world.calm(() => world.unrest() === "");
  for (const client of clients) client.send({ type: "disconnect", reasonCode: 0, expirySec: undefined });
  world.calm(() => world.links.length === 0);
  const { store, engine, disk } = world.life!;
  let isWritten = false;
  world.call(() => store.flush(() => (isWritten = true)));
  world.calm(() => isWritten);
  world.moveClock(20_000); // the next checkpoint collects
  world.calm(() => disk.waitingCount === 0 && disk.log.bodies.length === 0);
  world.checkLife(world.life!);
  checkEngine(world, engine);
  checkDisk(world, disk.crash(), engine.retainedIndex.count);
}

function checkEngine({ ledger }: CrashWorld, engine: Engine): void {
  const { messages, sessions, index, groups, delivery, retainedIndex } = engine;
  const lists = delivery.idLists.count;
  const left = [messages.count - retainedIndex.count, sessions.count, index.subscriptionCount, groups.count, lists];
  ledger.check(
    left.every((count) => count === 0),
    () => `left in memory: messages, sessions, subscriptions, groups, identifier lists ${left}`,
  );
}

function checkDisk({ ledger }: CrashWorld, log: MemoryLog, retainedCount: number): void {
  let sessionCount = 0;
  let valueCount = 0;
  log.recover({
    sessions: (sessions) => (sessionCount += sessions.length),
    retained: (values) => (valueCount += values.length),
    done: () => {},
  });
  const pageCount = log["durable"].pages.size;
  const isClean = sessionCount === 0 && pageCount === 0 && valueCount === retainedCount;
  ledger.check(
    isClean,
    () => `left on disk: ${sessionCount} sessions, ${pageCount} with pages, ${valueCount} retained`,
  );
}
