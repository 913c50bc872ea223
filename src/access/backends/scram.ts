/** MQTT 5 enhanced authentication by SCRAM, with the users of the built-in table; the exchange stands in `scram.ts`. */
import { z } from "zod";
import { type Backend, backendKind, DENY_CREDENTIALS, IGNORE } from "#access/backend.ts";
import { beginScram, finishScram, SCRAM_MECHANISMS, type ScramState } from "#access/scram.ts";
import { watchUsers } from "./user-table.ts";

export const scram = backendKind({
  type: "scram",
  roles: ["authenticate"],
  options: z.strictObject({}),
  make(_options, { name, accessDb, revoke }): Backend {
    const watched = watchUsers({ accessDb, revoke });
    let secret: Buffer = Buffer.alloc(0);
    return {
      name,
      ...watched,
      async start() {
        secret = accessDb().secret("scram");
        await watched.start?.();
      },
      methods: SCRAM_MECHANISMS,
      authenticate(attempt, answer) {
        const { method, data, client } = attempt;
        if (method === undefined) return answer(IGNORE);
        const state = attempt.state as ScramState | undefined;
        if (state === undefined) {
          const begun = beginScram(data, method, { keysOf: (username) => accessDb().scram(username, method), secret });
          // Whoever names himself twice has to be the same.
          const isOther = begun && client.username !== undefined && client.username !== begun.state.username;
          if (!begun || isOther) return answer(DENY_CREDENTIALS);
          attempt.state = begun.state;
          return answer({ verdict: "continue", data: begun.reply });
        }
        const proof = finishScram(data, method, state);
        if (!proof) return answer(DENY_CREDENTIALS);
        const { username } = state;
        const isSuperuser = accessDb().user(username)?.isSuperuser ?? false;
        answer({ verdict: "allow", grant: { username, isSuperuser }, data: proof });
      },
    };
  },
});
