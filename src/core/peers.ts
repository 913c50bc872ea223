/**
 * The other processes of this broker, each a session of the engine whose subscriptions are what that process wants: so routing,
 * queues, windows and the store serve forwards as they serve clients.
 *
 *   publish here ─► router ─► session of a peer ─► its connection (mqtt/peer-connection.ts) ─► the other process: `publishForwarded`
 *
 * What came from a peer goes to no other: it was sent to all who want it. Retained messages go to every peer, and each keeps them.
 */
import type { Delivery } from "./delivery.ts";
import type { MessageView } from "./message.ts";
import type { ValueStamps } from "./peer-mark.ts";
import type { Router } from "./router.ts";
import type { SessionTable } from "./session-table.ts";
import type { ShareGroups } from "./share-group.ts";

interface PeerParts {
  readonly sessions: SessionTable;
  readonly router: Router;
  readonly groups: ShareGroups;
  readonly delivery: Delivery;
  routingDepth: number;
  begin(): void;
  later(task: () => void): void;
  publishOwn(view: MessageView): number;
  routed<T>(action: () => T): T;
}

export class Peers {
  constructor(
    private readonly parts: PeerParts,
    private readonly stamps: ValueStamps,
  ) {
    parts.routingDepth++; // until `releasePublishes`
  }

  /** A session stands for another process from now on; see `Subscriptions.addPeer`. */
  add(session: number): void {
    const { sessions, router } = this.parts;
    sessions.isPeer[session] = 1;
    if (!router.peers.includes(session)) router.peers.push(session);
  }

  /** A value that a store had: those to come are newer. */
  seeStamp(stamp: number): void {
    this.stamps.see(stamp);
  }

  /** Says where a retained value stands among those of all processes. */
  stamp(view: MessageView): void {
    if (view.isForwarded) this.stamps.see(view.valueStamp);
    else view.valueStamp = this.stamps.next();
  }

  /**
   * Routes a message that another process sent here, its marks (peer-mark.ts) read into the view: to those who want it, or to one
   * member of the share group that two tokens name.
   */
  publishForwarded(view: MessageView, isShared: boolean): void {
    const { parts } = this;
    const { routingDepth } = parts;
    parts.routingDepth = 0; // it goes to sessions that are here: other processes need not be there yet
    view.isForwarded = true;
    try {
      if (isShared) this.publishShared(view);
      else parts.publishOwn(view);
    } finally {
      parts.routingDepth = routingDepth;
      view.isForwarded = false;
      view.valueStamp = 0;
    }
  }

  private publishShared(view: MessageView): void {
    const { parts } = this;
    parts.begin();
    const group = parts.groups.findToken(view.ids[0], view.ids[1]);
    if (group < 0) parts.delivery.drop("absent", -1, view);
    else parts.routed(() => parts.router.routeShared(view, group));
  }

  /** All other processes have said what they want: what was published here until now goes out. */
  releasePublishes(): void {
    this.parts.routingDepth--;
    this.parts.later(() => {}); // they wait for a turn
  }
}
