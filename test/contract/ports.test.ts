/** The ports of one process, and the delayed ones that tests stand on. */
import { LocalFabric, OpenAccess, VolatileStore } from "#core/local-ports.ts";
import { PeerFabric } from "#fabric/interest.ts";
import { DelayedAccess, DelayedFabric, DelayedStore } from "#test/support/delayed-ports.ts";
import { DurableBroker } from "#test/support/durable-broker.ts";
import { viewOf } from "#test/support/test-broker.ts";
import { accessContract } from "./access-contract.ts";
import { fabricContract } from "./fabric-contract.ts";
import { storeContract } from "./store-contract.ts";

const nothing = (): void => {};

const anySession = { session: 1, subscription: 2, message: 3 };

storeContract("volatile", () => ({ store: new VolatileStore(), commit: nothing, ...anySession }));
storeContract("delayed", () => {
  const store = new DelayedStore();
  return { store, commit: () => store.commit(), ...anySession };
});
storeContract("durable", () => {
  const broker = new DurableBroker();
  const { engine, store } = broker;
  const client = broker.ask("ann");
  client.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t", qos: 1 }] });
  broker.commitsAtOnce = false;
  const session = engine.sessions.find(Buffer.from("ann"));
  const message = engine.messages.keep(viewOf("t", "x", { qos: 1 }));
  const commit = (): void => {
    broker.quiet();
    broker.commit();
    broker.quiet();
    broker.commit();
  };
  return { store, commit, session, subscription: engine.index.find(session, Buffer.from("t")), message };
});

fabricContract("peers", () => {
  const unanswered: (() => void)[] = [];
  const fabric = new PeerFabric(1);
  fabric.addPeer({
    node: 1,
    subscribe: (_filter, _memberCount, complete = nothing) => void unanswered.push(complete),
    unsubscribe: nothing,
    whenKnown: (complete) => void unanswered.push(complete),
    finishSync: (complete) => void unanswered.push(complete),
  });
  const settle = (): void => {
    for (const complete of unanswered.splice(0)) complete();
  };
  return { fabric, settle };
});
fabricContract("local", () => ({ fabric: new LocalFabric(), settle: nothing }));
fabricContract("delayed", () => {
  const fabric = new DelayedFabric();
  const settle = (): void => {
    fabric.answerAll();
    fabric.deliver();
  };
  return { fabric, settle };
});

accessContract("open", () => ({ access: new OpenAccess(), settle: nothing }));
accessContract("delayed", () => {
  const access = new DelayedAccess();
  return { access, settle: () => access.answerAll(), denied: "deny/" };
});
