/**
 * A file that is read at start and again when it changes. Looked at by its state (inode, size, time) once in a while
 * rather than watched: that sees editors that replace the file, mounts and links that swing, and costs one `stat` a second.
 * What has changed is read when it has stayed so for a moment: a file that is just being written, empty at first, takes nobody's
 * right away.
 *
 * What cannot be read or parsed at start stops the start. Later it leaves what was there in force, says so in the log
 * once for each change, and is shown as degraded.
 */
import { readFileSync, statSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { MantouError } from "#base/error.ts";
import type { BackendHealth, BackendParts } from "./backend.ts";

const LOOK_MS = 1000;
const STEADY_MS = 100;
const FILE_BYTES_MAX = 64 * 1024 * 1024;

export class WatchedFile<T> {
  private readonly path: string;
  private state = "";
  private changed: string | undefined;
  private again: ReturnType<typeof setTimeout> | undefined;
  private fault: string | undefined;
  private timer: ReturnType<typeof setInterval> | undefined;
  private current: T | undefined;

  constructor(
    file: string,
    private readonly parse: (text: string, file: string) => T,
    private readonly parts: Pick<BackendParts, "baseDir" | "log" | "name">,
    private readonly onChange: (now: T, before: T) => void = () => {},
  ) {
    this.path = isAbsolute(file) ? file : join(parts.baseDir, file);
  }

  /** What the file says. Only after `start`. */
  get value(): T {
    return this.current as T;
  }

  /** Throws MantouError `access_file_invalid`. */
  load(): void {
    this.state = this.look();
    this.current = this.read();
  }

  /** Throws MantouError `access_file_invalid`. */
  start(lookMs = LOOK_MS): void {
    this.load();
    this.timer = setInterval(() => this.changed === undefined && this.check(), lookMs);
    this.timer.unref();
  }

  stop(): void {
    clearInterval(this.timer);
    clearTimeout(this.again);
  }

  private check(): void {
    const state = this.look();
    const isSteady = state === this.changed;
    this.changed = isSteady || state === this.state ? undefined : state;
    if (isSteady) this.reload();
    else if (this.changed !== undefined) this.again = setTimeout(() => this.check(), STEADY_MS);
  }

  /** Reads the file when it has changed. */
  reload(): void {
    const state = this.look();
    if (state === this.state) return;
    this.state = state;
    try {
      const before = this.value;
      this.current = this.read();
      this.fault = undefined;
      this.parts.log.info("an access file was read again", { backend: this.parts.name, file: this.path });
      this.onChange(this.value, before);
    } catch (error) {
      this.fault = (error as Error).message;
      const fields = { backend: this.parts.name, fault: this.fault };
      this.parts.log.warn("an access file has changed and cannot be read; what it said before stays in force", fields);
    }
  }

  health(counts: Record<string, number>): BackendHealth {
    return { state: this.fault === undefined ? "up" : "degraded", detail: this.fault, counts };
  }

  private look(): string {
    try {
      const { ino, size, mtimeMs } = statSync(this.path);
      return `${ino} ${size} ${mtimeMs}`;
    } catch {
      return "";
    }
  }

  private read(): T {
    try {
      const bytes = readFileSync(this.path);
      if (bytes.length > FILE_BYTES_MAX) throw new Error(`${bytes.length} bytes, ${FILE_BYTES_MAX} are allowed`);
      return this.parse(bytes.toString("utf8").replace(/^\ufeff/, ""), this.path);
    } catch (error) {
      if (error instanceof MantouError) throw error;
      const { code, message } = error as NodeJS.ErrnoException;
      throw new MantouError("access_file_invalid", `${this.path}: ${code === "ENOENT" ? "no such file" : message}`);
    }
  }
}

/** One problem of a file: where, what was found, what is allowed. */
export function lineFault(file: string, line: number, words: string): MantouError {
  return new MantouError("access_file_invalid", `${file}:${line}: ${words}`, { file, line });
}
