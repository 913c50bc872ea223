/** What access knows of a client that has been let in. */
import { type ClientInfo, STANDING } from "#core/ports.ts";
import type { AclRule } from "./acl-rule.ts";
import type { Grant } from "./backend.ts";
import type { DecisionCache, Decided } from "./decision-cache.ts";

export class Standing {
  isSuperuser: boolean;
  readonly rules: readonly AclRule[] | undefined;
  readonly expiresAtSec: number | undefined;
  /** Revocations before this one are of no concern to it; undefined where nobody has looked at its credentials. */
  firstRevocation: number | undefined = undefined;
  /** Undefined until something has been decided. */
  decisions: DecisionCache | undefined = undefined;
  /** The chain's when the decisions were made; another one makes them void. */
  generation = 0;
  /** The publish that is being asked about; those who wait for the answer. */
  asking: { readonly callbacks: ((verdict: Decided) => void)[]; verdict: Decided | undefined } | undefined = undefined;
  /** An answer that came later, for the same publish when it is handled again, whatever the cache keeps. */
  answered: { readonly topic: Buffer; readonly verdict: Decided } | undefined = undefined;
  /** Whose it is, and the object that it was last found by: a copy of that object brings it along, and is another client perhaps. */
  owner: Standings | undefined = undefined;
  describedBy: ClientInfo | undefined = undefined;

  /** `client` is a copy that does not change, under the granted user name. */
  constructor(
    readonly client: ClientInfo,
    grant: Grant = {},
  ) {
    this.isSuperuser = grant.isSuperuser ?? false;
    this.rules = grant.rules;
    this.expiresAtSec = grant.expiresAtSec;
  }
}

/** A description that stays true when the link is gone. */
export function copyOf(client: ClientInfo, username = client.username): ClientInfo {
  const { clientId, address, port, version, listener, identity } = client;
  return { clientId, username, address: address ?? "", port: port ?? 0, version, listener, identity };
}

/** The clients that are connected, by client id: a client id has one connection. */
export class Standings {
  private readonly live = new Map<string, Standing>();
  /** Live standings by the second in which they end. */
  private readonly ending = new Map<number, Set<Standing>>();

  get liveCount(): number {
    return this.live.size;
  }

  /** Of the object the client is described by now; another object for the same connection is recognized once it is live. */
  of(client: ClientInfo): Standing {
    const known = client[STANDING] as Standing | undefined;
    if (known?.describedBy === client && known.owner === this) return known;
    let standing = this.live.get(client.clientId);
    // A client that nobody let in, of a gateway perhaps: it stands for itself, with no grant.
    if (!standing || !isSameConnection(standing.client, client)) standing = new Standing(copyOf(client));
    this.attach(client, standing);
    return standing;
  }

  private attach(client: ClientInfo, standing: Standing): void {
    standing.owner = this;
    standing.describedBy = client;
    client[STANDING] = standing;
  }

  /** The client was let in, or has authenticated again. */
  admit(client: ClientInfo, standing: Standing): void {
    this.attach(client, standing);
    const before = this.live.get(client.clientId);
    if (before && isSameConnection(before.client, client)) {
      this.unlist(before);
      this.list(standing);
    }
  }

  /** The connection is open. */
  open(client: ClientInfo): Standing {
    const before = this.live.get(client.clientId);
    const known = client[STANDING] as Standing | undefined;
    const isKnown = known?.describedBy === client && known.owner === this;
    const standing = isKnown ? known : new Standing(copyOf(client));
    if (before) this.unlist(before);
    this.list(standing);
    return standing;
  }

  close(client: ClientInfo): void {
    const standing = this.live.get(client.clientId);
    if (standing && isSameConnection(standing.client, client)) this.unlist(standing);
  }

  /** Live standings whose end comes after one second, and up to another. */
  endingIn(afterSec: number, untilSec: number): Standing[] {
    const found: Standing[] = [];
    const look = (sec: number): void => void found.push(...(this.ending.get(sec) ?? []));
    // Not second by second through decades, when a clock is set for the first time.
    if (untilSec - afterSec > this.ending.size) {
      for (const sec of this.ending.keys()) if (sec > afterSec && sec <= untilSec) look(sec);
    } else for (let sec = afterSec + 1; sec <= untilSec; sec++) look(sec);
    return found;
  }

  all(): MapIterator<Standing> {
    return this.live.values();
  }

  find(clientId: string): Standing | undefined {
    return this.live.get(clientId);
  }

  private list(standing: Standing): void {
    this.live.set(standing.client.clientId, standing);
    const { expiresAtSec } = standing;
    if (expiresAtSec === undefined) return;
    const others = this.ending.get(expiresAtSec);
    if (others) others.add(standing);
    else this.ending.set(expiresAtSec, new Set([standing]));
  }

  private unlist(standing: Standing): void {
    this.live.delete(standing.client.clientId);
    const { expiresAtSec } = standing;
    const others = expiresAtSec === undefined ? undefined : this.ending.get(expiresAtSec);
    others?.delete(standing);
    if (others?.size === 0) this.ending.delete(expiresAtSec!);
  }
}

function isSameConnection(a: ClientInfo, b: ClientInfo): boolean {
  return a.port === b.port && a.address === (b.address ?? "") && a.listener === b.listener;
}
