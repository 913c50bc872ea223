/** How a backend is asked: once answered, never thrown through. */
export class BackendAsker {
  /** `noteBug` is told of backends that threw or answered twice. */
  constructor(private readonly noteBug: (error: unknown) => void) {}

  /** Asks a backend; a throw is `fault`, a second answer is not heard. */
  ask<T>(call: (answer: (value: T) => void) => void, fault: T, done: (value: T) => void): void {
    let isAnswered = false;
    const answer = (value: T): void => {
      if (isAnswered) return this.noteBug(new Error("a backend answered twice"));
      isAnswered = true;
      done(value);
    };
    try {
      call(answer);
    } catch (error) {
      // What was thrown after the answer came from whoever got it.
      if (isAnswered) throw error;
      this.noteBug(error);
      answer(fault);
    }
  }
}
