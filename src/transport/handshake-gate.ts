/**
 * When TLS handshakes begin. Each costs a good part of a millisecond of signing in one piece: a flood of them, begun as they come, would
 * stand in the way of everybody's packets. So few begin in one turn of the loop, and so many are under way at most; the
 * others wait in order, until their deadline.
 */
const STARTS_PER_TURN = 8;

interface Waiting {
  /** Begins the handshake; `leave` follows, whatever comes of it. */
  startHandshake(): void;
}

export class HandshakeGate {
  private runningCount = 0;
  private startedCount = 0;
  private isScheduled = false;
  private readonly waiting: Set<Waiting> = new Set();

  constructor(private readonly handshakesMax: number) {}

  enter(one: Waiting): void {
    this.waiting.add(one);
    this.pump();
  }

  /** It waits no longer. */
  withdraw(one: Waiting): void {
    this.waiting.delete(one);
  }

  /** One that had begun is over. */
  leave(): void {
    this.runningCount--;
    this.pump();
  }

  private pump(): void {
    while (this.waiting.size > 0 && this.runningCount < this.handshakesMax) {
      if (!this.isScheduled) {
        this.isScheduled = true;
        setImmediate(this.nextTurn);
      }
      if (this.startedCount >= STARTS_PER_TURN) return;
      const first = this.waiting.values().next().value!;
      this.waiting.delete(first);
      this.startedCount++;
      this.runningCount++;
      first.startHandshake();
    }
  }

  private readonly nextTurn = (): void => {
    this.isScheduled = false;
    this.startedCount = 0;
    this.pump();
  };
}
