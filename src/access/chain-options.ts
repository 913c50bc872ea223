/** What a chain is made of, and whom it tells. */
import type { ClientInfo } from "#core/ports.ts";
import type { AttemptLimit } from "./attempt-limit.ts";
import type { Backend } from "./backend.ts";
import type { BanList } from "./ban-list.ts";
import type { PasswordChecker } from "./password.ts";

export interface Member {
  readonly backend: Backend;
  readonly whenUnavailable: "deny" | "ignore" | "allow";
}

/** For the log and the hooks. */
export interface Denial {
  readonly kind: "connect" | "publish" | "subscribe";
  readonly client: ClientInfo;
  readonly topic?: string | undefined;
  /** What a 5.0 client is told. */
  readonly reasonCode: number;
  /** Of a CONNECT: who or what has refused it, for people. */
  readonly why?: string | undefined;
}

/** What the configuration says, and may say otherwise while the chain is in use. */
export interface ChainSettings {
  readonly authenticate: readonly Member[];
  readonly authorize: readonly Member[];
  /** What an exhausted list of authorizations means. */
  readonly noMatch: "allow" | "deny";
  /** 3.x, a refused PUBLISH: acknowledged and dropped, or the connection is closed. */
  readonly deniedPublish: "drop" | "disconnect";
  /** Decisions kept per session (a power of two from 8; 0: none) and how long. */
  readonly cacheCountMax: number;
  readonly cacheSec: number;
}

export interface ChainOptions extends ChainSettings {
  readonly seed: number;
  readonly nowSec: number;
  readonly passwords: PasswordChecker;
  readonly bans?: BanList | undefined;
  readonly attempts?: AttemptLimit | undefined;
  /** Ends the connection of a client id, if it has one. */
  readonly kick: (clientId: string, reasonCode: number) => void;
  readonly onDenied?: (denial: Denial) => void;
  /** A backend threw: a bug of ours. It counts as unavailable. */
  readonly onBug?: (error: unknown) => void;
}

export function chainCounts() {
  return { accepted: 0, refused: 0, banned: 0, publishDenied: 0, subscribeDenied: 0, asked: 0, bugs: 0 };
}

export type ChainCounts = ReturnType<typeof chainCounts>;
