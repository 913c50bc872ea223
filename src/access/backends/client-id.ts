/**
 * Client ids that may come in, from certain addresses or with a password if so wished; in a file or in the built-in table.
 *
 *   robot-7
 *   robot-8  10.0.0.0/8 192.168.1.7                     from one of these only
 *   robot-9  password=$argon2id$v=19$m=19456,t=2,p=1$…  with this password
 *
 * An unknown client id is ignored. Whoever is no longer in the file, or stands there otherwise, is disconnected.
 */
import { z } from "zod";
import type { ClientRow } from "#access/access-db.ts";
import { type AddressRange, isInRange, parseRange, rangesOf } from "#access/address.ts";
import { answerOf } from "#access/answer.ts";
import { type Backend, backendKind, type BackendParts, DENY_CREDENTIALS, IGNORE } from "#access/backend.ts";
import { passwordScheme, text } from "#access/option.ts";
import { parseSelfDescribing } from "#access/password-format.ts";
import { AUTO_SCHEME, type PasswordScheme } from "#access/password.ts";
import { NOT_AUTHORIZED } from "#access/reason.ts";
import { lineFault, WatchedFile } from "#access/watched-file.ts";

interface Entry {
  readonly ranges: readonly AddressRange[];
  readonly hash: string | undefined;
  /** As written, to see whether it has changed. */
  readonly line: string;
}

type Entries = ReadonlyMap<string, Entry>;

export const clientId = backendKind({
  type: "client-id",
  roles: ["authenticate"],
  options: z.strictObject({
    file: text("path of the file; without it the built-in table is asked").optional(),
    password: passwordScheme(),
  }),
  make({ file, password: scheme }, parts): Backend {
    const source = file === undefined ? tableSource(parts) : fileSource(file, scheme, parts);
    return {
      name: parts.name,
      ...source.backend,
      authenticate({ client, password }, answer) {
        const entry = source.find(client.clientId);
        if (!entry) return answer(IGNORE);
        const { ranges, hash } = entry;
        if (ranges.length > 0 && !ranges.some((range) => isInRange(client.address, range)))
          return answer({ verdict: "deny", code: NOT_AUTHORIZED });
        if (hash === undefined) return answer({ verdict: "allow" });
        if (password === undefined || password.length === 0) return answer(DENY_CREDENTIALS);
        parts.passwords.check(password, { hash, scheme: file === undefined ? AUTO_SCHEME : scheme }, (verdict) =>
          answer(answerOf(verdict)),
        );
      },
    };
  },
});

interface Source {
  readonly backend: Pick<Backend, "check" | "start" | "stop" | "health" | "handleDbChange">;
  find(clientId: string): Pick<Entry, "ranges" | "hash"> | undefined;
}

function fileSource(file: string, scheme: PasswordScheme, parts: BackendParts): Source {
  const entries = new WatchedFile(
    file,
    (words, path) => parseClientIds(words, path, scheme),
    parts,
    (now, before) => {
      for (const [id, { line }] of before) if (now.get(id)?.line !== line) parts.revoke({ clientId: id });
    },
  );
  return {
    backend: {
      check: async () => entries.load(),
      start: async () => entries.start(),
      stop: async () => entries.stop(),
      health: () => entries.health({ clients: entries.value.size }),
    },
    find: (id) => entries.value.get(id),
  };
}

function tableSource({ accessDb, revoke }: BackendParts): Source {
  let seen = 0;
  const entryOf = ({ ranges, hash }: ClientRow): Pick<Entry, "ranges" | "hash"> => ({
    ranges: rangesOf(ranges.split(" ").filter((range) => range !== "")),
    hash,
  });
  return {
    backend: {
      async start() {
        seen = accessDb().lastChange();
      },
      handleDbChange() {
        const changed = accessDb().changedSince(seen, "clientId");
        seen = accessDb().lastChange();
        for (const id of changed) revoke({ clientId: id });
      },
    },
    find(id) {
      const row = accessDb().client(id);
      return row && entryOf(row);
    },
  };
}

function parseClientIds(words: string, file: string, { algorithm }: PasswordScheme): Entries {
  const entries = new Map<string, Entry>();
  for (const [index, line] of words.split(/\r?\n/).entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const [id, ...rest] = line.trim().split(/\s+/);
    const ranges: AddressRange[] = [];
    let hash: string | undefined;
    for (const [at, word] of rest.entries()) {
      const range = parseRange(word);
      if (range) ranges.push(range);
      else if (word.startsWith("password=") && hash === undefined) hash = word.slice("password=".length);
      else {
        // The word itself may be a password.
        const allowed = "CLIENTID [ADDRESS or RANGE …] [password=…]";
        throw lineFault(file, index + 1, `found something else as word ${at + 2}, allowed: ${allowed}`);
      }
    }
    if (hash !== undefined && algorithm === "auto" && !parseSelfDescribing(hash)) {
      const allowed = "a stored password that begins with $argon2id$, $2b$, $6$ or $7$";
      throw lineFault(file, index + 1, `found something else after password=, allowed: ${allowed}`);
    }
    if (entries.has(id)) throw lineFault(file, index + 1, `found ${JSON.stringify(id)} again, allowed: once`);
    entries.set(id, { ranges, hash, line: rest.join(" ") });
  }
  return entries;
}
