/** Users of the built-in table, managed by CLI and REST; argon2id. One that is changed or deleted is disconnected. */
import { z } from "zod";
import { answerOf } from "#access/answer.ts";
import { type Backend, backendKind, type BackendParts, DENY_CREDENTIALS } from "#access/backend.ts";
import { AUTO_SCHEME, decoyOf } from "#access/password.ts";

export const userTable = backendKind({
  type: "user-table",
  roles: ["authenticate"],
  options: z.strictObject({}),
  make(_options, { name, accessDb, passwords, revoke }): Backend {
    return {
      name,
      ...watchUsers({ accessDb, revoke }),
      authenticate({ client: { username }, password }, answer) {
        const user = username === undefined ? undefined : accessDb().user(username);
        if (!user) return answer({ verdict: "ignore", decoy: decoyOf(accessDb().users(undefined, 1)[0]?.hash) });
        if (password === undefined || password.length === 0) return answer(DENY_CREDENTIALS);
        const { hash, isSuperuser } = user;
        passwords.check(password, { hash, scheme: AUTO_SCHEME }, (verdict) =>
          answer(answerOf(verdict, { isSuperuser })),
        );
      },
    };
  },
});

/** Disconnects the users of the table who are changed or deleted. */
export function watchUsers({
  accessDb,
  revoke,
}: Pick<BackendParts, "accessDb" | "revoke">): Pick<Backend, "start" | "handleDbChange"> {
  let seen = 0;
  return {
    async start() {
      seen = accessDb().lastChange();
    },
    handleDbChange() {
      const names = new Set(accessDb().changedSince(seen, "username"));
      seen = accessDb().lastChange();
      if (names.size > 0) revoke({ holds: ({ username }) => username !== undefined && names.has(username) });
    },
  };
}
