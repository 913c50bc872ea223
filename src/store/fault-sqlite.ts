/** What SQLite and the file system say when they fail, as what the store does about it. */
import { SQLiteError } from "bun:sqlite";
import { MantouError } from "#base/error.ts";

/** Bytes on the disk are not what was written: a checksum is wrong, or SQLite says so. Found at start, it means salvage. */
export class DamageError extends Error {
  override readonly name = "DamageError";
}

export function codeOf(error: unknown): string {
  const code = (error as { readonly code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "";
}

export function isDamage(error: unknown): boolean {
  return error instanceof DamageError || /^SQLITE_(CORRUPT|NOTADB|FORMAT)/.test(codeOf(error));
}

/** Also a file whose tables are not as they should be: at start it is treated as damaged. */
export function isDamageAtStart(error: unknown): boolean {
  return isDamage(error) || codeOf(error) === "SQLITE_ERROR";
}

/** Why a write failed, for the log and for those who are refused meanwhile. */
export function failureReason(error: unknown): string {
  const code = codeOf(error);
  if (code.startsWith("SQLITE_FULL") || code === "ENOSPC" || code === "EDQUOT") return "the disk is full";
  if (code.startsWith("SQLITE_READONLY") || code === "EROFS") return "the disk or the file is read-only";
  if (code.startsWith("SQLITE_BUSY")) return "another program holds a lock on the store";
  if (code.startsWith("SQLITE_CANTOPEN")) return "a file of the store cannot be opened";
  if (code.startsWith("SQLITE_IOERR")) return `the disk reports an error (${code})`;
  if (isDamage(error)) return "the store's file is damaged";
  return error instanceof Error ? error.message : String(error);
}

/** The world's faults at start as `MantouError`; anything else as it is. */
export function startFault(error: unknown, dir: string): unknown {
  if (error instanceof MantouError || isDamageAtStart(error)) return error;
  const code = codeOf(error);
  if (!(error instanceof SQLiteError) && !/^E[A-Z]+$/.test(code)) return error;
  return new MantouError("store_not_writable", `the store in ${dir} cannot be written: ${failureReason(error)}`, {
    dir,
    cause: code,
  });
}
