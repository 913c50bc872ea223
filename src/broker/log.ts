/**
 * The broker's log: pino's records, as JSON for machines or as lines for people (`log-text.ts`), on stdout, in files
 * (`log-file.ts`), or both.
 *
 * `log.child({ part: "listener" })` names the part of the broker that speaks. Values under the keys below are never
 * written, whoever logs them, to the depth that is stated. The level can be changed while the broker runs.
 */
import { resolve } from "node:path";
import pino from "pino";
import { LogFile } from "./log-file.ts";
import { DescriptorOutput, writeToDescriptor, type LineOutput, type WriteBytes } from "./log-output.ts";
import type { LogConfig, LogLevel } from "./log-schema.ts";
import { formatRecord } from "./log-text.ts";

export type Logger = pino.Logger;

const SECRET_KEYS = ["password", "authData", "cookie", "authorization"];
const SECRET_DEPTH_MAX = 4;
/** How a record of the two worst levels begins. */
const ERROR_STARTS = ['{"level":"error"', '{"level":"fatal"'];

/** Also as HTTP and the environment write them. */
function secretPaths(): string[] {
  const keys = SECRET_KEYS.flatMap((key) => [key, key[0].toUpperCase() + key.slice(1)]);
  const depths = Array.from({ length: SECRET_DEPTH_MAX }, (_, depth) => "*.".repeat(depth));
  return depths.flatMap((above) => keys.map((key) => above + key));
}

/** `errors` gets the records of level error and fatal once more. */
export function createLog(
  { level, format }: Pick<LogConfig, "level" | "format">,
  output: LineOutput = stdoutOutput(format),
  errors?: LineOutput,
): Logger {
  const stream = {
    write(record: string): void {
      const line = format === "json" ? record : formatRecord(record);
      output.write(line);
      if (errors && ERROR_STARTS.some((start) => record.startsWith(start))) errors.write(line);
    },
  };
  const levels = new Levels();
  const options: pino.LoggerOptions = {
    level,
    redact: { paths: secretPaths(), censor: "[redacted]" },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    onChild: (child) => levels.add(child),
  };
  const log = pino(options, stream);
  levels.add(log);
  levelsOf.set(log, levels);
  streams.set(log, stream);
  return log;
}

/** The loggers of one log: a child has a level of its own, which is that of its parent when it is made. */
class Levels {
  readonly watchers: ((level: LogLevel) => void)[] = [];
  private readonly loggers: WeakRef<pino.Logger>[] = [];

  add(logger: pino.Logger): void {
    this.loggers.push(new WeakRef(logger));
  }

  set(level: LogLevel): void {
    for (const logger of this.loggers) {
      const alive = logger.deref();
      if (alive) alive.level = level;
    }
    for (const watch of this.watchers) watch(level);
  }
}

const levelsOf = new WeakMap<Logger, Levels>();

/** Writes a record that another process's log has made, with its number. */
export function writeRecord(log: Logger, record: string, worker: number): void {
  if (record.startsWith("{") && record.endsWith("}"))
    streams.get(log)?.write(`${record.slice(0, -1)},"worker":${worker}}\n`);
}

const streams = new WeakMap<Logger, { write(record: string): void }>();

/** Changes the level of a log that `createLog` made, and of its children. */
export function setLogLevel(log: Logger, level: LogLevel): void {
  levelsOf.get(log)?.set(level);
}

/** Calls back after each change of the level. */
export function onLogLevel(log: Logger, watch: (level: LogLevel) => void): void {
  levelsOf.get(log)?.watchers.push(watch);
}

/** Opens what the configuration asks for. Throws MantouError `log_not_writable`. */
export function openLog(config: LogConfig, stdout: LineOutput, { cwd = ".", name = "mantou" } = {}): Logger {
  if (config.to === "stdout") return createLog(config, stdout);
  const { format, fileBytesMax: bytesMax, fileCountMax: countMax } = config;
  const dir = resolve(cwd, config.dir);
  const open = (name: string) => new LogFile({ dir, name, bytesMax, countMax });
  const file = lineOutput(open(name).write, format);
  const errors = lineOutput(open(`${name}_error`).write, format);
  if (config.to === "files") return createLog(config, file, errors);
  const both = (line: string): void => {
    stdout.write(line);
    file.write(line);
  };
  return createLog(config, { write: both }, errors);
}

export function stdoutOutput(format: LogConfig["format"]): LineOutput {
  return lineOutput(writeToDescriptor(1), format);
}

function lineOutput(write: WriteBytes, format: LogConfig["format"]): LineOutput {
  const lostLine = (lostCount: number): string => {
    const record = JSON.stringify({
      level: "warn",
      time: new Date().toISOString(),
      part: "log",
      lostCount,
      msg: "lines lost",
    });
    return format === "json" ? `${record}\n` : formatRecord(record);
  };
  return new DescriptorOutput(write, lostLine);
}
