/** One running trace: its target, its limits, and where its events go: a file, or a buffer that somebody reads. */
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { MantouError } from "#base/error.ts";
import { formatEvent, type PayloadMode, type PayloadOptions, type TraceEvent } from "./trace-event.ts";
import { invalid, type TraceKind, TraceTarget } from "./trace-target.ts";

export interface TraceRequest {
  /** What it is called from now on; `<kind> <value>` by default. */
  readonly name?: string | undefined;
  readonly kind: TraceKind;
  readonly value: string;
  /** Name of a file in the trace directory, which is appended to; without it events wait to be read. */
  readonly file?: string | undefined;
  /** How payloads are shown; `none` by default. */
  readonly payload?: PayloadMode | undefined;
  /** So many bytes of a payload are shown; 256 by default, at most 65,536. */
  readonly payloadBytesMax?: number | undefined;
  /** The trace ends after so long; an hour by default, at most a day. */
  readonly secMax?: number | undefined;
  /** Events a second, 1,000 by default, at most 10,000; the rest is counted. */
  readonly eventsPerSecMax?: number | undefined;
  /** Bytes written, 64 MiB by default, at most 1 GiB; then the trace ends. */
  readonly bytesMax?: number | undefined;
}

export interface TraceInfo {
  readonly name: string;
  readonly kind: TraceKind;
  readonly value: string;
  /** Path of the file. */
  readonly file: string | undefined;
  readonly payload: PayloadMode;
  /** Wall clock, milliseconds. */
  readonly startedMs: number;
  readonly endsMs: number;
  readonly eventCount: number;
  /** Events that the rate, a full buffer or a full disk has left out. */
  readonly lostCount: number;
}

interface Surroundings {
  readonly dir: string;
  readonly nowMs: () => number;
  readonly traces: readonly Trace[];
}

const MIB = 1024 * 1024;
/** Events that wait to be read, and the bytes of their payloads. */
const BUFFER_COUNT_MAX = 2000;
const BUFFER_BYTES_MAX = 4 * MIB;
/** A trace that nobody reads ends. */
const UNREAD_MS_MAX = 30_000;
const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/;
const ranges = {
  payloadBytesMax: { default: 256, min: 1, max: 65_536 },
  secMax: { default: 3600, min: 1, max: 86_400 },
  eventsPerSecMax: { default: 1000, min: 1, max: 10_000 },
  bytesMax: { default: 64 * MIB, min: 1, max: 1024 * MIB },
} as const;

export class Trace implements PayloadOptions {
  readonly name: string;
  readonly target: TraceTarget;
  readonly payload: PayloadMode;
  readonly payloadBytesMax: number;
  readonly endsMs: number;
  private readonly file: string | undefined;
  private descriptor: number | undefined = undefined;
  private readonly startedMs: number;
  private readonly eventsPerSecMax: number;
  private bytesLeft: number;
  private buffer: TraceEvent[] = [];
  private bufferBytes = 0;
  private readMs: number;
  private eventCount = 0;
  private lostCount = 0;
  private toldLostCount = 0;
  private windowMs = 0;
  private windowCount = 0;

  constructor(request: TraceRequest, { dir, nowMs, traces }: Surroundings) {
    const { kind, value, file, payload = "none" } = request;
    this.name = request.name ?? `${kind} ${value}`;
    this.target = new TraceTarget(kind, value);
    if (!["none", "text", "hex"].includes(payload)) throw invalid("payload", payload, "none, text or hex");
    this.payload = payload;
    this.payloadBytesMax = numberOf(request, "payloadBytesMax");
    this.eventsPerSecMax = numberOf(request, "eventsPerSecMax");
    this.bytesLeft = numberOf(request, "bytesMax");
    this.startedMs = this.readMs = nowMs();
    this.endsMs = this.startedMs + numberOf(request, "secMax") * 1000;
    const path = file === undefined ? undefined : pathOf(dir, file);
    const isTaken = traces.some((other) => other.name === this.name || (path !== undefined && other.file === path));
    if (isTaken) throw new MantouError("trace_exists", `trace ${this.name}: already_existed`, { name: this.name });
    this.file = path;
    if (path !== undefined) this.descriptor = open(dir, path);
  }

