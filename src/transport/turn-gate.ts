/**
 * How many connections come in during one turn of the event loop. When all clients come back at once, the kernel hands over thousands in
 * one go; let in as they come, their CONNECTs would keep the loop for a second and more, and it would pass for overload. So few
 * go on in a turn, the others wait in order, unread.
 */
const PER_TURN = 64;

interface Waiting {
  /** Its turn has come. */
  goOn(): void;
}

export class TurnGate {
  private count = 0;
  private isScheduled = false;
  private readonly waiting: Set<Waiting> = new Set();

  /** True when there is room in this turn. */
  takePlace(): boolean {
    if (this.count >= PER_TURN || this.waiting.size > 0) return false;
    this.count++;
    this.schedule();
    return true;
  }

  /** For one that found no room: `goOn` is called when there is. */
  wait(one: Waiting): void {
    this.waiting.add(one);
    this.schedule();
  }

  /** It waits no longer. */
  withdraw(one: Waiting): void {
    this.waiting.delete(one);
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setImmediate(this.nextTurn);
  }

  private readonly nextTurn = (): void => {
    this.isScheduled = false;
    this.count = 0;
    for (const one of this.waiting) {
      if (this.count === PER_TURN) break;
      this.count++;
      this.waiting.delete(one);
      one.goOn();
    }
    if (this.count > 0) this.schedule(); // the next turn begins with none
  };
}
