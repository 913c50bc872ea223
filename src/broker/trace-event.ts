/** What a trace tells of: a packet, or something that happened to a client or a message. As JSON, and as a line for people. */
import type { PacketRecord } from "#mqtt/codec/packet-record.ts";
import { escapeControl, formatTime, formatValue } from "./log-text.ts";

export type PayloadMode = "none" | "text" | "hex";

export interface TraceEvent {
  /** Wall clock, milliseconds. */
  readonly atMs: number;
  /** From the client, to it, or neither. */
  readonly direction: "in" | "out" | "note";
  readonly clientId: string;
  readonly address: string;
  /** `PUBLISH`, or what happened: `connected`, `disconnected`, `denied`, `dropped`, `lost`, `ended`. */
  readonly type: string;
  /** Size of the packet. */
  readonly bytes?: number | undefined;
  readonly topic?: string | undefined;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly payload?: TracedPayload | undefined;
}

export interface TracedPayload {
  /** Of the whole payload. */
  readonly bytes: number;
  /** Its first bytes, as was asked for. */
  readonly text?: string | undefined;
  readonly hex?: string | undefined;
}

export interface PayloadOptions {
  readonly payload: PayloadMode;
  readonly payloadBytesMax: number;
}

export function packetEvent(
  record: PacketRecord,
  about: Pick<TraceEvent, "atMs" | "direction" | "clientId" | "address">,
  options: PayloadOptions,
): TraceEvent {
  const { type, bytes, topic, fields, payload } = record;
  const named = topic === undefined ? {} : { topic };
  return { ...about, type, bytes, ...named, fields, ...(payload && { payload: showPayload(payload, options) }) };
}

export function showPayload(payload: Buffer, { payload: mode, payloadBytesMax }: PayloadOptions): TracedPayload {
  const bytes = payload.length;
  if (mode === "none") return { bytes };
  const text = payload.toString(mode === "hex" ? "hex" : "utf8", 0, Math.min(bytes, payloadBytesMax));
  return mode === "hex" ? { bytes, hex: text } : { bytes, text };
}

const WORDS = { in: "->", out: "<-", note: "--" };

/** `2026-11-30 12:00:00.123 -> client 127.0.0.1 PUBLISH 25B topic=a/b qos=1 packetId=7 payload(5)=hello` */
export function formatEvent({ atMs, direction, clientId, address, type, bytes, ...what }: TraceEvent): string {
  const who = `${formatValue(clientId)} ${address === "" ? "-" : escapeControl(address)}`;
  const size = bytes === undefined ? "" : ` ${bytes}B`;
  const topic = what.topic === undefined ? "" : ` topic=${formatValue(what.topic)}`;
  const fields = Object.entries(what.fields).map(([key, value]) => ` ${key}=${formatValue(value)}`);
  const { payload } = what;
  const shown = payload?.text ?? payload?.hex;
  const tail = payload ? ` payload(${payload.bytes})${shown === undefined ? "" : `=${formatValue(shown)}`}` : "";
  const head = `${formatTime(new Date(atMs))} ${WORDS[direction]} ${who} ${type}${size}`;
  return `${head}${topic}${fields.join("")}${tail}\n`;
}
