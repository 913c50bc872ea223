/**
 * The `Access` port: backends in their configured order.
 *
 *   authenticate   `gatekeeper.ts`
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
  ALLOW_KEPT,
  type AuthenticateRequest,
  type ClientInfo,
  DENY,
  PENDING,
  type Verdict,
} from "#core/ports.ts";
import { isShared, parseShared, queuePrefix } from "#core/topic.ts";
import { decideByRules } from "./acl-rule.ts";
import type { AuthorizeAnswer, ClientMatch, Question } from "./backend.ts";
import { BackendAsker } from "./backend-asker.ts";
import { type ChainOptions, type ChainSettings, chainCounts, type Member } from "./chain-options.ts";
import { DecisionCache, type Decided, UNKNOWN } from "./decision-cache.ts";
import { Gatekeeper } from "./gatekeeper.ts";
import { Members } from "./members.ts";
import { NOT_AUTHORIZED } from "./reason.ts";
import { type Standing, Standings } from "./standing.ts";

const DOLLAR = 0x24;
const QUEUE = queuePrefix.toString();

export class AccessChain implements Access {
  readonly counts = chainCounts();
  readonly standings = new Standings();
  epoch = 0;
  private generation = 0;
  private nowSec: number;
  private readonly seed: number;
  private readonly asker: BackendAsker;
  private readonly gatekeeper: Gatekeeper;
  /** Plugins add to them while the chain is in use. */
  readonly members: Members;
  private settings: ChainSettings;

  constructor(private readonly options: ChainOptions) {
    this.members = new Members(options);
    this.settings = options;
    this.seed = options.seed;
    this.nowSec = options.nowSec;
    this.asker = new BackendAsker((error) => {
      this.counts.bugs++;
      options.onBug?.(error);
    });
    const { members, standings, asker, counts } = this;
    const onReauthenticated = (): void => void this.epoch++;
    this.gatekeeper = new Gatekeeper(options, { members, standings, asker, counts, onReauthenticated });
  }

  get isOpen(): boolean {
    return this.members.isOpen;
  }

  get deniedPublish(): "drop" | "disconnect" {
    return this.settings.deniedPublish;
  }

  /** In force from now on. Clients stay who they are; what is being asked is asked again, whatever the old backends say then. */
  replace(settings: ChainSettings): void {
    this.settings = settings;
    this.members.replace(settings);
    this.invalidate();
  }

  /**
   * Call it about once a second with the wall clock: answers grow old, and whose time has come is disconnected. The clock may be set by
   * years, on or back.
   */
  tick(nowSec: number): void {
    for (const { client } of this.standings.endingIn(this.nowSec, nowSec))
      this.options.kick(client.clientId, NOT_AUTHORIZED);
    if (nowSec < this.nowSec) this.generation++; // or answers would be kept until the time that was wrong
    this.epoch++;
    this.nowSec = this.gatekeeper.nowSec = nowSec;
  }

  /** Every decision is asked for anew. */
  invalidate(): void {
    this.generation++;
    this.epoch++;
  }

  /** The client's connection is open. Why it has to end all the same, since its right has gone after it was let in; 0: it has not. */
  open(client: ClientInfo): number {
    const { firstRevocation, expiresAtSec, client: own } = this.standings.open(client);
    if (expiresAtSec !== undefined && expiresAtSec <= this.nowSec) return NOT_AUTHORIZED;
    return firstRevocation === undefined ? 0 : this.gatekeeper.lostSince(firstRevocation, own);
  }

  /** Ends the connections of live clients. They must be known: `open` and `standings.close` are called for each. */
  revoke(match: ClientMatch, reasonCode: number = NOT_AUTHORIZED): number {
    return this.gatekeeper.revoke(match, reasonCode);
  }

  authenticate(request: AuthenticateRequest): void {
    this.gatekeeper.authenticate(request);
  }

  // ---- who may do what

  authorizePublish(client: ClientInfo, view: MessageView): Verdict | typeof ALLOW_KEPT {
    const standing = this.standings.of(client);
    if (standing.isSuperuser) return ALLOW;
    if (standing.decisions !== undefined && standing.generation === this.generation && view.topicStamp !== 0) {
      const verdict = standing.decisions.findStamp(view.topicStamp, this.nowSec);
      if (verdict === ALLOW) return ALLOW_KEPT;
    }
    return this.judgePublish(standing, view);
  }

  private judgePublish(standing: Standing, view: MessageView): Verdict {
    const { bytes, topicEnd } = view;
    const topicStart = judgedStart(view);
    if (standing.generation !== this.generation) {
      standing.generation = this.generation;
      standing.decisions = standing.answered = undefined;
    }
    const { decisions } = standing;
    let verdict: Verdict | typeof UNKNOWN = UNKNOWN;
    const hash = hashBytes(bytes, topicStart, topicEnd, this.seed);
    if (decisions !== undefined) verdict = decisions.find(bytes, topicStart, topicEnd, hash, this.nowSec);
    if (verdict === UNKNOWN) verdict = this.askPublish(standing, view, hash);
    else decisions?.noteStamp(view.topicStamp);
    if (verdict === DENY) this.denyPublish(standing, view);
    return verdict;
  }

  whenDecided(client: ClientInfo, callback: (verdict: Decided) => void): void {
    const { asking, answered } = this.standings.of(client);
    if (asking) asking.callbacks.push(callback);
    else callback(answered?.verdict ?? DENY);
  }

  private askPublish(standing: Standing, view: MessageView, hash: number): Verdict {
    const topicStart = judgedStart(view);
    const topic = Buffer.allocUnsafeSlow(view.topicEnd - topicStart);
    view.bytes.copy(topic, 0, topicStart, view.topicEnd);
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
    const { cacheCountMax, cacheSec } = this.settings;
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

  /** May a client certainly not publish to this topic any more? */
  reviewPublish(client: ClientInfo, topic: string, complete: (isLost: boolean) => void): void {
    const standing = this.standings.of(client);
    if (standing.isSuperuser) return complete(false);
    const start = topic.startsWith(QUEUE) && topic.length > QUEUE.length ? QUEUE.length : 0;
    const question: Question = { client: standing.client, action: "publish", topic: topic.slice(start) };
    this.decide(standing, question, (verdict, isKept) => {
      const isLost = verdict === DENY && isKept;
      if (isLost) this.notePublishDenied(standing, topic);
      complete(isLost);
    });
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
    const { version } = this.members;
    this.askAuthorize(question, this.members.authorize, true, (verdict, isKept) => {
      if (version === this.members.version) done(verdict, isKept);
      else this.decide(standing, question, done);
    });
  }

  private askAuthorize(
    question: Question,
    members: readonly Member[],
    isKept: boolean,
    done: (verdict: Decided, isKept: boolean) => void,
  ): void {
    const [member, ...others] = members;
    if (!member) return done(this.settings.noMatch === "allow" ? ALLOW : DENY, isKept);
    const { backend, whenUnavailable } = member;
    if (!backend.authorize) return this.askAuthorize(question, others, isKept, done);
    this.asker.ask<AuthorizeAnswer>(
      (answer) => backend.authorize!(question, answer),
      "unavailable",
      (answer) => {
        const isFault = answer === "unavailable";
        const verdict = isFault ? whenUnavailable : answer;
        if (verdict === "ignore") this.askAuthorize(question, others, isKept && !isFault, done);
        else done(verdict === "allow" ? ALLOW : DENY, isKept && !isFault);
      },
    );
  }

  private denyPublish(standing: Standing, view: MessageView): void {
    this.notePublishDenied(standing, view.topicText());
  }

  private notePublishDenied({ client }: Standing, topic: string): void {
    this.counts.publishDenied++;
    this.options.onDenied?.({ kind: "publish", client, topic, reasonCode: NOT_AUTHORIZED });
  }

  private denySubscribe({ client }: Standing, topic: string): void {
    this.counts.subscribeDenied++;
    this.options.onDenied?.({ kind: "subscribe", client, topic, reasonCode: NOT_AUTHORIZED });
  }
}

/** A PUBLISH to `$queue/x` reaches those who share `x` as a queue: it is judged as one to `x`. */
function judgedStart({ bytes, topicStart, topicEnd }: MessageView): number {
  const start = topicStart + queuePrefix.length;
  if (bytes[topicStart] !== DOLLAR || topicEnd <= start) return topicStart;
  return bytes.compare(queuePrefix, 0, queuePrefix.length, topicStart, start) === 0 ? start : topicStart;
}

/** A share's filter is judged as the filter itself. */
function unsharedText(filter: Buffer): string {
  const shared = isShared(filter) ? parseShared(filter) : undefined;
  return (shared?.filter ?? filter).toString("utf8");
}
