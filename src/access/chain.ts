/**
 * The `Access` port: backends in their configured order.
 *
 *   authenticate   bans ─► brute force ─► backend ─► backend ─► …   allow or deny ends it; exhausted: refused
 *   authorize      super user? ─► own rules (of a token) ─► backend ─► …   allow or deny ends it; exhausted: `noMatch`
 *
 * Without rules and with `noMatch: allow` it is open: nobody is asked, and a PUBLISH costs nothing. Else the answers
 * about publishes are kept per session (`decision-cache.ts`), so that a PUBLISH is judged while it is handled and only one
 * about a topic that is new waits. `invalidate` makes every answer void.
 */
import { hashBytes } from "#base/bytes.ts";
import type { MessageView } from "#core/message.ts";
import {
  type Access,
  ALLOW,
  type AuthenticateOutcome,
  type AuthenticateRequest,
  type ClientInfo,
  DENY,
  type GrantedSubscription,
  PENDING,
  type Verdict,
} from "#core/ports.ts";
import { isShared, parseShared } from "#core/topic.ts";
import { decideByRules } from "./acl-rule.ts";
import type {
  Attempt,
  AuthenticateAnswer,
  AuthorizeAnswer,
  Backend,
  ClientMatch,
  Grant,
  Question,
  SubscriptionsAnswer,
} from "./backend.ts";
import type { ChainOptions, Member } from "./chain-options.ts";
import { DecisionCache, type Decided, UNKNOWN } from "./decision-cache.ts";
import type { StoredPassword } from "./password.ts";
import {
  ACCEPTED,
  BAD_AUTHENTICATION_METHOD,
  BAD_USER_NAME_OR_PASSWORD,
  BANNED,
  CONTINUE,
  NOT_AUTHORIZED,
  type RefusalCode,
  SERVER_BUSY,
  SERVER_UNAVAILABLE,
} from "./reason.ts";
import { subscriptionsFor } from "./subscription-list.ts";
import { copyOf, Standing, Standings } from "./standing.ts";

/** What lies between the steps of an exchange in `AuthenticateRequest.state`. */
class Exchange {
  /** Whose turn it is. */
  at = 0;
  decoy: StoredPassword | undefined = undefined;

  constructor(
    readonly attempt: Attempt & { data: Buffer | undefined },
    readonly members: readonly Member[],
    /** Revocations before this one are of no concern. */
    readonly firstRevocation: number,
  ) {}
}

interface Revocation {
  readonly match: ClientMatch;
  readonly reasonCode: number;
}

/** Revocations that are kept for those whose credentials are being looked at meanwhile. */
const REVOCATION_COUNT_MAX = 256;

export class AccessChain implements Access {
  readonly isOpen: boolean;
  readonly deniedPublish: "drop" | "disconnect";
  readonly counts = { accepted: 0, refused: 0, banned: 0, publishDenied: 0, subscribeDenied: 0, asked: 0, bugs: 0 };
  readonly standings = new Standings();
  private generation = 0;
  /** A ring; `revocationCount` is the number of the next. */
  private readonly revocations: Revocation[] = [];
  private revocationCount = 0;
  private nowSec: number;
  private readonly seed: number;
  private readonly backends: ReadonlySet<Backend>;
  /** Those who list subscriptions. */
  private readonly listing: readonly Member[];

  constructor(private readonly options: ChainOptions) {
    const { authenticate, authorize, noMatch } = options;
    this.backends = new Set([...authenticate, ...authorize].map(({ backend }) => backend));
    const members = new Map([...authorize, ...authenticate].map((member) => [member.backend, member]));
    this.listing = [...members.values()].filter(({ backend }) => backend.subscriptions);
    const mayGrant = authenticate.some(({ backend }) => backend.mayGrant);
    this.isOpen = authorize.length === 0 && noMatch === "allow" && !mayGrant;
    this.deniedPublish = options.deniedPublish;
    this.seed = options.seed;
    this.nowSec = options.nowSec;
  }

