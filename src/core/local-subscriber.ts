/**
 * Subscriptions of the process itself: a session whose sink calls functions. Nothing is copied but what a listener reads.
 *
 *   subscribe(filter, listener) ─► engine.subscribe, with a subscription identifier of its own
 *   deliver(view) ─► view.ids ─► the listeners of these identifiers
 *
 * It takes QoS 0 and is always writable: nothing waits, nothing is dropped. Where `open` completes later, subscriptions wait for it.
 */
import type { Engine } from "./engine.ts";
import type { MessageView } from "./message.ts";
import type { Sink } from "./ports.ts";

/** The view is borrowed for the call; `isRetain` says that the message had been kept. */
export type LocalListener = (view: MessageView, isRetain: boolean) => void;

interface Entry {
  readonly id: number;
  readonly filter: Buffer;
  readonly listeners: Set<LocalListener>;
}

export class LocalSubscriber implements Sink {
  readonly isWritable = true;
  readonly windowMax = 65_535;
  readonly isRetryAllowed = false;
  private session = -1;
  private isClosed = false;
  private nextId = 1;
  private readonly byId = new Map<number, Entry>();
  private readonly byFilter = new Map<string, Entry>();

  /** `clientId` must be one that no client can guess: who connects with it takes the session over. */
  constructor(
    private readonly engine: Engine,
    clientId: string,
  ) {
    const wish = { clientId: Buffer.from(clientId), isCleanStart: true, expirySec: 0, will: undefined };
    engine.open(wish, this, ({ session }) => {
      if (session < 0) return;
      this.session = session;
      if (this.isClosed) return this.leave();
      engine.attach(session);
      for (const entry of this.byId.values()) this.add(entry);
    });
  }

  /** The filter must be well-formed. The function returned takes the listener off. */
  subscribe(filter: string, listener: LocalListener): () => void {
    let entry = this.byFilter.get(filter);
    if (!entry) {
      entry = { id: this.nextId++, filter: Buffer.from(filter), listeners: new Set() };
      this.byFilter.set(filter, entry);
      this.byId.set(entry.id, entry);
    }
    const { listeners } = entry;
    listeners.add(listener);
    this.add(entry); // also when it is not new: retained messages come again
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0 || this.byFilter.get(filter) !== entry) return;
      this.byFilter.delete(filter);
      this.byId.delete(entry.id);
      this.engine.whenQuiet(() => {
        if (this.session >= 0 && !this.byFilter.has(filter)) this.engine.unsubscribe(this.session, [entry.filter]);
      });
    };
  }

  /** Ends the session. */
  close(): void {
    this.isClosed = true;
    this.byId.clear();
    this.byFilter.clear();
    this.leave();
  }

  deliver(view: MessageView, flags: number): boolean {
    for (let i = 0; i < view.idCount; i++) {
      for (const listener of this.byId.get(view.ids[i])?.listeners ?? []) listener(view, (flags & 1) !== 0);
    }
    return true;
  }

  release(): void {}

  end(): void {
    this.session = -1;
  }

  private add({ id, filter, listeners }: Entry): void {
    this.engine.whenQuiet(() => {
      if (this.session >= 0 && listeners.size > 0)
        this.engine.subscribe(this.session, [{ filter, options: 0, id }], () => {});
    });
  }

  private leave(): void {
    this.engine.whenQuiet(() => {
      const { session } = this;
      this.session = -1;
      if (session >= 0) this.engine.detach(session);
    });
  }
}
