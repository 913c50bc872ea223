/** Addresses that need no more to come in, and such that may not. Who is in neither list is ignored. */
import { z } from "zod";
import { hasPrefix, parseAddress, rangesOf } from "#access/address.ts";
import { type Backend, backendKind, IGNORE } from "#access/backend.ts";
import { ranges } from "#access/option.ts";
import { NOT_AUTHORIZED } from "#access/reason.ts";

export const address = backendKind({
  type: "address",
  roles: ["authenticate"],
  options: z.strictObject({
    deny: ranges("who may not come in, looked at first").default([]),
    allow: ranges("who may come in without more").default([]),
  }),
  make({ deny, allow }, { name }): Backend {
    const denied = rangesOf(deny);
    const allowed = rangesOf(allow);
    return {
      name,
      authenticate({ client }, answer) {
        const bytes = parseAddress(client.address);
        if (!bytes) return answer(IGNORE);
        if (denied.some((range) => hasPrefix(bytes, range))) return answer({ verdict: "deny", code: NOT_AUTHORIZED });
        answer(allowed.some((range) => hasPrefix(bytes, range)) ? { verdict: "allow" } : IGNORE);
      },
    };
  },
});
