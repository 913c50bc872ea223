/** What a run is to do: made by options.ts, plain data, handed as it is to each process of the run. */

export const commands = ["conn", "pub", "sub", "pair", "fanin", "fanout", "rtt"] as const;
export type Command = (typeof commands)[number];
export type Version = 3 | 4 | 5;

export interface Plan {
  readonly command: Command;
  readonly host: string;
  readonly port: number;
  readonly version: Version;
  readonly isTls: boolean;
  /** Files of the CA, the client certificate and its key; "" for none. */
  readonly tlsFiles: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly isWebSocket: boolean;
  readonly webSocketPath: string;
  /** Clients of `conn`, publishers, subscribers: the first or the last two are 0. */
  readonly idles: number;
  readonly pubs: number;
  readonly subs: number;
  /** The number (`%i`) of the first client of each kind. */
  readonly firstNumber: number;
  readonly connectIntervalMs: number;
  readonly pendingMax: number;
  /** Source addresses that the clients take in turn; empty for the system's choice. */
  readonly sources: readonly string[];
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly keepAliveSec: number;
  readonly isCleanStart: boolean;
  readonly sessionExpirySec: number;
  readonly topic: string;
  readonly filter: string;
  /** QoS of the messages of one publisher in turn, over and over. */
  readonly qosCycle: readonly number[];
  readonly subQos: number;
  readonly isRetain: boolean;
  readonly payloadBytes: number;
  /** Unacknowledged messages of one publisher. */
  readonly window: number;
  /** Deliveries in flight over all publishers of a closed loop. */
  readonly outstanding: number;
  /** Messages per second over all publishers; 0 for as many as the windows, or the sockets, let through. */
  readonly ratePerSec: number;
  /** Messages in all (`sub`: received); 0 for no limit. */
  readonly limit: number;
  readonly durationSec: number;
  readonly warmupSec: number;
  readonly userProperties: readonly (readonly [string, string])[];
  readonly subscriptionId: number;
  readonly usesTopicAlias: boolean;
  readonly messageExpirySec: number;
  readonly processes: number;
  readonly serverPid: number;
  readonly isJson: boolean;
}

/** True when publishers and subscribers of one run belong together, so that every message can be accounted for. */
export function isLoop(command: Command): boolean {
  return command === "pair" || command === "fanin" || command === "fanout" || command === "rtt";
}

/** True when each subscriber listens to one publisher's topic only. */
export function isPaired(command: Command): boolean {
  return command === "pair" || command === "rtt";
}

/** Subscribers that get a copy of each message of publisher `pub`. */
export function copiesOf(plan: Plan, pub: number): number {
  if (!isPaired(plan.command)) return plan.subs;
  return Math.floor(plan.subs / plan.pubs) + (pub < plan.subs % plan.pubs ? 1 : 0);
}

/** Publishers and idle clients are dealt to the processes in turn; a pair is kept in one process. */
export function processOfClient(plan: Plan, kind: "idle" | "pub" | "sub", index: number): number {
  const dealt = kind === "sub" && isPaired(plan.command) ? index % plan.pubs : index;
  return dealt % plan.processes;
}
