/** An application's own functions as an access backend. */
import type { AuthenticateAnswer, AuthorizeAnswer, Backend } from "#access/backend.ts";
import { parseJsonSubscriptions } from "#access/subscription-list.ts";
import type { ClientInfo } from "#core/ports.ts";
import type { Logger } from "./log.ts";

/** What comes with being let in. */
export interface Admission {
  /** Who the client is from now on; without it the user name of CONNECT. */
  readonly username?: string;
  /** Every publish and subscribe is allowed. */
  readonly isSuperuser?: boolean;
  /** Wall clock, seconds: then the client is disconnected. */
  readonly expiresAtSec?: number;
  /** Filter → QoS: what the client is subscribed to as it comes in, where it may. */
  readonly subscriptions?: Readonly<Record<string, 0 | 1 | 2>>;
}

type Later<T> = T | Promise<T>;

/** True or an admission: let in; false: refused; undefined: the next backend is asked. A throw refuses, and is logged. */
export type AuthenticateFunction = (
  client: ClientInfo,
  password: Buffer | undefined,
) => Later<boolean | Admission | undefined>;

/** True: allowed; false: refused; undefined: the next backend is asked. A throw refuses, and is logged. `topic` may be a filter. */
export type AuthorizeFunction = (
  client: ClientInfo,
  action: "publish" | "subscribe",
  topic: string,
) => Later<boolean | undefined>;

export interface AccessFunctions {
  readonly authenticate?: AuthenticateFunction | undefined;
  readonly authorize?: AuthorizeFunction | undefined;
}

export function functionBackend({ authenticate, authorize }: AccessFunctions, log: Logger): Backend {
  const fault = (error: unknown): void => log.error({ err: error }, "an access function of the application failed");
  return {
    name: "application",
    mayGrant: authenticate !== undefined,
    ...(authenticate && {
      authenticate: ({ client, password }, answer) =>
        settle<AuthenticateAnswer>(
          () => answerOf(authenticate(client, password)),
          answer,
          () => ({ verdict: "unavailable" }),
          fault,
        ),
    }),
    ...(authorize && {
      authorize: ({ client, action, topic }, answer) =>
        settle<AuthorizeAnswer>(
          () => verdictOf(authorize(client, action, topic)),
          answer,
          () => "unavailable",
          fault,
        ),
    }),
  } satisfies Backend;
}

/** At once where the function answers at once: a PUBLISH then waits for nothing. */
function settle<T>(
  call: () => Later<T>,
  answer: (value: T) => void,
  failed: () => T,
  fault: (error: unknown) => void,
): void {
  const fail = (error: unknown): void => {
    fault(error);
    answer(failed());
  };
  let value: Later<T>;
  try {
    value = call();
  } catch (error) {
    return fail(error);
  }
  if (value instanceof Promise) value.then(answer, fail);
  else answer(value);
}

function map<T, R>(value: Later<T>, read: (value: T) => R): Later<R> {
  return value instanceof Promise ? value.then(read) : read(value);
}

function answerOf(found: Later<boolean | Admission | undefined>): Later<AuthenticateAnswer> {
  return map(found, (admission): AuthenticateAnswer => {
    if (admission === undefined) return { verdict: "ignore" };
    if (admission === false) return { verdict: "deny" };
    if (admission === true) return { verdict: "allow" };
    const { subscriptions: wanted, ...grant } = admission;
    const subscriptions = wanted && parseJsonSubscriptions(wanted);
    if (subscriptions && "fault" in subscriptions) throw new Error(`subscriptions: ${subscriptions.fault}`);
    return { verdict: "allow", grant: { ...grant, subscriptions } };
  });
}

function verdictOf(found: Later<boolean | undefined>): Later<AuthorizeAnswer> {
  return map(found, (isAllowed): AuthorizeAnswer =>
    isAllowed === undefined ? "ignore" : isAllowed ? "allow" : "deny",
  );
}
