/**
 * User names and passwords in a file, one `name:stored password` a line; mosquitto's `password_file` is one. A plain text
 * is no stored password: whoever wants that in a file has to say `algorithm: plain`.
 *
 * A user whose line has gone or whose password has changed is disconnected.
 */
import { z } from "zod";
import { answerOf } from "#access/answer.ts";
import { type Backend, type BackendParts, backendKind, DENY_CREDENTIALS } from "#access/backend.ts";
import { passwordScheme, text } from "#access/option.ts";
import { parseSelfDescribing } from "#access/password-format.ts";
import { decoyOf, type PasswordScheme } from "#access/password.ts";
import { lineFault, WatchedFile } from "#access/watched-file.ts";

type Users = ReadonlyMap<string, string>;

export const userFile = backendKind({
  type: "user-file",
  roles: ["authenticate"],
  options: z.strictObject({
    file: text("path of the file; mosquitto's password_file can be used as it is"),
    password: passwordScheme(),
  }),
  make({ file, password: scheme }, parts): Backend {
    const users = new WatchedFile(
      file,
      (words, path) => parseUsers(words, path, scheme),
      parts,
      (now, before) => revokeChanged(now, before, parts),
    );
    return {
      name: parts.name,
      check: async () => users.load(),
      start: async () => users.start(),
      stop: async () => users.stop(),
      health: () => users.health({ users: users.value.size }),
      authenticate({ client, password }, answer) {
        const hash = client.username === undefined ? undefined : users.value.get(client.username);
        if (hash === undefined)
          return answer({ verdict: "ignore", decoy: decoyOf(users.value.values().next().value, scheme) });
        if (password === undefined || password.length === 0) return answer(DENY_CREDENTIALS);
        parts.passwords.check(password, { hash, scheme }, (verdict) => answer(answerOf(verdict)));
      },
    };
  },
});

function parseUsers(words: string, file: string, { algorithm }: PasswordScheme): Users {
  const users = new Map<string, string>();
  for (const [index, line] of words.split(/\r?\n/).entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const colon = line.indexOf(":");
    if (colon < 1) throw lineFault(file, index + 1, "found no user name, allowed: NAME:STORED PASSWORD");
    const name = line.slice(0, colon);
    const hash = algorithm === "plain" ? line.slice(colon + 1) : line.slice(colon + 1).trim();
    if (algorithm === "auto" && !parseSelfDescribing(hash)) {
      const allowed = "a stored password that begins with $argon2id$, $2b$, $6$ or $7$";
      throw lineFault(file, index + 1, `found something else after ${JSON.stringify(name)}, allowed: ${allowed}`);
    }
    if (users.has(name)) throw lineFault(file, index + 1, `found ${JSON.stringify(name)} again, allowed: once`);
    users.set(name, hash);
  }
  return users;
}

function revokeChanged(now: Users, before: Users, { revoke }: BackendParts): void {
  for (const [username, hash] of before) if (now.get(username) !== hash) revoke({ username });
}
