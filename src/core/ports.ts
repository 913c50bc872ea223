/**
 * Every seam of the engine on one page. Layer 2 implements them, `broker/` chooses who.
 *
 *   transport ─ Link ─► Protocol (mqtt/, gateways/) ─► Engine ─ Sink ─► Protocol ─ Link ─► transport
 *                                                        │
 *                              Access   Store   Fabric   └─ asked for verdicts, durability, other processes
 *
 * A request completes later, always: `complete` may be called before the request's call returns (in one process it is)
 * or many ticks on. Until then that one client's input is held; nothing else waits.
 */
import type { MessageView } from "./message.ts";

/** What the transport learned of a peer before its first packet. */
export interface PeerIdentity {
  /** Of a TLS peer whose certificate was verified. */
  readonly certificate?: PeerCertificate | undefined;
  /** Headers of a WebSocket's upgrade request, `cookie` among them; names in lower case. Never logged. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Taken instead of what CONNECT says, where the listener is configured to. */
  readonly username?: string | undefined;
  readonly clientId?: string | undefined;
}

export interface PeerCertificate {
  /** Empty when the subject has none. */
  readonly commonName: string;
  /** The whole subject, such as `C=DE,O=Example,CN=device-7`. */
  readonly subject: string;
  /** Subject Alternative Names, such as `DNS:device-7.example`. */
  readonly alternativeNames: readonly string[];
  /** SHA-256 of the certificate, hexadecimal without colons, lower case. */
  readonly fingerprint: string;
}

/** A byte stream with a peer: a socket, a WebSocket, a test's pipe. */
export interface Link {
  /** Undefined where nothing is known: a plain socket. */
  readonly identity?: PeerIdentity | undefined;
  /** Textual address of the peer, without port. */
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** Where `reserve` made room. */
  readonly buffer: Buffer;
  /** Bytes accepted and not yet taken by the peer's kernel. */
  readonly unsentBytes: number;
  /** Makes room for `size` bytes in `buffer` and returns the offset to write at. Follow with `commit`. */
  reserve(size: number): number;
  /** Everything up to offset `end` is to be sent, with this tick's other writes. */
  commit(end: number): void;
  /** Sends a range that is not worth copying: at once when nothing is unsent, else by way of the buffer. */
  writeLarge(bytes: Buffer, start: number, end: number): void;
  /** Sends what is unsent, then closes. Nothing may be written afterwards. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
  /** Stops and restarts reading. */
  pause(): void;
  resume(): void;
  /** True when the link itself has held input back at some time since it was last asked: silence is not the peer's. */
  takeHeldBack?(): boolean;
}

/** What speaks on a link. The link calls these; a throw in one closes that link alone and counts as a bug. */
export interface Protocol {
  /** Bytes came. The chunk belongs to the protocol. */
  handleData(chunk: Buffer): void;
  /** Unsent bytes rose above the link's limit (false) or fell well below it again (true). */
  handleWritable(isWritable: boolean): void;
  /** The link is gone; called exactly once, whoever closed it. */
  handleClose(): void;
}

/** Where the engine sends a session's packets: the connection that holds the session. */
export interface Sink {
  /** False while the peer reads too slowly: QoS 0 is dropped, QoS 1 and 2 wait. */
  readonly isWritable: boolean;
  /** Most QoS 1 and 2 messages unacknowledged at once. */
  readonly windowMax: number;
  /** 3.x clients may be sent unacknowledged packets again on the same connection; 5.0 forbids it. */
  readonly isRetryAllowed: boolean;
  /** Answers wait for a commit, a PUBREL perhaps: sending again must not overtake them. */
  readonly isAwaitingCommit?: boolean;
  /**
   * Sends a PUBLISH. `flags` is the low half of its first byte (DUP 8, QoS 2 bits at 1, RETAIN 1). False when the packet
   * is larger than the peer takes: it counts as delivered.
   */
  deliver(view: MessageView, flags: number, packetId: number): boolean;
  /** Sends a PUBREL. */
  release(packetId: number): void;
  /** The session is no longer this connection's; close with the reason. */
  end(reasonCode: number): void;
  /** Who is there, for hooks; undefined for what is no client, the broker itself. */
  info?(): ClientInfo;
}

/** Who is at the other end. Strings are made at CONNECT, once. */
export interface ClientInfo {
  readonly clientId: string;
  readonly username: string | undefined;
  readonly address: string;
  readonly port: number;
  /** 3, 4 or 5. */
  readonly version: number;
  readonly listener: string;
  readonly identity?: PeerIdentity | undefined;
  /** Access's own: what it knows of the client that this object describes. No part of a copy. */
  [STANDING]?: unknown;
}

