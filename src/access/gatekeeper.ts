/**
 * Who may come in: the part of the chain that a CONNECT goes through, and AUTH, and whoever has lost his right.
 *
 *   authenticate   bans ─► brute force ─► backend ─► backend ─► …   allow or deny ends it; exhausted: refused
 *      allow ─► bans of the granted name ─► super user? ─► listed subscriptions ─► revoked meanwhile? ─► a standing
 */
import { type AuthenticateRequest, type ClientInfo, type GrantedSubscription } from "#core/ports.ts";
import type { BackendAsker } from "./backend-asker.ts";
import type { Attempt, AuthenticateAnswer, Backend, ClientMatch, Grant, SubscriptionsAnswer } from "./backend.ts";
import type { ChainCounts, ChainOptions, Member } from "./chain-options.ts";
import type { StoredPassword } from "./password.ts";
import {
  ACCEPTED,
  ADMINISTRATIVE_ACTION,
  BAD_AUTHENTICATION_METHOD,
  BAD_USER_NAME_OR_PASSWORD,
  BANNED,
  CONTINUE,
  NOT_AUTHORIZED,
  type RefusalCode,
  SERVER_BUSY,
  SERVER_UNAVAILABLE,
} from "./reason.ts";
import type { Members } from "./members.ts";
import { copyOf, Standing, type Standings } from "./standing.ts";
import { subscriptionsFor } from "./subscription-list.ts";

/** What lies between the steps of an exchange in `AuthenticateRequest.state`. */
class Exchange {
  /** Whose turn it is. */
  at = 0;
  decoy: StoredPassword | undefined = undefined;
  /** The client has been asked for another step: what it said first is gone. */
  isStepped = false;

  constructor(
    readonly attempt: Attempt & { data: Buffer | undefined },
    readonly members: readonly Member[],
    /** Revocations before this one are of no concern. */
    readonly firstRevocation: number,
    /** Of the members. */
    public version: number,
    /** Its address had not failed too often when it began. */
    readonly isFree: boolean,
  ) {}
}

interface Revocation {
  readonly match: ClientMatch;
  readonly reasonCode: number;
}

const TOO_LATE = "its address has failed too often meanwhile";
const UNKNOWN = "no backend lets it in";

interface Words {
  /** For the log. */
  readonly why: string;
  /** For the client. */
  readonly reasonString?: string | undefined;
}

/** Revocations that are kept for those whose credentials are being looked at meanwhile. */
const REVOCATION_COUNT_MAX = 256;

interface GatekeeperParts {
  readonly standings: Standings;
  readonly asker: BackendAsker;
  readonly counts: ChainCounts;
  /** A client has other rights from now on. */
  readonly onReauthenticated: () => void;
  readonly members: Members;
}

export class Gatekeeper {
  /** Wall clock. */
  nowSec: number;
  /** A ring; `revocationCount` is the number of the next. */
  private readonly revocations: Revocation[] = [];
  private revocationCount = 0;

  constructor(
    private readonly options: ChainOptions,
    private readonly parts: GatekeeperParts,
  ) {
    this.nowSec = options.nowSec;
  }

  /** Ends the connections of live clients. They must be known: `standings.open` and `close` are called for each. */
  revoke(match: ClientMatch, reasonCode: number = NOT_AUTHORIZED): number {
    this.revocations[this.revocationCount++ % REVOCATION_COUNT_MAX] = { match, reasonCode };
    const { clientId } = match;
    const known = clientId === undefined ? [...this.parts.standings.all()] : [this.parts.standings.find(clientId)];
    let count = 0;
    for (const standing of known) {
      if (!standing) continue;
      const { client } = standing;
      if (!isMeant(client, match)) continue;
      count++;
      this.options.kick(client.clientId, reasonCode);
    }
    return count;
  }

  /** Why a client has lost its right since then, for a DISCONNECT; 0: it has not. */
  lostSince(first: number, client: ClientInfo): number {
    if (this.revocationCount - first > REVOCATION_COUNT_MAX) return SERVER_BUSY;
    for (let at = first; at < this.revocationCount; at++) {
      const { match, reasonCode } = this.revocations[at % REVOCATION_COUNT_MAX];
      if (isMeant(client, match)) return reasonCode;
    }
    return ACCEPTED;
  }

  authenticate(request: AuthenticateRequest): void {
    const { state } = request;
    if (state instanceof Exchange) {
      state.attempt.data = request.data;
      return this.askNext(request, state);
    }
    const client = copyOf(request.client);
    if (this.options.bans?.find(client, this.nowSec)) {
      this.parts.counts.banned++;
      return this.refuse(request, client, BANNED, "it is banned");
    }
    const firstRevocation = this.revocationCount;
    const { attempts } = this.options;
    if (!attempts) return this.begin(request, client, { firstRevocation, isFree: true });
    attempts.admit(client.address, (refusal, isFree) => {
      if (refusal === 0) this.begin(request, client, { firstRevocation, isFree });
      else this.refuse(request, client, refusal, "too many of its address wait");
    });
  }

