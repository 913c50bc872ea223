/** What a connection has besides its hot fields. */
import type { Pacer } from "#base/pacer.ts";
import type { PacerTable } from "#base/pacer-table.ts";
import type { CommitGate } from "#core/commit-gate.ts";
import { type ClientInfo, type PeerIdentity, STANDING } from "#core/ports.ts";
import type { Connection } from "./connection.ts";
import type { Login } from "./handle-connect.ts";
import type { JudgedPublish } from "./hook-wait.ts";
import type { InboundAliases } from "./topic-alias.ts";

/** What few connections have, or have only while they log in: kept apart, since a million idle ones pay for each field. */
export class Extras {
  username: string | undefined = undefined;
  /** Kept from CONNECT on where access or hooks ask for it often. */
  client: ClientInfo | null = null;
  /** The way in, until the session is open; kept where a re-authentication may come. */
  login: Login | null = null;
  /** The topic of the last PUBLISH that access allowed, by its stamp, and the epoch for which that holds. */
  allowedStamp = 0;
  allowedEpoch = -1;
  isBridge = false;
  inboundAliases: InboundAliases | null = null;
  /** Input that waits for an answer. */
  held: Buffer | null = null;
  gate: CommitGate | null = null;
  judged: JudgedPublish | null = null;
  /** So many answers wait that input is held. */
  isGateFull = false;
  /** The link closed while input was held. */
  isOrphan = false;
  /** QoS 1 messages whose PUBACK waits for a commit. */
  unackedCount = 0;
  /** Its listener's rates; see pacing.ts. */
  pacer: Pacer | null = null;
  clientRate: PacerTable | null = null;
  /** While the link is not read on purpose; −1 else. */
  restTimer = -1;
  /** It is held meanwhile. */
  isResting = false;
}

/** A description that asks the link for its address only when somebody wants to know. */
export class Client implements ClientInfo {
  [STANDING]: unknown = undefined;

  constructor(
    private readonly connection: Connection,
    readonly clientId: string,
    /** Changes once, when access says who the client is. */
    public username: string | undefined,
  ) {}

  get address(): string {
    return this.connection.link.remoteAddress;
  }

  get port(): number {
    return this.connection.link.remotePort;
  }

  get version(): number {
    return this.connection.version;
  }

  get identity(): PeerIdentity | undefined {
    return this.connection.link.identity;
  }

  get listener(): string {
    return this.connection.listener;
  }
}

/** With the address as a value: the link forgets it when it closes, and those who ask may ask then. */
export function snapshotOf({ clientId, username, address, port, version, listener, identity }: ClientInfo): ClientInfo {
  return { clientId, username, address, port, version, listener, identity, [STANDING]: undefined };
}
