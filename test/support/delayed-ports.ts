/**
 * Ports that answer when the test says so, as a disk, another process or a directory server would: everything that is
 * asked for is written down and waits. What they do besides waiting is what test/contract demands of every port.
 */
import type { MessageView } from "#core/message.ts";
import {
  type Access,
  ALLOW,
  type AuthenticateOutcome,
  type AuthenticateRequest,
  type ClientInfo,
  DENY,
  type Fabric,
  type Forwarding,
  PENDING,
  type Store,
  type StoreRecord,
  type Verdict,
} from "#core/ports.ts";

export type LogRecord = StoreRecord | "enqueued" | "assigned" | "acknowledged" | "shifted" | "withdrawn" | "retained";

export interface LogEntry {
  readonly record: LogRecord;
  readonly session: number;
  readonly item: number;
  /** Of what was enqueued: under which it is in flight, or 0 while it waits. */
  readonly packetId: number;
}

export class DelayedStore implements Store {
  readonly isVolatile = false;
  durableSeq = 0;
  /** Each change in order; the first has number 1. */
  readonly log: LogEntry[] = [];
  isWritable = true;
  onDurable = (): void => {};
  /** Told of each message that went in flight. */
  onInflight = (_session: number, _packetId: number): void => {};

  append(record: LogRecord, session: number, item: number, packetId = 0): number {
    return this.log.push({ record, session, item, packetId });
  }

  whenReady(action: () => void): void {
    action();
  }

  fetch(_session: number, complete: () => void): void {
    complete();
  }

  enqueue(session: number, message: number, _delivery: number, _ids: number, _group: number, packetId: number): number {
    if (packetId > 0) this.onInflight(session, packetId);
    return this.append("enqueued", session, message, packetId);
  }

  assign(session: number, _lane: number, _seq: number, packetId: number): number {
    this.onInflight(session, packetId);
    return this.append("assigned", session, packetId);
  }

  settle(session: number, packetId: number): void {
    this.append("acknowledged", session, packetId);
  }

  shift(session: number): void {
    this.append("shifted", session, 0);
  }

  withdraw(session: number, _seq: number, message: number): void {
    this.append("withdrawn", session, message);
  }

  forget(): void {}

  isDurable(seq: number): boolean {
    return seq <= this.durableSeq;
  }

  retain(_view: MessageView, message: number): number {
    return this.append("retained", -1, message);
  }

  refill(): void {}

  dropPage(): boolean {
    return false;
  }

  /** Everything so far, or up to a number, is safe. */
  commit(seq = this.log.length): void {
    if (seq <= this.durableSeq) return;
    this.durableSeq = seq;
    this.onDurable();
  }

  records(): LogRecord[] {
    return this.log.map(({ record }) => record);
  }
}

export class DelayedFabric implements Fabric, Forwarding {
  readonly isLocal = false;
  readonly forwarding = this;
  forwardedSeq = 0;
  onForwarded = (): void => {};
  readonly claims: { clientId: string; complete: () => void }[] = [];
  readonly announces: { filter: string; complete: () => void }[] = [];
  readonly forwards: string[] = [];
  /** Filters that the others believe are wanted here. */
  readonly wanted = new Map<string, number>();
  private epoch = 0;

  claim(clientId: Buffer, complete: (epoch: number) => void): void {
    const epoch = ++this.epoch;
    this.claims.push({ clientId: clientId.toString(), complete: once(() => complete(epoch)) });
  }

  announce(filter: Buffer, isNew: boolean, complete: () => void): void {
    const text = filter.toString();
    if (isNew) this.wanted.set(text, (this.wanted.get(text) ?? 0) + 1);
    this.announces.push({ filter: text, complete: once(complete) });
  }

  weigh(): void {}

  withdraw(filter: Buffer): void {
    const text = filter.toString();
    const count = this.wanted.get(text)! - 1;
    if (count > 0) this.wanted.set(text, count);
    else this.wanted.delete(text);
  }

  forward(view: MessageView): number {
    return this.forwards.push(view.topicText());
  }

  /** The others have everything so far, or up to a number. */
  deliver(seq = this.forwards.length): void {
    if (seq <= this.forwardedSeq) return;
    this.forwardedSeq = seq;
    this.onForwarded();
  }

  /** Answers what was asked for, oldest first, what is asked for meanwhile included. */
  answerAll(): void {
    for (let next = this.claims.shift(); next; next = this.claims.shift()) next.complete();
    for (let next = this.announces.shift(); next; next = this.announces.shift()) next.complete();
  }
}

/** Decides on topics by a rule, but not at once: PENDING until the test has called `decide`. */
export class DelayedAccess implements Access {
  readonly isOpen = false;
  /** Each step of each exchange, in order; answer with `answer`. */
  readonly requests: AuthenticateRequest[] = [];
  readonly subscribes: { filters: string[]; complete: () => void }[] = [];
  /** How often a publish was asked for. */
  publishCount = 0;
  /** `whenDecided` calls back before it returns. */
  isDecidedAtOnce = false;
  private readonly decided = new Map<string, Verdict>();
  private asked: { clientId: string; topic: string } | undefined;
  private readonly waiting: { clientId: string; topic: string; callback: (verdict: 0 | 1) => void }[] = [];

  constructor(
    private readonly ruleOf: (topic: string) => 0 | 1 = (topic) => (topic.startsWith("deny/") ? DENY : ALLOW),
  ) {}

  authenticate(request: AuthenticateRequest): void {
    this.requests.push(request);
  }

  /** Completes the oldest step. */
  answer(outcome: AuthenticateOutcome = { reasonCode: 0 }): AuthenticateRequest {
    const request = this.requests.shift()!;
    request.complete(outcome);
    return request;
  }

  authorizePublish(client: ClientInfo, view: MessageView): Verdict {
    this.publishCount++;
    const topic = view.topicText();
    const verdict = this.decided.get(`${client.clientId} ${topic}`);
    if (verdict !== undefined) return verdict;
    this.asked = { clientId: client.clientId, topic };
    return PENDING;
  }

  whenDecided(_client: ClientInfo, callback: (verdict: typeof ALLOW | typeof DENY) => void): void {
    this.waiting.push({ ...this.asked!, callback: once(callback) });
    if (this.isDecidedAtOnce) this.decide();
  }

  get waitingCount(): number {
    return this.waiting.length;
  }

  /** Decides the publish that has waited longest. */
  decide(): void {
    const { clientId, topic, callback } = this.waiting.shift()!;
    const verdict = this.ruleOf(topic);
    this.decided.set(`${clientId} ${topic}`, verdict);
    callback(verdict);
  }

  /** Answers what was asked for, what is asked for meanwhile included, as a backend would that knows no method. */
  answerAll(): void {
    while (this.requests.length + this.waiting.length + this.subscribes.length > 0) {
      if (this.requests.length > 0) this.answer({ reasonCode: this.requests[0]!.method === undefined ? 0 : 0x8c });
      else if (this.waiting.length > 0) this.decide();
      else this.subscribes.shift()!.complete();
    }
  }

  authorizeSubscribe(_client: ClientInfo, filters: readonly Buffer[], complete: (verdicts: Verdict[]) => void): void {
    const texts = filters.map((filter) => filter.toString());
    this.subscribes.push({ filters: texts, complete: once(() => complete(texts.map((text) => this.ruleOf(text)))) });
  }
}

/** A port must not answer twice; a test that does so by mistake is told. */
function once<A extends unknown[]>(call: (...args: A) => void): (...args: A) => void {
  let isDone = false;
  return (...args) => {
    if (isDone) throw new Error("answered twice");
    isDone = true;
    call(...args);
  };
}
