/** The tables of a store for those who read all of it: salvage, check. What they name stands before what names it. */
import type { RowSource } from "./row-reader-sqlite.ts";
import { isSound, pageKey, RETAINED_SOURCE } from "./tables-sqlite.ts";

export interface StoreTable extends RowSource {
  /** What its rows are, for people. */
  readonly things: string;
}

export const STORE_TABLES: readonly StoreTable[] = [
  {
    table: "body",
    things: "messages",
    columns: ["id", "crc", "bytes"],
    isSound: ([id, crc, bytes]) => isSound(Number(id), crc, bytes),
  },
  {
    table: "log",
    things: "rows of changes",
    columns: ["batch", "crc", "ops", "lastBody", "lastSession"],
    isSound: ([batch, crc, ops]) => isSound(Number(batch), crc, ops),
  },
  {
    table: "page",
    things: "runs of waiting messages",
    columns: ["id", "session", "page", "crc", "bytes"],
    isSound: ([, session, page, crc, bytes]) => isSound(pageKey(Number(session), Number(page)), crc, bytes),
  },
  {
    table: "session",
    things: "sessions",
    columns: ["id", "metaBatch", "metaCrc", "meta", "queueBatch", "queueCrc", "queue"],
    // Without its queue it is of use, without its client id it is not.
    isSound: ([id, , crc, meta]) => meta === null || isSound(Number(id), crc, meta),
  },
  { ...RETAINED_SOURCE, things: "retained messages" },
];
