/** Everybody may come in. Stands last: whoever the backends before it ignored is let in by it. */
import { z } from "zod";
import { type Backend, backendKind } from "#access/backend.ts";

export const anonymous = backendKind({
  type: "anonymous",
  roles: ["authenticate"],
  options: z.strictObject({}),
  make(_options, { name }): Backend {
    return {
      name,
      authenticate: (_attempt, answer) => answer({ verdict: "allow" }),
    };
  },
});
