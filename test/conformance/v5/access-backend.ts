// A broker whose access backend has one of each answer, for the clauses that need one. Not for a foreign broker.
//
//   user name "nobody"            refused, 0x86
//   topics and filters "deny/…"   not allowed, neither to publish nor to subscribe
//   method "TEST"                 question → "answer" lets in, "more" asks again, anything else is refused, 0x87

import type { Harness } from "#test/support/harness.ts";
import type { Access, AuthenticateOutcome, AuthenticateRequest } from "#core/ports.ts";
import { withConfig } from "./connect-support.ts";

const ALLOW = 0;
const DENY = 1;
const verdictOn = (topic: string) => (topic.startsWith("deny/") ? DENY : ALLOW);

/** `reasonString` goes with every answer about the method. */
export function withAccess(run: (harness: Harness) => Promise<void>, reasonString?: string): Promise<void> {
  const access: Access = {
    isOpen: false,
    authenticate: (request) => request.complete(outcomeOf(request, reasonString)),
    authorizePublish: (_client, view) => verdictOn(view.topicText()),
    whenDecided: () => {},
    authorizeSubscribe: (_client, filters, complete) => complete(filters.map((filter) => verdictOn(filter.toString()))),
  };
  return withConfig({ ports: { access } }, run);
}

function outcomeOf(request: AuthenticateRequest, reasonString: string | undefined): AuthenticateOutcome {
  if (request.method === undefined) return { reasonCode: request.client.username === "nobody" ? 0x86 : 0 };
  if (request.method !== "TEST") return { reasonCode: 0x8c };
  const said = request.data?.toString() ?? "";
  const isFirst = request.state === undefined;
  request.state = "asked";
  if (isFirst || said === "more") return { reasonCode: 0x18, data: Buffer.from("question"), reasonString };
  return { reasonCode: said === "answer" ? 0 : 0x87, reasonString };
}
