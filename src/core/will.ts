/** Will messages of sessions that have one: their bytes lie in the message pool until they are published or dropped. */
import { type MessagePool, MessageView, NEVER } from "./message.ts";

export interface Will {
  /** The message as a view over bytes of the caller's; copied by `set`. */
  readonly view: MessageView;
  readonly delaySec: number;
  /** Message Expiry Interval, counted from when the will is published; NEVER without. */
  readonly expirySec: number;
}

export interface KeptWill {
  readonly message: number;
  readonly delaySec: number;
  readonly expirySec: number;
  /** Armed while the delay runs, else −1. */
  timer: number;
}

export class Wills {
  private readonly bySession = new Map<number, KeptWill>();
  private readonly view = new MessageView();

  constructor(private readonly messages: MessagePool) {}

  get(session: number): KeptWill | undefined {
    return this.bySession.get(session);
  }

  /** Replaces the session's will; false when there is no memory for it. */
  set(session: number, will: Will | undefined): boolean {
    this.remove(session);
    if (!will) return true;
    const message = this.messages.keep(will.view);
    if (message < 0) return false;
    this.bySession.set(session, { message, delaySec: will.delaySec, expirySec: will.expirySec, timer: -1 });
    return true;
  }

  topicOf(session: number): string | undefined {
    const will = this.bySession.get(session);
    return will && this.load(will, NEVER).topicText();
  }

  /** The will as a message to publish now. */
  load(will: KeptWill, expiryAtSec: number): MessageView {
    this.messages.load(will.message, this.view);
    this.view.expiryAtSec = will.expirySec === NEVER ? NEVER : expiryAtSec;
    return this.view;
  }

  /** Forgets the will; returns its timer for the caller to cancel, or −1. */
  remove(session: number): number {
    const will = this.bySession.get(session);
    if (!will) return -1;
    this.bySession.delete(session);
    this.messages.release(will.message);
    return will.timer;
  }
}
