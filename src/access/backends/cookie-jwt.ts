/** A cookie that is a token. Its user name is the claim `sub`, unless said otherwise. */
import { z } from "zod";
import { DENY_CREDENTIALS } from "#access/backend.ts";
import { text } from "#access/option.ts";
import { cookieLookup } from "./cookie-lookup.ts";
import { answerOfToken, isToken, keyOptions, makeVerifier } from "./jwt.ts";

export const cookieJwt = cookieLookup({
  options: z.strictObject({
    ...keyOptions,
    usernameClaim: text("the claim that becomes the user name").default("sub"),
  }),
  make(options, _cookie, parts) {
    const verifier = makeVerifier(options, parts);
    return {
      check: async () => verifier.load(),
      start: () => verifier.start(),
      stop: async () => verifier.stop(),
      health: () => verifier.health(),
      find(value, _client, answer) {
        if (!isToken(value)) return answer(DENY_CREDENTIALS);
        verifier.verify(value, (result) => answer(answerOfToken(result)));
      },
    };
  },
});
