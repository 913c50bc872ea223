/** What the verdicts of the shared pieces mean as a backend's answer. */
import { type AuthenticateAnswer, DENY_CREDENTIALS, type Grant, UNAVAILABLE } from "./backend.ts";
import type { PasswordVerdict } from "./password.ts";
import { SERVER_BUSY } from "./reason.ts";
import type { Guarded } from "./remote-guard.ts";

const BUSY: AuthenticateAnswer = { verdict: "deny", code: SERVER_BUSY };

/** `grant` is given to who has the password. */
export function answerOf(verdict: PasswordVerdict, grant?: Grant): AuthenticateAnswer {
  switch (verdict) {
    case "match":
      return { verdict: "allow", grant };
    case "mismatch":
      return DENY_CREDENTIALS;
    case "busy":
      return BUSY;
    case "malformed":
      return UNAVAILABLE;
  }
}

type Unanswered = Extract<Guarded<unknown>, { isAnswered: false }>;

/** The answer to an attempt that the guard could not get answered. For an authorization it is "unavailable" always. */
export function unanswered(why: Unanswered["why"]): AuthenticateAnswer {
  return why === "busy" ? BUSY : UNAVAILABLE;
}
