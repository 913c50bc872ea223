/**
 * What a history says of each message: when the broker may first have routed it, by when it had, and until when it still may.
 *
 *   firstSent ─────────── done ──────────── lastPossible
 *   nothing before        accountable       nothing after: not yet sent, or every sending answered or dead
 */
import { type Event, type EventOf, type History, type Message, NEVER } from "./history.ts";

export interface MessageFacts {
  readonly message: Message;
  firstSent: number;
  firstMs: number;
  /** First acknowledgement that accepts it: PUBACK or PUBREC. */
  done: number;
  doneMs: number;
  lastPossible: number;
  sendCount: number;
}

export class MessageBook {
  readonly facts = new Map<string, MessageFacts>();
  /** Sendings of a client that the broker may still read or be working on. */
  readonly #open = new Map<string, Set<MessageFacts>>();

  constructor(private readonly history: History) {}

  handle(event: Event): void {
    switch (event.what) {
      case "connect":
        if (event.will !== undefined) this.#add(event.will.key, event).lastPossible = NEVER;
        return;
      case "publish":
        return this.#handlePublish(event);
      case "puback":
      case "pubrec":
        return this.#handleAccepted(event);
      case "connack":
        return this.#close(event.client, event.at); // its older links are over for the broker
      case "killed":
        for (const client of this.#open.keys()) this.#close(client, event.at);
    }
  }

  #add(key: string, { at, ms }: Event): MessageFacts {
    const message = this.history.messages.get(key)!;
    const facts = { message, firstSent: at, firstMs: ms, done: NEVER, doneMs: NEVER, lastPossible: 0, sendCount: 1 };
    this.facts.set(key, facts);
    return facts;
  }

  #handlePublish(event: EventOf<"publish">): void {
    const { key, client } = event;
    let facts = this.facts.get(key);
    if (facts === undefined) facts = this.#add(key, event);
    else facts.sendCount++;
    if (facts.message.qos === 2 && facts.done !== NEVER) return; // its id is received: nothing new may come of it
    facts.lastPossible = NEVER;
    const open = this.#open.get(client);
    if (open === undefined) this.#open.set(client, new Set([facts]));
    else open.add(facts);
  }

  #handleAccepted({ key, at, ms, client, code }: EventOf<"puback"> | EventOf<"pubrec">): void {
    const facts = this.facts.get(key);
    if (facts === undefined) return;
    if (this.#open.get(client)?.delete(facts) === true) facts.lastPossible = at;
    if (code >= 0x80 || facts.done !== NEVER) return;
    facts.done = at;
    facts.doneMs = ms;
  }

  #close(client: string, at: number): void {
    const open = this.#open.get(client);
    for (const facts of open ?? []) facts.lastPossible = at;
    open?.clear();
  }
}
