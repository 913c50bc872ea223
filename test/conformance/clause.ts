// One numbered normative statement of an MQTT specification, and how this suite stands to it.

/** Seen from outside by a test; binding a client alone, with no reaction to see; or out of a test's reach. */
type ClauseStatus = "covered" | "client-only" | "untestable";

export interface Clause {
  /** As in the specification's appendix B, with the prefix MQTT- for 5.0 and MQTT3- for 3.1.1. */
  readonly id: string;
  /** In our own words, at most 100 characters: a reminder, not the rule. */
  readonly says: string;
  readonly status: ClauseStatus;
  /** Given for every clause that is not covered. */
  readonly why?: string;
}

export function covered(id: string, says: string): Clause {
  return { id, says, status: "covered" };
}

export function clientOnly(id: string, says: string, why: string): Clause {
  return { id, says, status: "client-only", why };
}

export function untestable(id: string, says: string, why: string): Clause {
  return { id, says, status: "untestable", why };
}