  private begin(
    request: AuthenticateRequest,
    client: ClientInfo,
    { firstRevocation, isFree }: Pick<Exchange, "firstRevocation" | "isFree">,
  ): void {
    const { method, password, data, isReauthentication } = request;
    const { authenticate, version } = this.parts.members;
    const members = authenticate.filter(({ backend }) =>
      method === undefined ? backend.authenticate : backend.methods?.includes(method),
    );
    // Nobody here knows the method. [MQTT-4.12.0-1]
    if (method !== undefined && members.length === 0)
      return this.refuse(request, client, BAD_AUTHENTICATION_METHOD, "no backend has its authentication method");
    const attempt = { client, method, password, data, isReauthentication, state: undefined };
    this.askNext(request, new Exchange(attempt, members, firstRevocation, version, isFree));
  }

  /** Backends were replaced meanwhile: those that are there now are asked, from the beginning. */
  private beginAnew(request: AuthenticateRequest, exchange: Exchange): void {
    const { client } = exchange.attempt;
    if (exchange.isStepped) this.refuse(request, client, SERVER_UNAVAILABLE, "its backend was replaced meanwhile");
    else this.begin(request, client, exchange);
  }

  /** Too many guesses at once: none of them is told whether it is right. */
  private isTooLate({ attempt, isFree }: Exchange): boolean {
    return isFree && this.options.attempts?.isOver(attempt.client.address) === true;
  }

  private isCurrent(exchange: Exchange): boolean {
    const { authenticate, version } = this.parts.members;
    // An exchange goes on with a backend that is as it was.
    if (exchange.isStepped && authenticate.includes(exchange.members[exchange.at])) exchange.version = version;
    return exchange.version === version;
  }

  private askNext(request: AuthenticateRequest, exchange: Exchange): void {
    const { attempt, members } = exchange;
    const member = members[exchange.at];
    if (!member) return this.refuseUnknown(request, exchange);
    this.parts.asker.ask<AuthenticateAnswer>(
      (answer) => member.backend.authenticate!(attempt, answer),
      { verdict: "unavailable" },
      (answer) => {
        if (this.isCurrent(exchange)) this.handleAnswer(request, exchange, member, answer);
        else this.beginAnew(request, exchange);
      },
    );
  }

  private handleAnswer(
    request: AuthenticateRequest,
    exchange: Exchange,
    { backend, whenUnavailable }: Member,
    answer: AuthenticateAnswer,
  ): void {
    const { client } = exchange.attempt;
    const next = (): void => {
      exchange.at++;
      exchange.attempt.state = undefined;
      this.askNext(request, exchange);
    };
    switch (answer.verdict) {
      case "ignore":
        exchange.decoy = answer.decoy ?? exchange.decoy;
        return next();
      case "continue":
        request.state = exchange;
        exchange.isStepped = true;
        return request.complete({ reasonCode: CONTINUE, data: answer.data });
      case "deny":
        return this.refuseAttempt(request, exchange, answer.code ?? BAD_USER_NAME_OR_PASSWORD, {
          why: `${backend.name}: ${answer.reasonString ?? "refused"}`,
          reasonString: answer.reasonString,
        });
      case "allow":
        if (this.isTooLate(exchange)) return this.refuse(request, client, SERVER_BUSY, TOO_LATE);
        return this.admit(request, exchange, { grant: answer.grant ?? {}, data: answer.data });
      case "unavailable":
        if (whenUnavailable === "ignore") return next();
        if (whenUnavailable === "deny" || backend.methods)
          return this.refuse(request, client, SERVER_UNAVAILABLE, unavailableWords(backend));
        return this.admit(request, exchange, { grant: {}, data: undefined });
    }
  }

  /** Nobody knows the client: refused as one that is known, and no sooner. */
  private refuseUnknown(request: AuthenticateRequest, exchange: Exchange): void {
    const { attempt, decoy } = exchange;
    const { password } = attempt;
    const reasonCode = exhaustedCode(attempt);
    if (!decoy || password === undefined || password.length === 0)
      return this.refuseAttempt(request, exchange, reasonCode, UNKNOWN);
    this.options.passwords.check(password, decoy, (verdict) => {
      if (!this.isCurrent(exchange)) return this.beginAnew(request, exchange);
      this.refuseAttempt(request, exchange, verdict === "busy" ? SERVER_BUSY : reasonCode, UNKNOWN);
    });
  }

