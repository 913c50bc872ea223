/**
 * Entry of the writer's thread: messages of thread-message.ts in and out, around a `StoreWriter`. The broker's side is
 * thread-link.ts. A recovery goes over in parts of which few are under way, so neither side is held up by its size.
 */
import { MantouError } from "#base/error.ts";
import { backUpStore } from "./backup-sqlite.ts";
import type { LoadedEntries } from "./log-backend.ts";
import { openStore, type OpenedStore } from "./open-store-sqlite.ts";
import {
  type FromWriter,
  ownCopy,
  packRetained,
  packSessions,
  type RetainedValue,
  type ToWriter,
} from "./thread-message.ts";

/** Parts of a recovery that are sent before the first is taken. */
const PARTS_AHEAD = 4;
const SESSIONS_PER_PART = 500;
const RETAINED_BYTES_PER_PART = 1024 * 1024;

declare const self: {
  onmessage: (event: { readonly data: ToWriter }) => void;
  postMessage(message: FromWriter, transfer?: ArrayBuffer[]): void;
};

let store: OpenedStore | undefined;
let parts: Generator<FromWriter> | undefined;

self.onmessage = ({ data }) => {
  if (data.kind === "open") open(data);
  else if (data.kind === "back-up") backUp(data);
  else if (store) handle(store, data);
};

function open({ dir, sync }: ToWriter & { readonly kind: "open" }): void {
  try {
    store = openStore(
      { dir, sync },
      {
        committed: (first, commitMs) => self.postMessage({ kind: "committed", first, commitMs }),
        failed: (reason) => self.postMessage({ kind: "failed", reason }),
      },
    );
    self.postMessage({ kind: "opened" });
  } catch (error) {
    refuse(error);
  }
}

function backUp({ dir, file }: ToWriter & { readonly kind: "back-up" }): void {
  try {
    backUpStore(dir, file);
    self.postMessage({ kind: "opened" });
  } catch (error) {
    refuse(error);
  }
}

function handle({ writer, close }: OpenedStore, data: Exclude<ToWriter, { kind: "open" | "back-up" }>): void {
  switch (data.kind) {
    case "write":
      return writer.write(data.batch, data.bytes);
    case "page":
      return writer.readPage(data.session, data.page, (loaded) => sendLoaded(data.request, loaded));
    case "bodies": {
      const entries = Buffer.from(data.entries.buffer, data.entries.byteOffset, data.entries.length);
      return writer.readBodies(entries, (loaded) => sendLoaded(data.request, loaded));
    }
    case "recover":
      return recover();
    case "more":
      return sendPart();
    case "when-idle":
      return writer.whenIdle(() => self.postMessage({ kind: "idle", request: data.request }));
    case "close":
      store = undefined;
      close();
      return self.postMessage({ kind: "closed" });
  }
}

function recover(): void {
  try {
    const damage = store!.recover();
    parts = recoveredParts(store!, damage);
  } catch (error) {
    return refuse(error);
  }
  for (let ahead = 0; ahead < PARTS_AHEAD; ahead++) sendPart();
}

function* recoveredParts({ writer: { tables } }: OpenedStore, damage: string[]): Generator<FromWriter> {
  for (let after = 0; ;) {
    const rows = tables.sessionsAfter(after, SESSIONS_PER_PART);
    if (rows.length === 0) break;
    after = rows[rows.length - 1].session;
    const sessions = rows.map(({ session, snapshots: { meta, queue } }) => ({ session, meta: meta!, queue: queue! }));
    yield { kind: "sessions", packed: packSessions(sessions) };
  }
  let values: RetainedValue[] = [];
  let bytes = 0;
  for (const value of tables.retained(damage)) {
    values.push(value);
    bytes += value.topic.length + value.bytes.length;
    if (bytes < RETAINED_BYTES_PER_PART) continue;
    yield { kind: "retained", packed: packRetained(values) };
    values = [];
    bytes = 0;
  }
  if (values.length > 0) yield { kind: "retained", packed: packRetained(values) };
  const { lastBody, lastSession, lastBatch } = tables;
  yield { kind: "recovered", info: { lastBody, lastSession, lastBatch, damage } };
}

function sendPart(): void {
  const next = parts?.next();
  if (!next || next.done) return;
  const message = next.value;
  self.postMessage(message, "packed" in message ? [message.packed.buffer] : []);
}

function sendLoaded(request: number, loaded: LoadedEntries | null): void {
  if (!loaded) return self.postMessage({ kind: "absent", request });
  const entries = ownCopy(loaded.entries);
  const bodies = ownCopy(loaded.bodies);
  self.postMessage({ kind: "loaded", request, entries, bodies }, [entries.buffer, bodies.buffer]);
}

function refuse(error: unknown): void {
  const code = error instanceof MantouError ? error.code : "store_not_readable";
  self.postMessage({ kind: "refused", code, message: error instanceof Error ? error.message : String(error) });
}