  get isFile(): boolean {
    return this.file !== undefined;
  }

  info(): TraceInfo {
    const { name, target, file, payload, startedMs, endsMs, eventCount, lostCount } = this;
    return { name, kind: target.kind, value: target.value, file, payload, startedMs, endsMs, eventCount, lostCount };
  }

  /** False when it has had as many events in this second as it may; then what comes is counted. */
  admits(atMs: number): boolean {
    if (atMs - this.windowMs >= 1000 || atMs < this.windowMs) {
      this.tellLost(atMs);
      this.windowMs = atMs;
      this.windowCount = 0;
    }
    if (this.windowCount < this.eventsPerSecMax) {
      this.windowCount++;
      return true;
    }
    this.lostCount++;
    return false;
  }

  /** An event that was admitted. False when the trace has written as much as it may. */
  put(event: TraceEvent): boolean {
    this.eventCount++;
    return this.write(event);
  }

  /** Tells in the trace what the rate has left out since this was last told. */
  tellLost(nowMs: number): void {
    const eventCount = this.lostCount - this.toldLostCount;
    if (eventCount === 0 || nowMs - this.windowMs < 1000) return;
    this.toldLostCount = this.lostCount;
    this.write(note(nowMs, "lost", { eventCount }));
  }

  /** Takes what waits to be read, oldest first. */
  read(nowMs: number): TraceEvent[] {
    this.readMs = nowMs;
    const events = this.buffer;
    this.buffer = [];
    this.bufferBytes = 0;
    return events;
  }

  /** Why it should end now, or undefined. */
  dueReason(nowMs: number): string | undefined {
    if (nowMs >= this.endsMs) return "its time is over";
    return this.file === undefined && nowMs - this.readMs >= UNREAD_MS_MAX ? "nobody reads it" : undefined;
  }

  /** Nothing may be put any more. */
  end(nowMs: number, reason: string): void {
    this.bytesLeft = Math.max(this.bytesLeft, 1);
    this.write(note(nowMs, "ended", { reason, eventCount: this.eventCount, lostCount: this.lostCount }));
    if (this.descriptor !== undefined) closeSync(this.descriptor);
    this.descriptor = undefined;
  }

  private write(event: TraceEvent): boolean {
    if (this.file === undefined) {
      const size = (event.payload?.text ?? event.payload?.hex ?? "").length;
      if (this.buffer.length >= BUFFER_COUNT_MAX || this.bufferBytes + size > BUFFER_BYTES_MAX) this.lostCount++;
      else {
        this.buffer.push(event);
        this.bufferBytes += size;
      }
      return true;
    }
    if (this.descriptor === undefined || this.bytesLeft <= 0) return false;
    const line = Buffer.from(formatEvent(event));
    this.bytesLeft -= line.length;
    try {
      writeSync(this.descriptor, line);
    } catch {
      this.lostCount++; // the disk is full
    }
    return this.bytesLeft > 0;
  }
}

function note(atMs: number, type: string, fields: TraceEvent["fields"]): TraceEvent {
  return { atMs, direction: "note", clientId: "", address: "", type, fields };
}

function numberOf(request: TraceRequest, key: keyof typeof ranges): number {
  const { default: standard, min, max } = ranges[key];
  const value = request[key] ?? standard;
  if (!Number.isInteger(value) || value < min || value > max) {
    throw invalid(key, value, `a whole number from ${min} to ${max}`);
  }
  return value;
}

function pathOf(dir: string, file: string): string {
  if (NAME.test(file)) return join(dir, file);
  throw invalid("file", file, "the name of a file, of letters, digits, . _ -, in the trace directory");
}

/** Payloads may be in it: for nobody but the broker's user. */
function open(dir: string, file: string): number {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    return openSync(file, "a", 0o600);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new MantouError("trace_not_writable", `${file}: cannot be written: ${code}`, { file });
  }
}
