/** The end of a cluster run, when all is drained: what survives one more crash of all, retained messages, and what is left over. */
import type { ClusterLife } from "./cluster-node.ts";
import type { ClusterWorld } from "./cluster-world.ts";
import { MessageView } from "#core/message.ts";
import type { MemoryLog } from "#test/support/memory-log.ts";
import { type Message, numberIn } from "./model.ts";
import type { SimClient } from "./sim-client.ts";

/** Longer than any retained message that expires lives. */
const EXPIRED_MS = 8000;

export function judgeEnd(world: ClusterWorld): void {
  world.moveClock(EXPIRED_MS);
  world.calm(() => world.unrest() === "");
  compareRetained(world);
  crashOnceMore(world);
  compareRetained(world);
  checkNothingLeft(world);
}

/** Sessions, subscriptions and interest are there again: seen by messages to every topic from every node. */
function crashOnceMore(world: ClusterWorld): void {
  for (const node of world.nodes) world.crash(node, true);
  for (const node of world.dice.shuffled(world.nodes)) world.start(node);
  world.heal();
  const homes = new Set<number>();
  const publishers: SimClient[] = [];
  for (let i = 0; homes.size < world.nodeCount; i++) {
    const home = world.homeOf(`publisher${i}`);
    if (homes.has(home)) continue;
    homes.add(home);
    publishers.push(world.addClient(`publisher${i}`));
  }
  for (const publisher of publishers) world.script.comeBack(publisher, true);
  world.calm(() => publishers.every(({ isConnected }) => isConnected));
  for (const topic of ["a", "a/b", "b/x", "b/y", "c/1", "s/a", "s/b", "r/none"]) {
    for (const publisher of publishers) {
      for (const qos of [1, 2]) publisher.publish(world.script.makeMessage(publisher, topic, qos, false), false);
    }
    world.calm(() => world.unrest() === "");
  }
  world.ledger.checkKept();
}

/** All nodes have the same values, and these are the last of somebody. */
function compareRetained({ nodes, ledger, clients }: ClusterWorld): void {
  const tables = nodes.map(({ life }) => valuesOf(life!));
  const topics = new Set(tables.flatMap((table) => [...table.keys()]));
  for (const topic of topics) {
    const numbers = tables.map((table) => numberIn(table.get(topic) ?? Buffer.alloc(0)));
    ledger.check(new Set(numbers).size === 1, () => `the nodes have ${numbers} as the retained message of ${topic}`);
  }
  const values = new Map<string, Message>();
  for (const [topic, payload] of tables[0]!) values.set(topic, ledger.messages[numberIn(payload)]!);
  ledger.checkRetained(values, (message) => clients.some(({ published }) => published.has(message)));
}

function valuesOf({ engine: { retainedIndex } }: ClusterLife): Map<string, Buffer> {
  const values = new Map<string, Buffer>();
  const view = new MessageView();
  for (let node = 0; node < retainedIndex.high; node++) {
    if (!retainedIndex.holds(node)) continue;
    retainedIndex.load(node, view);
    values.set(retainedIndex.topicOf(node), view.payload());
  }
  return values;
}

/** All sessions end: engines and disks have nothing left but the retained messages. */
function checkNothingLeft(world: ClusterWorld): void {
  const { clients, script, nodes } = world;
  for (const client of clients) {
    world.cut(client);
    script.comeBack(client, true);
  }
  world.calm(() => world.unrest() === "");
  for (const client of clients) client.send({ type: "disconnect", reasonCode: 0, expirySec: undefined });
  world.calm(() => world.links.length === 0 && nodes.every(({ life }) => life!.isRestless === ""));
  let writtenCount = 0;
  for (const { life } of nodes) world.call(() => life!.store.flush(() => writtenCount++));
  world.calm(() => writtenCount === nodes.length);
  world.moveClock(20_000); // the next checkpoint collects
  world.calm(() => nodes.every(({ life }) => life!.disk.waitingCount === 0 && life!.disk.log.bodies.length === 0));
  for (const { life } of nodes) {
    world.checkLife(life!);
    checkEngine(world, life!);
    checkDisk(world, life!.disk.crash(), life!);
  }
}

function checkEngine({ ledger, nodeCount }: ClusterWorld, { engine, fabric, node }: ClusterLife): void {
  const { messages, sessions, index, groups, delivery, retainedIndex } = engine;
  const left = {
    messages: messages.count - retainedIndex.count,
    sessions: sessions.count - (nodeCount - 1),
    subscriptions: index.subscriptionCount,
    groups: groups.count,
    lists: delivery.idLists.count,
    filters: fabric.filterCount,
  };
  ledger.check(
    Object.values(left).every((count) => count === 0),
    () => `left in the memory of node ${node}: ${JSON.stringify(left)}`,
  );
}

function checkDisk({ ledger, nodeCount }: ClusterWorld, log: MemoryLog, { node }: ClusterLife): void {
  let sessionCount = 0;
  log.recover({ sessions: (sessions) => (sessionCount += sessions.length), retained: () => {}, done: () => {} });
  const pageCount = log["durable"].pages.size;
  ledger.check(
    sessionCount === nodeCount - 1 && pageCount === 0,
    () => `left on the disk of node ${node}: ${sessionCount} sessions, ${pageCount} with pages`,
  );
}
