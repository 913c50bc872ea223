/** The ports of one process, and the delayed ones that tests stand on. */
import { LocalFabric, OpenAccess, VolatileStore } from "#core/local-ports.ts";
import { DelayedAccess, DelayedFabric, DelayedStore } from "#test/support/delayed-ports.ts";
import { accessContract } from "./access-contract.ts";
import { fabricContract } from "./fabric-contract.ts";
import { storeContract } from "./store-contract.ts";

const nothing = (): void => {};

storeContract("volatile", () => ({ store: new VolatileStore(), commit: nothing }));
storeContract("delayed", () => {
  const store = new DelayedStore();
  return { store, commit: () => store.commit() };
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
