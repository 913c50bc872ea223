/** A plugin's access backend behind a deadline: it answers once, in time, with what there is to answer, or it is unavailable. */
import type {
  AuthenticateAnswer,
  AuthorizeAnswer,
  Backend,
  BackendHealth,
  SubscriptionsAnswer,
} from "#access/backend.ts";

const ANSWER_MS_MAX = 5000;
const VERDICTS: ReadonlySet<unknown> = new Set<AuthenticateAnswer["verdict"]>([
  "allow",
  "deny",
  "ignore",
  "unavailable",
  "continue",
]);
const RULINGS: ReadonlySet<unknown> = new Set<AuthorizeAnswer>(["allow", "deny", "ignore", "unavailable"]);

/** Asks once, and answers `late` for what is not right. */
function askerOf(fault: (error: unknown) => void) {
  return <T>(
    call: (answer: (value: T) => void) => unknown,
    late: T,
    answer: (value: T) => void,
    isRight: (value: T) => boolean,
  ): void => {
    let isAnswered = false;
    let timer: Timer | undefined;
    const end = (value: T): void => {
      if (isAnswered) return;
      isAnswered = true;
      clearTimeout(timer);
      answer(value);
    };
    const fail = (error: unknown): void => {
      fault(error);
      end(late);
    };
    const once = (value: T): void => {
      if (isAnswered || isRight(value)) end(value);
      else fail(new Error("its backend's answer is none of those that there are"));
    };
    try {
      const promise = call(once);
      if (promise instanceof Promise) promise.catch(fail);
    } catch (error) {
      fail(error);
    }
    if (!isAnswered) timer = setTimeout(() => fail(new Error("its backend has not answered in time")), ANSWER_MS_MAX);
  };
}

/** `fault` is told what it throws, and that it is late. */
export function guardedBackend(backend: Backend, plugin: string, fault: (error: unknown) => void): Backend {
  const ask = askerOf(fault);
  const { authenticate, authorize, isSuperuser, subscriptions, methods, mayGrant, health } = backend;
  return {
    name: `${plugin}.${backend.name}`,
    ...(methods && { methods }),
    ...(mayGrant !== undefined && { mayGrant }),
    ...(health && { health: () => healthOf(() => health.call(backend), fault) }),
    ...(authenticate && {
      authenticate: (attempt, answer) =>
        ask<AuthenticateAnswer>(
          (once) => authenticate.call(backend, attempt, once),
          { verdict: "unavailable" },
          answer,
          (value) => VERDICTS.has(value?.verdict),
        ),
    }),
    ...(authorize && {
      authorize: (question, answer) =>
        ask<AuthorizeAnswer>(
          (once) => authorize.call(backend, question, once),
          "unavailable",
          answer,
          (value) => RULINGS.has(value),
        ),
    }),
    ...(subscriptions && {
      subscriptions: (client, answer) =>
        ask<SubscriptionsAnswer>(
          (once) => subscriptions.call(backend, client, once),
          "unavailable",
          answer,
          (value) => value === "unavailable" || Array.isArray(value),
        ),
    }),
    ...(isSuperuser && {
      isSuperuser: (client, answer) =>
        ask<boolean>(
          (once) => isSuperuser.call(backend, client, once),
          false,
          answer,
          (value) => typeof value === "boolean",
        ),
    }),
  };
}

function healthOf(look: () => BackendHealth, fault: (error: unknown) => void): BackendHealth {
  try {
    return look();
  } catch (error) {
    fault(error);
    return { state: "degraded", detail: "it cannot tell", counts: {} };
  }
}

/** A function that decides, as a backend; nothing is `ignore`. */
export function decidingBackend(
  name: "client.authenticate" | "client.authorize",
  decide: (question: unknown) => unknown,
): Backend {
  if (name === "client.authorize")
    return {
      name,
      async authorize(question, answer): Promise<void> {
        answer(((await decide(question)) ?? "ignore") as AuthorizeAnswer);
      },
    };
  return {
    name,
    async authenticate(attempt, answer): Promise<void> {
      const decision = ((await decide(attempt)) ?? "ignore") as AuthenticateAnswer | "allow" | "deny" | "ignore";
      answer(typeof decision === "string" ? { verdict: decision } : decision);
    },
  };
}
