/** Bugs to plant in each life of a node, each of which the cluster runs must find. What is returned undoes them. */
import { Peers } from "#core/peers.ts";
import { RetainedKeeper } from "#core/retained-keeper.ts";
import { Router } from "#core/router.ts";
import { ShareGroups } from "#core/share-group.ts";
import { Subscriptions } from "#core/subscriptions.ts";
import { PeerFabric } from "#fabric/interest.ts";
import { PeerConnection } from "#mqtt/peer-connection.ts";
import type { ClusterPlant } from "./cluster-world.ts";
import { type Method, nothing, patch } from "./plants.ts";

/** Calls `complete`, the last argument, before anybody knows. */
const atOnce = (original: Method): Method =>
  function (...args) {
    const complete = args.at(-1) as unknown as () => void;
    complete();
    return original.apply(this, [...args.slice(0, -1), (() => {}) as never]);
  };

export const clusterPlants: Record<string, ClusterPlant> = {
  "a share group chooses on each node": () =>
    patch(
      Router.prototype,
      "route",
      (original) =>
        function (...args) {
          const [view] = args as unknown as [{ isForwarded: boolean }];
          const was = view.isForwarded;
          view.isForwarded = false;
          const reached = original.apply(this, args);
          view.isForwarded = was;
          return reached;
        },
    ),
  "the stamps of values are not stored": ({ store }) =>
    patch(
      store,
      "retain",
      (original) =>
        function (...args) {
          const [view, message, deadlineSec] = args as unknown as [{ valueStamp: number }, number, number];
          const unstamped = Object.create(view as object, { valueStamp: { value: 0 } }) as never;
          return original.apply(this, [unstamped, message as never, deadlineSec as never]);
        },
    ),
  "what comes from another node is sent on to the others": () =>
    patch(
      Router.prototype,
      "settle",
      (original) =>
        function (...args) {
          const [view] = args as unknown as [{ isForwarded: boolean }];
          const was = view.isForwarded;
          view.isForwarded = false;
          const options = original.apply(this, args);
          view.isForwarded = was;
          return options;
        },
    ),
  "a forward is acknowledged before the commit": () =>
    patch(
      PeerConnection.prototype,
      "acknowledge",
      () =>
        function (this: PeerConnection, type: number, packetId: number) {
          this["sendAck"](type, packetId, 0);
        } as Method,
    ),
  "the receipt of a forward is not noted": ({ engine }) =>
    patch(
      engine,
      "addReceipt",
      (original) =>
        function (...args) {
          const [session] = args as unknown as [number];
          return engine.sessions.isPeer[session] !== 0 || original.apply(this, args);
        },
    ),
  "SUBACK does not wait for the others": () => patch(PeerFabric.prototype, "announce", atOnce),
  "nobody waits for a node that is cut off": () =>
    patch(
      PeerFabric.prototype,
      "removePeer",
      (original) =>
        function (this: PeerFabric, ...args) {
          original.apply(this as never, args);
          this.giveUp((args as unknown as [PeerConnection])[0].node);
        } as Method,
    ),
  "a node serves before it knows what the others want": (life) => {
    const { handleOpen } = life;
    return patch(
      life,
      "handleOpen",
      () =>
        ((peer: PeerConnection) => {
          handleOpen.call(life, peer);
          if (!life.isServing) life.handleSynced(peer);
        }) as never,
    );
  },
  "the last value to come is kept, whatever its stamp": () =>
    patch(RetainedKeeper.prototype, "isOld", () => () => false),
  "it is not remembered that a value was removed": () => patch(RetainedKeeper.prototype, "noteRemoved", nothing),
  "a node does not ask for what a crash took": () => patch(Peers.prototype, "valuesMark", () => () => 0),
  "a share group does not know its members elsewhere": () => patch(ShareGroups.prototype, "setWeight", nothing),
  "subscriptions of an earlier connection stay": () => patch(Subscriptions.prototype, "dropPeer", nothing),
  "an unsubscribed filter stays told": () => patch(PeerFabric.prototype, "withdraw", nothing),
};