export const STANDING: unique symbol = Symbol("standing");

/** HTTP requests that somebody answers on a port that transport or admin has open. */
export interface HttpMount {
  /** Requests of this path and of those below it; of `/` those alone. The longest that fits is asked. */
  readonly path: string;
  fetch(request: Request, peer: HttpPeer): Response | PromiseLike<Response>;
}

export interface HttpPeer {
  readonly address: string;
  readonly port: number;
  /** Name of the listener; `admin` for the administrators' port. */
  readonly listener: string;
}

/** A command of the command line; it runs in the broker. */
export interface Command {
  /** One word. */
  readonly name: string;
  /** What follows the name, such as `list | show ID`; empty for nothing. */
  readonly usage: string;
  readonly description: string;
  /**
   * With several worker processes it runs in each of them, and their answers become one: lists are put together, numbers added up, `true`
   * wins. Otherwise it runs in one of them.
   */
  readonly isEverywhere?: boolean;
  /** Text as it is to be printed, or a value that is printed as JSON. Throws MantouError for what the user got wrong. */
  run(args: readonly string[]): unknown;
}

/** A value to be read when somebody looks. Counters only grow; over worker processes values are added up. */
export interface MetricSource {
  /** As Prometheus has it, such as `mantou_rewrite_topics_total`. */
  readonly name: string;
  readonly help: string;
  readonly kind: "counter" | "gauge";
  /** Several sources may share a name where they differ in these. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  read(): number;
}

/** What a plugin or module adds to the broker, as plain data: whoever serves it need not know plugins. */
export interface Contribution {
  /** Name of the plugin. */
  readonly from: string;
  /** Public: reachable by whoever reaches a listener of type ws. */
  readonly routes: readonly HttpMount[];
  /** For whoever may administrate the broker; paths as in `routes`. */
  readonly adminRoutes: readonly HttpMount[];
  readonly commands: readonly Command[];
  readonly metrics: readonly MetricSource[];
}

export const ALLOW = 0;
export const DENY = 1;
export const PENDING = 2;
export type Verdict = typeof ALLOW | typeof DENY | typeof PENDING;
/** To a PUBLISH whose topic has a stamp: allowed, and it stays so for this client and topic while `Access.epoch` is the same. */
export const ALLOW_KEPT = 3;

/** One client's way in; lives from CONNECT until it is accepted or refused, and again for a re-authentication. */
export interface AuthenticateRequest {
  readonly client: ClientInfo;
  /** Undefined when CONNECT had none. Never logged. */
  readonly password: Buffer | undefined;
  /** 5.0 Authentication Method; undefined for user name and password. */
  readonly method: string | undefined;
  /** 5.0 Authentication Data of the packet that is being answered. */
  readonly data: Buffer | undefined;
  readonly isReauthentication: boolean;
  /** A backend's own state between the steps of an exchange. */
  state: unknown;
  complete(outcome: AuthenticateOutcome): void;
}

export interface AuthenticateOutcome {
  /** 0 accepted, 0x18 one more step (only with a method), 0x80 and above refused: MQTT 5.0 §3.2.2.2. */
  readonly reasonCode: number;
  /** Accepted: the user the client is from now on; undefined: the one it said. */
  readonly username?: string | undefined;
  /** Accepted: what the client is subscribed to before its CONNACK, where it may; not for a re-authentication. */
  readonly subscriptions?: readonly GrantedSubscription[] | undefined;
  readonly data?: Buffer | undefined;
  readonly reasonString?: string | undefined;
  /** Use another server: 5.0 Server Reference, with 0x9C or 0x9D. */
  readonly serverReference?: string | undefined;
}

export interface GrantedSubscription {
  /** With the prefix of a share, where it is one. */
  readonly filter: Buffer;
  readonly qos: 0 | 1 | 2;
}

export interface Access {
  /** True when every publish and subscribe is allowed: nobody is asked. */
  readonly isOpen: boolean;
  /** 3.x, a refused PUBLISH: acknowledged and dropped (the default), or the connection is closed. */
  readonly deniedPublish?: "drop" | "disconnect";
  authenticate(request: AuthenticateRequest): void;
  /** Changes at least once a second, and with whatever may change an answer. */
  readonly epoch?: number;
  /** PENDING when the answer is not at hand; `whenDecided` then calls back once. */
  authorizePublish(client: ClientInfo, view: MessageView): Verdict | typeof ALLOW_KEPT;
  whenDecided(client: ClientInfo, callback: (verdict: typeof ALLOW | typeof DENY) => void): void;
  /** One verdict a filter, in order. */
  authorizeSubscribe(client: ClientInfo, filters: readonly Buffer[], complete: (verdicts: Verdict[]) => void): void;
}

/** Rare changes of a stored session, as the store is told of them; what happens to its messages has methods of its own. */
export type StoreRecord =
  | "session-opened"
  | "session-closed"
  | "session-ended"
  | "expiry-changed"
  | "will-gone"
  | "subscribed"
  | "unsubscribed"
  | "received"
  | "completed"
  | "receipt-added"
  | "receipt-removed";

/**
 * What must survive. An ordered log: each change gets a sequence number, and acknowledgements that depend on it are
 * held until `durableSeq` has reached it. The log of one session is never reordered. A message that its receiver has
 * acknowledged before it was written need not be written: its number then counts as durable.
 *
 * A queue entry remembers the low 31 bits of its number, `seq`; 0 when the store does not have it.
 */
export interface Store {
  /** True when nothing outlives the process: changes are not even noted. */
  readonly isVolatile: boolean;
  /** False while writing fails: what must be kept is refused. */
  readonly isWritable: boolean;
  /** Everything up to this number is safe. Never falls. */
  readonly durableSeq: number;
  /** The store calls this when `durableSeq` has grown, not during another call. */
  onDurable: () => void;
  /** Calls back once all that was stored is restored. */
  whenReady(action: () => void): void;
  /** Reads what a stored session has in flight, if that is still on disk, before its client may have it. */
  fetch(session: number, complete: () => void): void;
  /** Notes a change; `item` is a subscription or a packet id. Returns its number. */
  append(record: StoreRecord, session: number, item: number): number;
  /** A message entered a queue: with a packet id in flight, else (0) to wait. Returns its number. */
  enqueue(session: number, message: number, delivery: number, ids: number, group: number, packetId: number): number;
  /** The oldest waiting message of a lane went in flight under a packet id. Returns the number that stands for both. */
  assign(session: number, lane: number, seq: number, packetId: number, message: number, qos: number): number;
  /** A message in flight is acknowledged, or dropped. */
  settle(session: number, packetId: number, seq: number, message: number): void;
  /** The oldest waiting message of a lane is sent without packet id, or dropped. */
  shift(session: number, lane: number, seq: number, message: number): void;
  /** A waiting message left its lane for another session. */
  withdraw(session: number, seq: number, message: number): void;
  /** A message of a session that has ended is gone. */
  forget(seq: number, message: number): void;
  /** True when what an entry's `seq` stands for is safe. */
  isDurable(seq: number): boolean;
  /** A topic's retained message is now `message`, until `deadlineSec`, or with −1 there is none. Returns its number. */
  retain(view: MessageView, message: number, deadlineSec: number): number;
  /** A lane has room in memory and messages on disk. */
  refill(session: number, lane: number): void;
  /** Drops a lane's oldest messages, which are on disk; false when that cannot be done now. */
  dropPage(session: number, lane: number): boolean;
}

/**
 * The other processes. In one process there are none, and every request completes at once. Processes may be reached in two
 * ways: as *peers*, sessions of the engine whose subscriptions are what they want (the workers of one machine), or by `forwarding`, for
 * a fabric that carries messages itself, such as a log that many machines share.
 */
export interface Fabric {
  /** True in one process: nobody needs to be told of filters. */
  readonly isLocal: boolean;
  /** Null when no message reaches others by it. */
  readonly forwarding: Forwarding | null;
  /** Takes the ownership of a client id; `epoch` is greater than that of any owner before. */
  claim(clientId: Buffer, complete: (epoch: number) => void): void;
  /** Somebody here has subscribed to this filter, shared ones with their prefix; complete when all others know. */
  announce(filter: Buffer, isNew: boolean, complete: () => void): void;
  /** So many members of a share group are connected here; of a filter that is told next, or was. Nobody waits for it. */
  weigh(filter: Buffer, connectedCount: number): void;
  /** A subscription that was new when it was announced is gone. */
  withdraw(filter: Buffer): void;
}

export interface Forwarding {
  /** Sends a message to those who want it; the number that `forwardedSeq` must reach before it is acknowledged, 0 for none. */
  forward(view: MessageView): number;
  readonly forwardedSeq: number;
  onForwarded: () => void;
}

/** Retained messages of a filter, one at a time, read when they are sent. */
export interface RetainedCursor {
  /** Points `view` at the next message; false at the end. */
  next(view: MessageView): boolean;
  /** Gives up what the cursor holds on to. After `next` was false it has done so. */
  close(): void;
}

export interface Retained {
  lookUp(filter: Buffer, complete: (cursor: RetainedCursor) => void): void;
}
