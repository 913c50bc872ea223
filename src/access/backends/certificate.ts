/** Clients whose TLS certificate the listener has verified (`verify: optional` or `required` there). Without one: ignored. */
import { z } from "zod";
import { type Backend, backendKind, IGNORE } from "#access/backend.ts";
import { choice } from "#access/option.ts";
import { NOT_AUTHORIZED } from "#access/reason.ts";

export const certificate = backendKind({
  type: "certificate",
  roles: ["authenticate"],
  options: z.strictObject({
    username: choice(
      ["none", "common-name", "subject", "fingerprint"],
      "what of the certificate becomes the user name, for rules and bans; none: CONNECT's stays",
    ).default("common-name"),
    clientId: choice(["any", "common-name"], "common-name: a client id that is not the common name is refused").default(
      "any",
    ),
  }),
  make({ username, clientId }, { name }): Backend {
    return {
      name,
      authenticate({ client }, answer) {
        const found = client.identity?.certificate;
        if (!found) return answer(IGNORE);
        const { commonName, subject, fingerprint } = found;
        const names = { "common-name": commonName, subject, fingerprint, none: undefined };
        const isOther = clientId === "common-name" && client.clientId !== commonName;
        // An empty name would make one user of all certificates that lack it.
        if (isOther || names[username] === "") return answer({ verdict: "deny", code: NOT_AUTHORIZED });
        answer({ verdict: "allow", grant: { username: names[username] } });
      },
    };
  },
});
