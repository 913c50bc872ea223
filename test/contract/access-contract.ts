/**
 * What the connections rely on in every access backend. The backend must let in whoever has no password, know no method
 * "unknown", and allow everything but topics and filters that begin with `denied`, where it has such a prefix.
 */
import { describe, expect, test } from "bun:test";
import {
  type Access,
  ALLOW,
  type AuthenticateOutcome,
  type AuthenticateRequest,
  type ClientInfo,
  DENY,
  PENDING,
  type Verdict,
} from "#core/ports.ts";
import { viewOf } from "#test/support/test-broker.ts";

interface Made {
  access: Access;
  /** Lets everything asked for so far complete. */
  settle: () => Promise<void> | void;
  /** Prefix of topics that are denied; undefined when all are allowed. */
  denied?: string;
}

const client: ClientInfo = {
  clientId: "c",
  username: undefined,
  address: "127.0.0.1",
  port: 1,
  version: 5,
  listener: "test",
};

function request(method: string | undefined, outcomes: AuthenticateOutcome[]): AuthenticateRequest {
  const complete = (outcome: AuthenticateOutcome): void => void outcomes.push(outcome);
  return {
    client,
    password: undefined,
    method,
    data: undefined,
    isReauthentication: false,
    state: undefined,
    complete,
  };
}

export function accessContract(name: string, make: () => Made): void {
  describe(`the access contract: ${name}`, () => {
    test("each step completes once: accepted, or refused with 0x80 or above", async () => {
      const { access, settle } = make();
      const outcomes: AuthenticateOutcome[] = [];
      access.authenticate(request(undefined, outcomes));
      await settle();
      await settle();
      expect(outcomes).toMatchObject([{ reasonCode: 0 }]);
    });

    test("[MQTT-4.12.0-1] a method that nobody knows is refused", async () => {
      const { access, settle } = make();
      const outcomes: AuthenticateOutcome[] = [];
      access.authenticate(request("unknown", outcomes));
      await settle();
      expect(outcomes).toMatchObject([{ reasonCode: 0x8c }]);
    });

    test("a publish: the verdict at once, or PENDING, one call back, and then the same verdict at once", async () => {
      const { access, settle, denied } = make();
      const topics: [string, Verdict][] = [["ok", ALLOW]];
      if (denied !== undefined) topics.push([`${denied}x`, DENY]);
      for (const [topic, expected] of topics) {
        let verdict = access.authorizePublish(client, viewOf(topic, ""));
        if (verdict === PENDING) {
          const told: Verdict[] = [];
          access.whenDecided(client, (answer) => told.push(answer));
          await settle();
          await settle();
          expect(told).toEqual([expected]);
          verdict = access.authorizePublish(client, viewOf(topic, ""));
        }
        expect(verdict).toBe(expected);
      }
    });

    test("a subscribe: one verdict a filter in order, never PENDING, once; the filters' bytes are borrowed", async () => {
      const { access, settle, denied } = make();
      const filters = [Buffer.from("a/#"), Buffer.from(`${denied ?? "b"}x`), Buffer.from("c")];
      const answers: Verdict[][] = [];
      access.authorizeSubscribe(client, filters, (verdicts) => answers.push(verdicts));
      for (const filter of filters) filter.fill(0);
      await settle();
      expect(answers).toEqual([[ALLOW, denied === undefined ? ALLOW : DENY, ALLOW]]);
    });

    test("an open access denies nothing", () => {
      const { access, denied } = make();
      expect(access.isOpen && denied !== undefined).toBe(false);
    });
  });
}
