/** Entry of the thread of all journals of a process: requests in, answers out, one after the other. journal.ts is the other side. */
import { JournalFile, SqlDatabase } from "./journal-file-sqlite.ts";
import {
  type FromJournalThread,
  type JournalAnswers,
  type JournalRequest,
  memoryOf,
  type ToJournalThread,
} from "./journal-message.ts";

declare const self: {
  onmessage: (event: { readonly data: ToJournalThread }) => void;
  postMessage(message: FromJournalThread, transfer?: ArrayBuffer[]): void;
};

const files = new Map<number, JournalFile>();
const databases = new Map<number, SqlDatabase>();

self.onmessage = ({ data: { id, journal, request } }) => {
  try {
    const answer = handle(journal, request);
    self.postMessage({ id, answer }, answer && "entries" in answer ? memoryOf(answer.entries) : []);
  } catch (error) {
    self.postMessage({ id, failure: reasonOf(error) });
  }
};

function handle(journal: number, request: JournalRequest): JournalAnswers[keyof JournalAnswers] {
  if (request.kind === "open") {
    const file = new JournalFile(request.path, request.sync, request.hasDues);
    files.set(journal, file);
    return file.state();
  }
  if (request.kind === "sql-open") {
    databases.set(journal, new SqlDatabase(request.path, request.schema));
    return undefined;
  }
  if (request.kind === "sql-run") return databases.get(journal)?.run(request.texts, request.statements);
  const file = files.get(journal);
  if (request.kind === "close") {
    databases.get(journal)?.close();
    databases.delete(journal);
    file?.close();
    files.delete(journal);
    return undefined;
  }
  if (!file) throw new Error("the journal is not open");
  switch (request.kind) {
    case "write":
      return file.write(request.puts, request.removes);
    case "due":
      return file.readDue(request.dueMax, request.countMax, request.bytesMax);
    case "page":
      return file.readPage(request.after, request.countMax, request.bytesMax);
  }
}

function reasonOf(error: unknown): string {
  const { code = "", message } = error as { code?: string; message: string };
  if (code.startsWith("SQLITE_FULL") || code === "ENOSPC") return "the disk is full";
  if (code.startsWith("SQLITE_BUSY")) return "another process uses the file";
  return code === "" ? message : `${message} (${code})`;
}