  private admit(
    request: AuthenticateRequest,
    exchange: Exchange,
    { grant, data }: { grant: Grant; data: Buffer | undefined },
  ): void {
    const { client } = exchange.attempt;
    const named = grant.username === undefined ? client : copyOf(client, grant.username);
    if (named !== client && this.options.bans?.find(named, this.nowSec)) {
      this.parts.counts.banned++;
      return this.refuse(request, named, BANNED, "it is banned");
    }
    // A session does not change hands while it is connected.
    if (request.isReauthentication && this.parts.standings.of(request.client).client.username !== named.username)
      return this.refuse(request, named, NOT_AUTHORIZED, "it came again as somebody else");
    const finish = (isSuperuser: boolean, listed: readonly GrantedSubscription[]): void => {
      const lost = this.lostSince(exchange.firstRevocation, named);
      const code = lost === ADMINISTRATIVE_ACTION ? BANNED : lost;
      if (lost !== ACCEPTED) return this.refuse(request, named, code, "its right was taken away meanwhile");
      this.parts.counts.accepted++;
      // One that has come to its end within a backend's tolerance ends with the next second.
      const { expiresAtSec: sec } = grant;
      const expiresAtSec = sec === undefined ? undefined : Math.max(sec, this.nowSec + 1);
      if (request.isReauthentication) this.parts.onReauthenticated();
      const standing = new Standing(named, { ...grant, isSuperuser, expiresAtSec });
      standing.firstRevocation = this.revocationCount;
      this.parts.standings.admit(request.client, standing);
      const own = request.isReauthentication ? [] : subscriptionsFor(grant.subscriptions ?? [], named);
      const subscriptions = [...own, ...listed];
      request.complete({ reasonCode: ACCEPTED, data, username: grant.username, subscriptions });
    };
    const goOn = (isSuperuser: boolean): void => {
      if (!this.isCurrent(exchange)) return this.beginAnew(request, exchange);
      if (request.isReauthentication) return finish(isSuperuser, []);
      this.askSubscriptions(named, { left: this.parts.members.listing, found: [] }, (listed) => {
        if (!this.isCurrent(exchange)) this.beginAnew(request, exchange);
        else if (listed === "unavailable")
          this.refuse(request, named, SERVER_UNAVAILABLE, "its subscriptions cannot be listed");
        else finish(isSuperuser, listed);
      });
    };
    if (grant.isSuperuser || this.parts.members.isOpen) goOn(grant.isSuperuser ?? false);
    else
      this.askSuperuser(
        named,
        this.parts.members.all.map(({ backend }) => backend),
        goOn,
      );
  }

  /** Who would come in without what is listed for it would miss messages in silence. */
  private askSubscriptions(
    client: ClientInfo,
    { left, found }: { left: readonly Member[]; found: readonly GrantedSubscription[] },
    done: (found: SubscriptionsAnswer) => void,
  ): void {
    const [member, ...others] = left;
    if (!member) return done(found);
    this.parts.asker.ask<SubscriptionsAnswer>(
      (answer) => member.backend.subscriptions!(client, answer),
      "unavailable",
      (answer) => {
        if (answer === "unavailable" && member.whenUnavailable === "deny") return done(answer);
        const more = answer === "unavailable" ? [] : answer;
        this.askSubscriptions(client, { left: others, found: [...found, ...more] }, done);
      },
    );
  }

  private askSuperuser(client: ClientInfo, left: readonly Backend[], done: (isSuperuser: boolean) => void): void {
    const at = left.findIndex((backend) => backend.isSuperuser);
    if (at < 0) return done(false);
    this.parts.asker.ask<boolean>(
      (answer) => left[at].isSuperuser!(client, answer),
      false,
      (isSuperuser) => {
        if (isSuperuser) done(true);
        else this.askSuperuser(client, left.slice(at + 1), done);
      },
    );
  }

  /** What the credentials were worth. */
  private refuseAttempt(
    request: AuthenticateRequest,
    exchange: Exchange,
    reasonCode: RefusalCode,
    words: Words | string,
  ): void {
    const { client } = exchange.attempt;
    const isTooLate = this.isTooLate(exchange);
    if (reasonCode === BAD_USER_NAME_OR_PASSWORD) this.options.attempts?.noteFailure(client.address);
    if (isTooLate) this.refuse(request, client, SERVER_BUSY, TOO_LATE);
    else this.refuse(request, client, reasonCode, words);
  }

  private refuse(request: AuthenticateRequest, client: ClientInfo, reasonCode: number, words: Words | string): void {
    const { why, reasonString } = typeof words === "string" ? { why: words } : words;
    this.parts.counts.refused++;
    this.options.onDenied?.({ kind: "connect", client, reasonCode, why });
    request.complete({ reasonCode, reasonString });
  }
}

function unavailableWords(backend: Backend): string {
  const detail = backend.health?.().detail;
  return `${backend.name}: unavailable${detail === undefined ? "" : ` (${detail})`}`;
}

function isMeant(client: ClientInfo, { clientId, username, holds }: ClientMatch): boolean {
  if (clientId !== undefined && client.clientId !== clientId) return false;
  if (username !== undefined && client.username !== username) return false;
  return holds === undefined || holds(client);
}

/** Who brought credentials hears no more than that they are wrong: not that the user is unknown. */
function exhaustedCode({ client, password, method }: Attempt): RefusalCode {
  const hasCredentials = client.username !== undefined || password !== undefined;
  return hasCredentials && method === undefined ? BAD_USER_NAME_OR_PASSWORD : NOT_AUTHORIZED;
}
