/**
 * An HTTP service that says who may come in and who may do what; emqttd's three requests, each optional.
 *
 *   auth   clientid, username, password                  yes: let in; no: refused
 *   super  clientid, username                            yes: super user
 *   acl    access (1 subscribe, 2 publish), username, clientid, ipaddr, topic
 *
 * What goes out and what replies mean stands in `http-service.ts`. Costs a request a login, and one a topic unless
 * the guard keeps answers. Leaves out bodies of other shapes than a form or a flat JSON object.
 */
import { z } from "zod";
import { unanswered } from "#access/answer.ts";
import { type AuthenticateAnswer, type Backend, backendKind, DENY_CREDENTIALS, IGNORE } from "#access/backend.ts";
import { strictTextOf } from "#access/fetched.ts";
import { type TemplateValues, valuesOf } from "#access/template.ts";
import { MantouError } from "#base/error.ts";
import {
  type Compose,
  composer,
  HttpService,
  type Reply,
  requestOptions,
  type RequestOptions,
  serviceOptions,
} from "./http-service.ts";
import type { Guarded } from "#access/remote-guard.ts";

export const http = backendKind({
  type: "http",
  roles: ["authenticate", "authorize"],
  options: z.strictObject({
    auth: requestOptions({ clientid: "%c", username: "%u", password: "%P" }).optional(),
    super: requestOptions({ clientid: "%c", username: "%u" }).optional(),
    acl: requestOptions({ access: "%A", username: "%u", clientid: "%c", ipaddr: "%a", topic: "%t" }).optional(),
    ...serviceOptions,
  }),
  make({ auth, super: superuser, acl, ...options }, parts): Backend {
    const service = new HttpService(options, parts);
    const { name, nowSec } = parts;
    const requests = [auth, superuser, acl].filter((request) => request !== undefined);
    if (requests.length === 0)
      throw new MantouError("access_invalid", `access: ${name}: found no request, allowed: auth, super, acl`);
    if ([superuser, acl].some((request) => request && isAbout("%P", "password", request)))
      throw new MantouError("access_invalid", `access: ${name}: found %P in super or acl, allowed: in auth`);
    const askerOf = (request: RequestOptions): Ask => asker(service, composer(request, name));
    return {
      name,
      mayGrant: auth !== undefined,
      check: async () => service.start(),
      start: async () => service.start(),
      stop: async () => service.stop(),
      health: () => service.health(),
      ...(auth && { authenticate: authenticateBy(askerOf(auth), isAbout("%P", "password", auth), nowSec) }),
      ...(superuser && { isSuperuser: isSuperuserBy(askerOf(superuser)) }),
      ...(acl && { authorize: authorizeBy(askerOf(acl)) }),
    };
  },
});

type Ask = (values: TemplateValues, done: (reply: Guarded<Reply>) => void) => void;

function asker(service: HttpService, compose: Compose): Ask {
  return (values, done) => {
    const question = compose(values);
    if (typeof question === "object") return service.ask(question, values.address, done);
    const value: Reply = { result: question === "unknown" ? "ignore" : "deny" };
    done({ isAnswered: true, value, isStale: false });
  };
}

function isAbout(short: string, variable: string, { url, params, headers }: RequestOptions): boolean {
  const texts = [url, ...Object.values(params), ...Object.values(headers)];
  return texts.some((words) => words.includes(short) || words.toLowerCase().includes(`\${${variable}}`));
}

function authenticateBy(ask: Ask, needsPassword: boolean, nowSec: () => number): NonNullable<Backend["authenticate"]> {
  return ({ client, password }, answer) => {
    const isEmpty = password === undefined || password.length === 0;
    if (needsPassword && isEmpty) return answer(client.username === undefined ? IGNORE : DENY_CREDENTIALS);
    const words = isEmpty ? undefined : strictTextOf(password);
    if (needsPassword && words === undefined) return answer(DENY_CREDENTIALS);
    ask({ ...valuesOf(client), password: words }, (reply) => answer(answerOfReply(reply, nowSec)));
  };
}

/** For every backend whose answer is a service's. */
export function answerOfReply(reply: Guarded<Reply>, nowSec: () => number): AuthenticateAnswer {
  if (!reply.isAnswered) return unanswered(reply.why);
  const { value } = reply;
  if (value.result !== "allow") return value.result === "ignore" ? IGNORE : DENY_CREDENTIALS;
  const { grant } = value;
  // A kept answer may have ended meanwhile.
  if (grant.expiresAtSec !== undefined && grant.expiresAtSec <= nowSec()) return DENY_CREDENTIALS;
  return { verdict: "allow", grant };
}

function isSuperuserBy(ask: Ask): NonNullable<Backend["isSuperuser"]> {
  return (client, answer) =>
    ask(valuesOf(client), (reply) => {
      const value = reply.isAnswered ? reply.value : undefined;
      answer(value?.result === "allow" && value.isSuperuser !== false);
    });
}

function authorizeBy(ask: Ask): NonNullable<Backend["authorize"]> {
  return ({ client, action, topic }, answer) =>
    ask({ ...valuesOf(client), topic, action, access: action === "subscribe" ? "1" : "2" }, (reply) =>
      answer(reply.isAnswered ? reply.value.result : "unavailable"),
    );
}
