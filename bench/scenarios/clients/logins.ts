/**
 * Clients that log in, in a closed loop each: CONNECT, and when it is refused or takes too long, once more after a while.
 * Who is let in stays, or goes and comes again at once.
 */
import { SLOW_LOGIN } from "#bench/compare/access-files.ts";
import { Histogram } from "#bench/load/histogram.ts";
import { Connection, GaveUpError, RefusedError } from "./connection.ts";

const SERVER_UNAVAILABLE = 0x88;
const SERVER_BUSY = 0x89;
const FAULTS_MAX = 5;

export interface LoginPlan {
  readonly port: number;
  readonly clients: number;
  /** Within which all come: thousands in the same moment would hold up their own process, and what it measures. */
  readonly arrivalMs: number;
  /** Else who was let in goes, and comes again. */
  readonly isStaying: boolean;
  /** After a refusal. */
  readonly retryMs: number;
  /** 0: for ever. */
  readonly patienceMs: number;
}

/** What happened within some time. */
export class LoginCounts {
  accepted = 0;
  busy = 0;
  unavailable = 0;
  gaveUp = 0;
  /** CONNECT to CONNACK of those who were let in. */
  readonly latency: Histogram = new Histogram();
}

export class Logins {
  /** CONNECTs without an answer. */
  unansweredCount = 0;
  /** Since the start, or since `takeCounts`. */
  private counts = new LoginCounts();
  private readonly faultTexts = new Map<string, number>();
  private isRunning = false;
  private firstAccepted = Promise.withResolvers<number>();

  constructor(private readonly plan: LoginPlan) {}

  start(): void {
    this.isRunning = true;
    const { clients, arrivalMs } = this.plan;
    for (let index = 0; index < clients; index++) void this.repeat(index, (index / clients) * arrivalMs);
  }

  /** No further attempts. */
  stop(): void {
    this.isRunning = false;
  }

  takeCounts(): LoginCounts {
    const { counts } = this;
    this.counts = new LoginCounts();
    return counts;
  }

  /** When the next one is let in, as `performance.now`. */
  nextAccepted(): Promise<number> {
    this.firstAccepted = Promise.withResolvers();
    return this.firstAccepted.promise;
  }

  /** Everything that was neither let in nor told to come again. */
  faults(): string[] {
    return [...this.faultTexts].slice(0, FAULTS_MAX).map(([text, count]) => `${count} logins: ${text}`);
  }

  private async repeat(index: number, delayMs: number): Promise<void> {
    await Bun.sleep(delayMs);
    while (this.isRunning) {
      const connection = await this.once(index);
      if (connection === undefined) await Bun.sleep(this.plan.retryMs * (0.5 + Math.random()));
      else if (this.plan.isStaying) return;
      else connection.cut();
    }
  }

  /** Undefined when it was not let in. */
  private async once(index: number): Promise<Connection | undefined> {
    const { port, patienceMs } = this.plan;
    const sinceMs = performance.now();
    this.unansweredCount++;
    try {
      const connection = await Connection.open({
        port,
        clientId: `login${index}`,
        version: 5,
        login: SLOW_LOGIN,
        patienceMs,
        onPacket: () => {},
        onClose: () => this.noteFault("lost their connection"),
      });
      const nowMs = performance.now();
      this.counts.accepted++;
      this.counts.latency.add((nowMs - sinceMs) * 1e6);
      this.firstAccepted.resolve(nowMs);
      return connection;
    } catch (error) {
      this.noteRefusal(error);
      return undefined;
    } finally {
      this.unansweredCount--;
    }
  }

  private noteRefusal(error: unknown): void {
    if (error instanceof GaveUpError) this.counts.gaveUp++;
    else if (error instanceof RefusedError && error.code === SERVER_BUSY) this.counts.busy++;
    else if (error instanceof RefusedError && error.code === SERVER_UNAVAILABLE) this.counts.unavailable++;
    else if (error instanceof RefusedError) this.noteFault(`refused with 0x${error.code.toString(16)}`);
    else this.noteFault("closed without an answer");
  }

  private noteFault(text: string): void {
    this.faultTexts.set(text, (this.faultTexts.get(text) ?? 0) + 1);
  }
}
