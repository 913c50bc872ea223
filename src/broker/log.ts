/**
 * The broker's log: pino's records, as JSON for machines or as lines for people (`log-text.ts`), on stdout.
 *
 * `log.child({ part: "listener" })` names the part of the broker that speaks. Values under the keys below are never
 * written, whoever logs them, to the depth that is stated.
 */
import pino from "pino";
import type { LogConfig } from "./config-schema.ts";
import { DescriptorOutput, writeToDescriptor, type LineOutput } from "./log-output.ts";
import { formatRecord } from "./log-text.ts";

export type Logger = pino.Logger;

const SECRET_KEYS = ["password", "authData", "cookie", "authorization"];
const SECRET_DEPTH_MAX = 4;

/** Also as HTTP and the environment write them. */
function secretPaths(): string[] {
  const keys = SECRET_KEYS.flatMap((key) => [key, key[0].toUpperCase() + key.slice(1)]);
  const depths = Array.from({ length: SECRET_DEPTH_MAX }, (_, depth) => "*.".repeat(depth));
  return depths.flatMap((above) => keys.map((key) => above + key));
}

export function createLog({ level, format }: LogConfig, output: LineOutput = stdoutOutput(format)): Logger {
  const stream = format === "json" ? output : { write: (line: string) => output.write(formatRecord(line)) };
  const options: pino.LoggerOptions = {
    level,
    redact: { paths: secretPaths(), censor: "[redacted]" },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  };
  return pino(options, stream);
}

export function stdoutOutput(format: LogConfig["format"]): LineOutput {
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
  return new DescriptorOutput(writeToDescriptor(1), lostLine);
}