  /** Call it about once a second with the wall clock: answers grow old, and whose time has come is disconnected. */
  tick(nowSec: number): void {
    for (let sec = this.nowSec + 1; sec <= nowSec; sec++)
      for (const { client } of this.standings.endingAt(sec)) this.options.kick(client.clientId, NOT_AUTHORIZED);
    this.nowSec = Math.max(nowSec, this.nowSec);
  }

  /** Every decision is asked for anew. */
  invalidate(): void {
    this.generation++;
  }

  /** Ends the connections of live clients. They must be known: `standings.open` and `close` are called for each. */
  revoke(match: ClientMatch, reasonCode: number = NOT_AUTHORIZED): number {
    this.revocations[this.revocationCount++ % REVOCATION_COUNT_MAX] = { match, reasonCode };
    const { clientId } = match;
    const known = clientId === undefined ? [...this.standings.all()] : [this.standings.find(clientId)];
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

  /** What has been taken away from a client while it was asked about; 0: nothing. */
  private lostSince(first: number, client: ClientInfo): number {
    if (this.revocationCount - first > REVOCATION_COUNT_MAX) return SERVER_BUSY;
    for (let at = first; at < this.revocationCount; at++) {
      const { match, reasonCode } = this.revocations[at % REVOCATION_COUNT_MAX];
      if (isMeant(client, match)) return reasonCode === NOT_AUTHORIZED ? NOT_AUTHORIZED : BANNED;
    }
    return ACCEPTED;
  }

  // ---- who may come in

  authenticate(request: AuthenticateRequest): void {
    const { state } = request;
    if (state instanceof Exchange) {
      state.attempt.data = request.data;
      return this.askNext(request, state);
    }
    const { method, password, data, isReauthentication } = request;
    const client = copyOf(request.client);
    if (this.options.bans?.find(client, this.nowSec)) {
      this.counts.banned++;
      return this.refuse(request, client, BANNED);
    }
    const members = this.options.authenticate.filter(({ backend }) =>
      method === undefined ? backend.authenticate : backend.methods?.includes(method),
    );
    // Nobody here knows the method. [MQTT-4.12.0-1]
    if (method !== undefined && members.length === 0) return this.refuse(request, client, BAD_AUTHENTICATION_METHOD);
    const attempt = { client, method, password, data, isReauthentication, state: undefined };
    const exchange = new Exchange(attempt, members, this.revocationCount);
    const { attempts } = this.options;
    if (!attempts) return this.askNext(request, exchange);
    attempts.admit(client.address, (refusal) => {
      if (refusal === 0) this.askNext(request, exchange);
      else this.refuse(request, client, refusal);
    });
  }

  private askNext(request: AuthenticateRequest, exchange: Exchange): void {
    const { attempt, members } = exchange;
    const member = members[exchange.at];
    if (!member) return this.refuseUnknown(request, exchange);
    this.ask<AuthenticateAnswer>(
      (answer) => member.backend.authenticate!(attempt, answer),
      { verdict: "unavailable" },
      (answer) => this.handleAnswer(request, exchange, member, answer),
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
        return request.complete({ reasonCode: CONTINUE, data: answer.data });
      case "deny":
        return this.refuse(request, client, answer.code ?? BAD_USER_NAME_OR_PASSWORD, answer.reasonString);
      case "allow":
        return this.admit(request, exchange, { grant: answer.grant ?? {}, data: answer.data });
      case "unavailable":
        if (whenUnavailable === "ignore") return next();
        if (whenUnavailable === "deny" || backend.methods) return this.refuse(request, client, SERVER_UNAVAILABLE);
        return this.admit(request, exchange, { grant: {}, data: undefined });
    }
  }

  /** Nobody knows the client: refused as one that is known, and no sooner. */
  private refuseUnknown(request: AuthenticateRequest, { attempt, decoy }: Exchange): void {
    const { client, password } = attempt;
    const reasonCode = exhaustedCode(attempt);
    if (!decoy || password === undefined || password.length === 0) return this.refuse(request, client, reasonCode);
    this.options.passwords.check(password, decoy, (verdict) =>
      this.refuse(request, client, verdict === "busy" ? SERVER_BUSY : reasonCode),
    );
  }

  private admit(
    request: AuthenticateRequest,
    { attempt: { client }, firstRevocation }: Exchange,
    { grant, data }: { grant: Grant; data: Buffer | undefined },
  ): void {
    const named = grant.username === undefined ? client : copyOf(client, grant.username);
    if (named !== client && this.options.bans?.find(named, this.nowSec)) {
      this.counts.banned++;
      return this.refuse(request, named, BANNED);
    }
    // A session does not change hands while it is connected.
    if (request.isReauthentication && this.standings.of(request.client).client.username !== named.username)
      return this.refuse(request, named, NOT_AUTHORIZED);
    const finish = (isSuperuser: boolean, listed: readonly GrantedSubscription[]): void => {
      const lost = this.lostSince(firstRevocation, named);
      if (lost !== ACCEPTED) return this.refuse(request, named, lost);
      this.counts.accepted++;
      // One that has come to its end within a backend's tolerance ends with the next second.
      const { expiresAtSec: sec } = grant;
      const expiresAtSec = sec === undefined ? undefined : Math.max(sec, this.nowSec + 1);
      this.standings.admit(request.client, new Standing(named, { ...grant, isSuperuser, expiresAtSec }));
      const own = request.isReauthentication ? [] : subscriptionsFor(grant.subscriptions ?? [], named);
      const subscriptions = [...own, ...listed];
      request.complete({ reasonCode: ACCEPTED, data, username: grant.username, subscriptions });
    };
    const goOn = (isSuperuser: boolean): void => {
      if (request.isReauthentication) return finish(isSuperuser, []);
      this.askSubscriptions(named, { at: 0, found: [] }, (listed) => {
        if (listed === "unavailable") this.refuse(request, named, SERVER_UNAVAILABLE);
        else finish(isSuperuser, listed);
      });
    };
    if (grant.isSuperuser || this.isOpen) goOn(grant.isSuperuser ?? false);
    else this.askSuperuser(named, [...this.backends], goOn);
  }

  /** Who would come in without what is listed for it would miss messages in silence. */
  private askSubscriptions(
    client: ClientInfo,
    { at, found }: { at: number; found: readonly GrantedSubscription[] },
    done: (found: SubscriptionsAnswer) => void,
  ): void {
    const member = this.listing[at];
    if (!member) return done(found);
    this.ask<SubscriptionsAnswer>(
      (answer) => member.backend.subscriptions!(client, answer),
      "unavailable",
      (answer) => {
        if (answer === "unavailable" && member.whenUnavailable === "deny") return done(answer);
        const more = answer === "unavailable" ? [] : answer;
        this.askSubscriptions(client, { at: at + 1, found: [...found, ...more] }, done);
      },
    );
  }

  private askSuperuser(client: ClientInfo, left: Backend[], done: (isSuperuser: boolean) => void): void {
    const at = left.findIndex((backend) => backend.isSuperuser);
    if (at < 0) return done(false);
    this.ask<boolean>(
      (answer) => left[at].isSuperuser!(client, answer),
      false,
      (isSuperuser) => {
        if (isSuperuser) done(true);
        else this.askSuperuser(client, left.slice(at + 1), done);
      },
    );
  }

  private refuse(request: AuthenticateRequest, client: ClientInfo, reasonCode: number, reasonString?: string): void {
    this.counts.refused++;
    if (reasonCode === BAD_USER_NAME_OR_PASSWORD) this.options.attempts?.noteFailure(client.address);
    this.options.onDenied?.({ kind: "connect", client, reasonCode });
    const outcome: AuthenticateOutcome = { reasonCode, reasonString };
    request.complete(outcome);
  }

  // ---- who may do what

  authorizePublish(client: ClientInfo, view: MessageView): Verdict {
    const standing = this.standings.of(client);
    if (standing.isSuperuser) return ALLOW;
    const { bytes, topicStart, topicEnd } = view;
    if (standing.generation !== this.generation) {
      standing.generation = this.generation;
      standing.decisions = standing.answered = undefined;
    }
    const { decisions } = standing;
    let verdict: Verdict | typeof UNKNOWN = UNKNOWN;
    if (decisions !== undefined) verdict = decisions.findLast(bytes, topicStart, topicEnd, this.nowSec);
    if (verdict === UNKNOWN) {
      const hash = hashBytes(bytes, topicStart, topicEnd, this.seed);
      if (decisions !== undefined) verdict = decisions.find(bytes, topicStart, topicEnd, hash, this.nowSec);
      if (verdict === UNKNOWN) verdict = this.askPublish(standing, view, hash);
    }
    if (verdict === DENY) this.denyPublish(standing, view);
    return verdict;
  }

  whenDecided(client: ClientInfo, callback: (verdict: Decided) => void): void {
    const { asking, answered } = this.standings.of(client);
    if (asking) asking.callbacks.push(callback);
    else callback(answered?.verdict ?? DENY);
  }

  private askPublish(standing: Standing, view: MessageView, hash: number): Verdict {
    const topic = Buffer.allocUnsafeSlow(view.topicEnd - view.topicStart);
    view.bytes.copy(topic, 0, view.topicStart, view.topicEnd);
    const { answered, generation } = standing;
    standing.answered = undefined;
    if (answered?.topic.equals(topic)) return answered.verdict;
    const question: Question = { client: standing.client, action: "publish", topic: topic.toString("utf8") };
    const asking: NonNullable<Standing["asking"]> = { callbacks: [], verdict: undefined };
    let isLater = false;
    this.decide(standing, question, (verdict, isKept) => {
      asking.verdict = verdict;
      // After a change the answer may be wrong: it is asked for again.
      const isValid = generation === this.generation && standing.generation === generation;
      if (isKept && isValid) this.keep(standing, topic, hash, verdict);
      if (!isLater) return;
      if (isValid) standing.answered = { topic, verdict };
      if (standing.asking === asking) standing.asking = undefined;
      for (const callback of asking.callbacks) callback(verdict);
    });
    isLater = true;
    if (asking.verdict !== undefined) return asking.verdict;
    standing.asking = asking;
    return PENDING;
  }

  private keep(standing: Standing, topic: Buffer, hash: number, verdict: Decided): void {
    const { cacheCountMax, cacheSec } = this.options;
    if (cacheCountMax === 0 || cacheSec === 0) return;
    standing.decisions ??= new DecisionCache(cacheCountMax);
    standing.decisions.add(topic, hash, verdict, this.nowSec + cacheSec);
  }

  authorizeSubscribe(client: ClientInfo, filters: readonly Buffer[], complete: (verdicts: Verdict[]) => void): void {
    const standing = this.standings.of(client);
    const verdicts: Verdict[] = [];
    this.judgeFilters(
      standing,
      filters,
      (verdict, topic) => {
        verdicts.push(verdict);
        if (verdict === DENY) this.denySubscribe(standing, topic);
      },
      () => complete(verdicts),
    );
  }

  /** Which of these filters a client may certainly not have any more; where a server cannot say, it may. */
  reviewSubscriptions(client: ClientInfo, filters: readonly Buffer[], complete: (lost: Buffer[]) => void): void {
    const standing = this.standings.of(client);
    const lost: Buffer[] = [];
    let at = 0;
    this.judgeFilters(
      standing,
      filters,
      (verdict, topic, isKept) => {
        const filter = filters[at++];
        if (verdict !== DENY || !isKept) return;
        lost.push(filter);
        this.denySubscribe(standing, topic);
      },
      () => complete(lost),
    );
  }

  /** One question at a time: a client's ten thousand filters are not ten thousand requests to a server. */
  private judgeFilters(
    standing: Standing,
    filters: readonly Buffer[],
    each: (verdict: Decided, topic: string, isKept: boolean) => void,
    done: () => void,
  ): void {
    const topics = filters.map(unsharedText);
    let at = 0;
    const goOn = (): void => {
      while (at < topics.length) {
        const topic = topics[at];
        let isLater = false;
        let isAnswered = false;
        const answer = (verdict: Decided, isKept: boolean): void => {
          isAnswered = true;
          at++;
          each(verdict, topic, isKept);
          if (isLater) goOn();
        };
        if (standing.isSuperuser) answer(ALLOW, true);
        else this.decide(standing, { client: standing.client, action: "subscribe", topic }, answer);
        isLater = true;
        if (!isAnswered) return;
      }
      done();
    };
    goOn();
  }

  /** `isKept` is false for an answer that a server's fault brought about. */
  private decide(standing: Standing, question: Question, done: (verdict: Decided, isKept: boolean) => void): void {
    const own = standing.rules ? decideByRules(standing.rules, question) : "ignore";
    if (own !== "ignore") return done(own === "allow" ? ALLOW : DENY, true);
    this.counts.asked++;
    this.askAuthorize(question, 0, true, done);
  }

  private askAuthorize(
    question: Question,
    at: number,
    isKept: boolean,
    done: (verdict: Decided, isKept: boolean) => void,
  ): void {
    const member = this.options.authorize[at];
    if (!member) return done(this.options.noMatch === "allow" ? ALLOW : DENY, isKept);
    const { backend, whenUnavailable } = member;
    if (!backend.authorize) return this.askAuthorize(question, at + 1, isKept, done);
    this.ask<AuthorizeAnswer>(
      (answer) => backend.authorize!(question, answer),
      "unavailable",
      (answer) => {
        const isFault = answer === "unavailable";
        const verdict = isFault ? whenUnavailable : answer;
        if (verdict === "ignore") this.askAuthorize(question, at + 1, isKept && !isFault, done);
        else done(verdict === "allow" ? ALLOW : DENY, isKept && !isFault);
      },
    );
  }

  private denyPublish(standing: Standing, view: MessageView): void {
    this.counts.publishDenied++;
    const { onDenied } = this.options;
    const { client } = standing;
    onDenied?.({ kind: "publish", client, topic: view.topicText(), reasonCode: NOT_AUTHORIZED });
  }

  private denySubscribe({ client }: Standing, topic: string): void {
    this.counts.subscribeDenied++;
    this.options.onDenied?.({ kind: "subscribe", client, topic, reasonCode: NOT_AUTHORIZED });
  }

  /** Asks a backend; a throw is `fault`, a second answer is not heard. */
  private ask<T>(call: (answer: (value: T) => void) => void, fault: T, done: (value: T) => void): void {
    let isAnswered = false;
    const answer = (value: T): void => {
      if (isAnswered) return this.noteBug(new Error("a backend answered twice"));
      isAnswered = true;
      done(value);
    };
    try {
      call(answer);
    } catch (error) {
      // What was thrown after the answer came from whoever got it.
      if (isAnswered) throw error;
      this.noteBug(error);
      answer(fault);
    }
  }

  private noteBug(error: unknown): void {
    this.counts.bugs++;
    this.options.onBug?.(error);
  }
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

/** A share's filter is judged as the filter itself. */
function unsharedText(filter: Buffer): string {
  const shared = isShared(filter) ? parseShared(filter) : undefined;
  return (shared?.filter ?? filter).toString("utf8");
}
