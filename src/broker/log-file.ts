/**
 * A log file of bounded size, and a bounded number of older ones beside it.
 *
 *   mantou.log                                the present one
 *   mantou-20261130T113318-000001.log …       older ones, named after the moment they were closed; the oldest go first
 *
 * It moves on before the line that would make it larger than it may be, and with the first line of a new day. Lines are written
 * before the call returns, as on stdout (log-output.ts). pino-roll looks at the size only after a turn of the event loop, so a burst
 * grows its file without limit, and it keeps what an earlier process left behind; so this stands here.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { MantouError } from "#base/error.ts";
import type { WriteBytes } from "./log-output.ts";

export interface LogFileOptions {
  readonly dir: string;
  /** Without extension: `mantou`. */
  readonly name: string;
  /** Of one file; a line that is longer gets a file of its own. */
  readonly bytesMax: number;
  /** Older files that are kept. */
  readonly countMax: number;
  readonly now?: () => Date;
}

export class LogFile {
  private descriptor: number;
  private size: number;
  private day: string;
  private readonly now: () => Date;

  /** Throws MantouError `log_not_writable`. */
  constructor(private readonly options: LogFileOptions) {
    this.now = options.now ?? (() => new Date());
    try {
      mkdirSync(options.dir, { recursive: true });
      this.descriptor = openSync(this.path, "a", 0o640);
      const { size, mtime } = fstatSync(this.descriptor);
      this.size = size;
      this.day = dayOf(size > 0 ? mtime : this.now());
      this.removeOld();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new MantouError("log_not_writable", `${this.path}: cannot be written: ${code}`, { path: this.path });
    }
  }

  get path(): string {
    return join(this.options.dir, `${this.options.name}.log`);
  }

  /** Throws as `node:fs` does. */
  readonly write: WriteBytes = (bytes, offset) => {
    if (offset === 0 && this.size > 0) {
      const isFull = this.size + bytes.length > this.options.bytesMax;
      if (isFull || this.day !== dayOf(this.now())) this.moveOn();
    }
    const written = writeSync(this.descriptor, bytes, offset);
    this.size += written;
    return written;
  };

  private moveOn(): void {
    mkdirSync(this.options.dir, { recursive: true }); // somebody may have cleared it away
    const stamp = stampOf(this.now());
    const prefix = `${this.options.name}-${stamp}-`;
    const last = this.old().findLast((name) => name.startsWith(prefix));
    const number = last === undefined ? 1 : Number.parseInt(last.slice(prefix.length), 10) + 1;
    if (existsSync(this.path)) {
      renameSync(this.path, join(this.options.dir, `${prefix}${String(number).padStart(6, "0")}.log`));
    }
    const next = openSync(this.path, "a", 0o640);
    closeSync(this.descriptor);
    this.descriptor = next;
    this.size = 0;
    this.day = dayOf(this.now());
    this.removeOld();
  }

  /** Names of the older files, oldest first. */
  private old(): string[] {
    const { dir, name } = this.options;
    const rest = /^-\d{8}T\d{6}-\d+\.log$/;
    const names = readdirSync(dir).filter((file) => file.startsWith(name) && rest.test(file.slice(name.length)));
    return names.sort();
  }

  private removeOld(): void {
    const names = this.old();
    for (const name of names.slice(0, Math.max(0, names.length - this.options.countMax))) {
      unlinkSync(join(this.options.dir, name));
    }
  }
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

/** Local, as the lines' times are in text. */
function dayOf(time: Date): string {
  return `${time.getFullYear()}${two(time.getMonth() + 1)}${two(time.getDate())}`;
}

function stampOf(time: Date): string {
  return `${dayOf(time)}T${two(time.getHours())}${two(time.getMinutes())}${two(time.getSeconds())}`;
}
