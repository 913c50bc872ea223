/** What the broker's thread and the writer's say to each other. Byte arrays are handed over, not copied. */
import { ByteReader, ByteWriter } from "#base/byte-writer.ts";
import type { RecoveredSession, RecoveryInfo } from "./log-backend.ts";

type Bytes = Uint8Array<ArrayBuffer>;

export type ToWriter =
  | { readonly kind: "open"; readonly dir: string; readonly sync: "full" | "normal" | "off" }
  /** Instead of opening: copies the store in `dir`, as of one moment, to a new file. */
  | { readonly kind: "back-up"; readonly dir: string; readonly file: string }
  | { readonly kind: "write"; readonly batch: number; readonly bytes: Bytes }
  | { readonly kind: "page"; readonly request: number; readonly session: number; readonly page: number }
  | { readonly kind: "bodies"; readonly request: number; readonly entries: Bytes }
  | { readonly kind: "recover" }
  /** A part of the recovery was taken; the next may come. */
  | { readonly kind: "more" }
  | { readonly kind: "when-idle"; readonly request: number }
  | { readonly kind: "close" };

export type FromWriter =
  | { readonly kind: "opened" }
  | { readonly kind: "refused"; readonly code: string; readonly message: string }
  | { readonly kind: "committed"; readonly first: number; readonly commitMs: readonly number[] }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "loaded"; readonly request: number; readonly entries: Bytes; readonly bodies: Bytes }
  | { readonly kind: "absent"; readonly request: number }
  | { readonly kind: "sessions"; readonly packed: Bytes }
  | { readonly kind: "retained"; readonly packed: Bytes }
  | { readonly kind: "recovered"; readonly info: RecoveryInfo }
  | { readonly kind: "idle"; readonly request: number }
  | { readonly kind: "closed" };

export interface RetainedValue {
  readonly topic: Buffer;
  readonly bytes: Buffer;
}

/** `session u48 | length u32, meta | length u32, queue`, each */
export function packSessions(sessions: readonly RecoveredSession[]): Bytes {
  const out = new ByteWriter();
  for (const { session, meta, queue } of sessions) {
    out.u48(session);
    putBlob(out, meta);
    putBlob(out, queue);
  }
  return out.take();
}

export function unpackSessions(packed: Bytes): RecoveredSession[] {
  const from = readerOf(packed);
  const sessions: RecoveredSession[] = [];
  while (!from.isAtEnd) sessions.push({ session: from.u48(), meta: takeBlob(from), queue: takeBlob(from) });
  return sessions;
}

/** `length u32, topic | length u32, bytes`, each */
export function packRetained(values: readonly RetainedValue[]): Bytes {
  const out = new ByteWriter();
  for (const { topic, bytes } of values) {
    putBlob(out, topic);
    putBlob(out, bytes);
  }
  return out.take();
}

export function unpackRetained(packed: Bytes): RetainedValue[] {
  const from = readerOf(packed);
  const values: RetainedValue[] = [];
  while (!from.isAtEnd) values.push({ topic: takeBlob(from), bytes: takeBlob(from) });
  return values;
}

/** A copy that owns its memory, so that it can be handed over. */
export function ownCopy(bytes: Uint8Array): Bytes {
  return new Uint8Array(bytes);
}

function readerOf(packed: Bytes): ByteReader {
  return new ByteReader(Buffer.from(packed.buffer, packed.byteOffset, packed.length));
}

function putBlob(out: ByteWriter, bytes: Buffer): void {
  out.u32(bytes.length);
  out.bytes(bytes);
}

function takeBlob(from: ByteReader): Buffer {
  return from.bytes(from.u32());
}
