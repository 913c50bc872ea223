/**
 * Writes log lines to a descriptor, whole and in order, before the call returns: what was logged before a crash is there
 * to be read. Log lines are rare and rate-limited, so a synchronous write costs less than losing the last ones.
 *
 * A reader that has gone away (`mantou start | head`) or a full disk must not end the broker: what cannot be written is
 * counted, and the count is told as soon as writing works again.
 */
import { writeSync } from "node:fs";

export interface LineOutput {
  write(line: string): void;
}

/** Writes `bytes` from `offset` on and returns how many were taken, or throws as `node:fs` does. */
export type WriteBytes = (bytes: Uint8Array, offset: number) => number;

/** A descriptor shared with a non-blocking user refuses for a moment when its pipe is full; then the line is dropped. */
const ATTEMPTS_MAX = 50;
const PAUSE_MS = 1;

export class DescriptorOutput implements LineOutput {
  readonly #writeBytes: WriteBytes;
  readonly #lostLine: (count: number) => string;
  #lostCount = 0;
  /** The last line stopped half-way: the next one starts on a new line. */
  #isTorn = false;

  constructor(writeBytes: WriteBytes, lostLine: (count: number) => string) {
    this.#writeBytes = writeBytes;
    this.#lostLine = lostLine;
  }

  write(line: string): void {
    if (this.#lostCount > 0 && this.#writeLine(this.#lostLine(this.#lostCount))) this.#lostCount = 0;
    if (this.#lostCount > 0 || !this.#writeLine(line)) this.#lostCount++;
  }

  #writeLine(line: string): boolean {
    const bytes = Buffer.from(this.#isTorn ? `\n${line}` : line);
    let written = 0;
    for (let attempt = 0; written < bytes.length && attempt < ATTEMPTS_MAX;) {
      try {
        written += this.#writeBytes(bytes, written);
        attempt = 0;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") break;
        attempt++;
        Bun.sleepSync(PAUSE_MS);
      }
    }
    // After a part of a line the terminal, or the parser at the other end, is in the middle of it.
    if (written > 0) this.#isTorn = written < bytes.length;
    return written === bytes.length;
  }
}

export function writeToDescriptor(descriptor: number): WriteBytes {
  return (bytes, offset) => writeSync(descriptor, bytes, offset);
}
