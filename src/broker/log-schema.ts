/** The `log` section of the configuration. */
import { z } from "zod";
import { choiceLeaf, meta, numberLeaf } from "./config-leaf.ts";

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const KIB = 1024;
const DIR_ALLOWED = "path of a directory";

export const logSchema = z
  .strictObject({
    level: choiceLeaf(LOG_LEVELS).default("info").meta({ description: "the least severe record that is written" }),
    format: choiceLeaf(["text", "json"])
      .default("text")
      .meta({ description: "text: a line for people; json: one object per line for machines" }),
    to: choiceLeaf(["stdout", "files", "both"])
      .default("stdout")
      .meta({ description: "files: mantou.log, and mantou_error.log for errors alone, in log.dir" }),
    dir: z
      .string({ error: DIR_ALLOWED })
      .min(1, { error: DIR_ALLOWED })
      .default("./log")
      .meta({ description: "directory of the log files; made when it is first needed" }),
    fileBytesMax: numberLeaf("fileBytesMax", { min: 4 * KIB, max: 1024 ** 4 })
      .default(32 * KIB * KIB)
      .meta(meta("fileBytesMax", "a log file that would grow beyond, or is of yesterday, is set aside")),
    fileCountMax: numberLeaf("fileCountMax", { min: 0, max: 10_000 })
      .default(30)
      .meta({ description: "files set aside that are kept, of each of the two logs; the oldest are deleted" }),
  })
  .prefault({});

export type LogConfig = z.output<typeof logSchema>;
