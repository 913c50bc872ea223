import { describe, expect, test } from "bun:test";
import { parseYamlRules } from "#access/acl-yaml.ts";
import { AttemptLimit } from "#access/attempt-limit.ts";
import { type AuthenticateAnswer, type AuthorizeAnswer, type Backend, IGNORE, type Question } from "#access/backend.ts";
import { BanList } from "#access/ban-list.ts";
import { AccessChain } from "#access/chain.ts";
import type { ChainOptions, Denial, Member } from "#access/chain-options.ts";
import { decoyOf, PasswordChecker } from "#access/password.ts";
import { parseJsonSubscriptions, type SubscriptionList } from "#access/subscription-list.ts";
import { copyOf } from "#access/standing.ts";
import {
  ALLOW,
  type ALLOW_KEPT,
  type AuthenticateOutcome,
  type AuthenticateRequest,
  type ClientInfo,
  DENY,
  PENDING,
  type Verdict,
} from "#core/ports.ts";
import { accessContract } from "#test/contract/access-contract.ts";
import { knownClient } from "#test/contract/backend-contract.ts";
import { viewOf } from "#test/support/test-broker.ts";

const NOW_SEC = 1_000_000;

/** A backend that writes down what it is asked. */
class Scripted implements Backend {
  readonly asked: string[] = [];
  authenticate?: NonNullable<Backend["authenticate"]>;
  authorize?: NonNullable<Backend["authorize"]>;
  isSuperuser?: NonNullable<Backend["isSuperuser"]>;
  subscriptions?: NonNullable<Backend["subscriptions"]>;
  mayGrant = false;

  constructor(readonly name: string) {}

  answering(answer: AuthenticateAnswer | AuthenticateAnswer["verdict"]): this {
    const full = typeof answer === "string" ? ({ verdict: answer } as AuthenticateAnswer) : answer;
    this.authenticate = ({ client }, done) => {
      this.asked.push(client.clientId);
      done(full);
    };
    return this;
  }

  judging(rule: (question: Question) => AuthorizeAnswer): this {
    this.authorize = (question, done) => {
      this.asked.push(`${question.action} ${question.topic}`);
      done(rule(question));
    };
    return this;
  }
}

/** Answers when it is told to. */
class Slow extends Scripted {
  readonly waiting: { question: Question; done: (answer: AuthorizeAnswer) => void }[] = [];
  override authorize = (question: Question, done: (answer: AuthorizeAnswer) => void): void => {
    this.asked.push(`${question.action} ${question.topic}`);
    this.waiting.push({ question, done });
  };

  answer(verdict: AuthorizeAnswer): void {
    this.waiting.shift()!.done(verdict);
  }
}

interface Fixture {
  chain: AccessChain;
  kicked: [string, number][];
  denials: Denial[];
  bugs: unknown[];
}

function chainOf(
  authenticate: readonly Backend[],
  authorize: readonly Backend[] = [],
  options: Partial<ChainOptions> & { whenUnavailable?: Member["whenUnavailable"] } = {},
): Fixture {
  const { whenUnavailable = "deny", ...rest } = options;
  const kicked: [string, number][] = [];
  const denials: Denial[] = [];
  const bugs: unknown[] = [];
  const member = (backend: Backend): Member => ({ backend, whenUnavailable });
  const chain = new AccessChain({
    authenticate: authenticate.map(member),
    authorize: authorize.map(member),
    noMatch: "allow",
    deniedPublish: "drop",
    cacheCountMax: 8,
    cacheSec: 60,
    seed: 7,
    nowSec: NOW_SEC,
    passwords: new PasswordChecker({ memoryKiB: 64, timeCost: 1 }),
    kick: (clientId, reasonCode) => void kicked.push([clientId, reasonCode]),
    onDenied: (denial) => void denials.push(denial),
    onBug: (error) => void bugs.push(error),
    ...rest,
  });
  return { chain, kicked, denials, bugs };
}

function requestOf(client: Partial<ClientInfo> = {}, extra: Partial<AuthenticateRequest> = {}) {
  const outcomes: AuthenticateOutcome[] = [];
  const request: AuthenticateRequest = {
    client: { ...knownClient, ...client },
    password: Buffer.from("p"),
    method: undefined,
    data: undefined,
    isReauthentication: false,
    state: undefined,
    complete: (outcome) => void outcomes.push(outcome),
    ...extra,
  };
  return { request, outcomes };
}

function connect(chain: AccessChain, client: Partial<ClientInfo> = {}): number {
  const { request, outcomes } = requestOf(client);
  chain.authenticate(request);
  expect(outcomes).toHaveLength(1);
  return outcomes[0]!.reasonCode;
}

const scripted = (name: string): Scripted => new Scripted(name);
const publish = (chain: AccessChain, topic: string, client: ClientInfo = knownClient): Verdict | typeof ALLOW_KEPT =>
  chain.authorizePublish(client, viewOf(topic, "x"));

function subscribe(chain: AccessChain, ...filters: string[]): Verdict[] | undefined {
  let answer: Verdict[] | undefined;
  chain.authorizeSubscribe(
    knownClient,
    filters.map((filter) => Buffer.from(filter)),
    (verdicts) => (answer = verdicts),
  );
  return answer;
}

accessContract("chain of what is at hand", () => {
  const rules = scripted("rules").judging(({ topic }) => (topic.startsWith("deny/") ? "deny" : "ignore"));
  const { chain } = chainOf([scripted("all").answering("allow")], [rules]);
  return { access: chain, settle: () => {}, denied: "deny/" };
});
accessContract("chain of what is slow", () => {
  const rules = scripted("rules");
  const later: (() => void)[] = [];
  rules.authorize = ({ topic }, done) => void later.push(() => done(topic.startsWith("deny/") ? "deny" : "ignore"));
  const people = scripted("all");
  people.authenticate = (_attempt, done) => void later.push(() => done({ verdict: "allow" }));
  const { chain } = chainOf([people], [rules]);
  const settle = (): void => {
    for (let next = later.shift(); next; next = later.shift()) next();
  };
  return { access: chain, settle, denied: "deny/" };
});
accessContract("open chain", () => ({
  access: chainOf([scripted("all").answering("allow")]).chain,
  settle: () => {},
}));

describe("who may come in", () => {
  test("the first allow or deny ends the chain, ignore goes on, and an exhausted chain refuses", () => {
    const [a, b, c] = [scripted("a").answering("ignore"), scripted("b").answering("allow"), scripted("c")];
    c.answering("deny");
    expect(connect(chainOf([a, b, c]).chain)).toBe(0);
    expect(c.asked).toEqual([]);
    expect(connect(chainOf([a, c, b]).chain)).toBe(0x86);
    expect(connect(chainOf([a]).chain)).toBe(0x86);
    expect(connect(chainOf([]).chain)).toBe(0x86);
  });

  test("an unknown user hears what one with a wrong password hears, a client without credentials that it needs some", () => {
    const { chain } = chainOf([scripted("a").answering("ignore")]);
    for (const [password, code] of [
      [Buffer.from("x"), 0x86],
      [undefined, 0x87],
    ] as const) {
      const { request, outcomes } = requestOf({}, { password });
      chain.authenticate(request);
      expect(outcomes).toMatchObject([{ reasonCode: code }]);
    }
  });

  test("a deny's own reason reaches the client and the log, and is counted", () => {
    const { chain, denials } = chainOf([scripted("a").answering({ verdict: "deny", code: 0x89 })]);
    expect(connect(chain)).toBe(0x89);
    expect(denials).toMatchObject([
      { kind: "connect", reasonCode: 0x89, client: { clientId: "c1" }, why: "a: refused" },
    ]);
    expect(chain.counts).toMatchObject({ refused: 1, accepted: 0 });
  });

  test("unavailable refuses with 0x88 unless the configuration says otherwise", () => {
    const made = (whenUnavailable: Member["whenUnavailable"]) =>
      chainOf([scripted("down").answering("unavailable"), scripted("next").answering("deny")], [], { whenUnavailable })
        .chain;
    expect(connect(made("deny"))).toBe(0x88);
    expect(connect(made("ignore"))).toBe(0x86);
    expect(connect(made("allow"))).toBe(0);
  });

  test("what its health knows of an unavailable backend is in the log", () => {
    const server = scripted("db").answering("unavailable");
    const { chain, denials } = chainOf([server]);
    connect(chain);
    Object.assign(server, { health: () => ({ state: "down", detail: "no answer within 7 ms", counts: {} }) });
    connect(chain);
    expect(denials.map(({ why }) => why)).toEqual(["db: unavailable", "db: unavailable (no answer within 7 ms)"]);
  });

  test("a backend that throws is a bug and unavailable, one that answers twice is heard once", () => {
    const thrower = scripted("thrower");
    thrower.authenticate = () => {
      throw new Error("oh");
    };
    const first = chainOf([thrower, scripted("b").answering("allow")]);
    expect(connect(first.chain)).toBe(0x88);
    expect(first.bugs).toHaveLength(1);
    const twice = scripted("twice");
    twice.authenticate = (_attempt, answer) => {
      answer(IGNORE);
      answer({ verdict: "allow" });
    };
    const second = chainOf([twice]);
    expect(connect(second.chain)).toBe(0x86);
    expect(second.bugs).toHaveLength(1);
  });

  test("a method goes only to those who speak it, and its steps to the same one with its state", () => {
    const other = scripted("other").answering("allow");
    const speaker = Object.assign(scripted("speaker"), { methods: ["M"] });
    const seen: unknown[] = [];
    speaker.authenticate = (attempt, answer) => {
      seen.push([attempt.state, attempt.data?.toString()]);
      const step = ((attempt.state as number) ?? 0) + 1;
      attempt.state = step;
      answer(
        step < 3
          ? { verdict: "continue", data: Buffer.from(`q${step}`) }
          : { verdict: "allow", data: Buffer.from("end") },
      );
    };
    const { chain } = chainOf([other, speaker]);
    const { request, outcomes } = requestOf({}, { method: "M", data: Buffer.from("a") });
    chain.authenticate(request);
    for (const word of ["b", "c"]) {
      Object.assign(request, { data: Buffer.from(word) });
      chain.authenticate(request);
    }
    expect(outcomes.map(({ reasonCode, data }) => [reasonCode, data?.toString()])).toEqual([
      [0x18, "q1"],
      [0x18, "q2"],
      [0, "end"],
    ]);
    expect(seen).toEqual([
      [undefined, "a"],
      [1, "b"],
      [2, "c"],
    ]);
    expect(other.asked).toEqual([]);
    const unknown = requestOf({}, { method: "X" });
    chain.authenticate(unknown.request);
    expect(unknown.outcomes).toMatchObject([{ reasonCode: 0x8c }]);
  });

  test("what one backend remembers of an exchange is nothing to the next", () => {
    const methods = ["M"];
    const first = Object.assign(scripted("first"), { methods });
    first.authenticate = (attempt, answer) => {
      attempt.state = "mine";
      answer(IGNORE);
    };
    const second = Object.assign(scripted("second"), { methods });
    second.authenticate = ({ state }, answer) => answer({ verdict: state === undefined ? "allow" : "deny" });
    const { request, outcomes } = requestOf({}, { method: "M" });
    chainOf([first, second]).chain.authenticate(request);
    expect(outcomes).toMatchObject([{ reasonCode: 0 }]);
  });

  test("the banned are refused before anybody is asked, also under the name they are granted", () => {
    const bans = new BanList(undefined, NOW_SEC);
    bans.add({ kind: "username", value: "mallory", untilSec: NOW_SEC + 10, reason: "" });
    const a = scripted("a").answering({ verdict: "allow", grant: { username: "mallory" } });
    const { chain } = chainOf([a], [], { bans });
    expect(connect(chain, { username: "mallory" })).toBe(0x8a);
    expect(a.asked).toEqual([]);
    expect(connect(chain, { username: "alice" })).toBe(0x8a);
    chain.tick(NOW_SEC + 10);
    expect(connect(chain, { username: "mallory" })).toBe(0);
  });

  test("only failed credentials make an address wait", () => {
    const attempts = new AttemptLimit({
      failureCountMax: 1,
      windowSec: 60,
      delaySecMax: 5,
      nowMs: () => 0,
      after: () => {},
    });
    const b = scripted("b");
    const { chain } = chainOf([b], [], { attempts });
    for (const answer of [{ verdict: "deny", code: 0x87 }, { verdict: "unavailable" }] as AuthenticateAnswer[]) {
      b.answering(answer);
      for (let i = 0; i < 5; i++) connect(chain);
    }
    b.answering("deny");
    connect(chain);
    connect(chain);
    const { request, outcomes } = requestOf();
    chain.authenticate(request);
    expect(outcomes).toEqual([]);
    expect(connect(chain, { address: "10.0.0.1" })).toBe(0x86);
  });

  test("of guesses that are sent all at once none is told right or wrong after the first ones", () => {
    const attempts = new AttemptLimit({
      failureCountMax: 3,
      windowSec: 60,
      delaySecMax: 5,
      nowMs: () => 0,
      after: () => {},
    });
    const answers: ((answer: AuthenticateAnswer) => void)[] = [];
    const slow: Backend = { name: "slow", authenticate: (_, answer) => void answers.push(answer) };
    const { chain, denials } = chainOf([slow], [], { attempts });
    const guesses = Array.from({ length: 8 }, () => {
      const { request, outcomes } = requestOf();
      chain.authenticate(request);
      return outcomes;
    });
    const verdicts: AuthenticateAnswer["verdict"][] = [
      "deny",
      "allow",
      "deny",
      "deny",
      "deny",
      "deny",
      "allow",
      "ignore",
    ];
    for (const [at, verdict] of verdicts.entries()) answers[at]!({ verdict } as AuthenticateAnswer);
    expect(denials.at(-1)!.why).toBe("its address has failed too often meanwhile");
    expect(guesses.map(([outcome]) => outcome!.reasonCode)).toEqual([0x86, 0, 0x86, 0x86, 0x86, 0x89, 0x89, 0x89]);
    expect(attempts.counts.failures).toBe(6);
  });
});

describe("who may do what", () => {
  test("without rules it is open; with a rule, with noMatch deny, with grants it is not", () => {
    const all = scripted("all").answering("allow");
    const token = Object.assign(scripted("token").answering("allow"), { mayGrant: true });
    const rules = scripted("rules").judging(() => "ignore");
    expect(chainOf([all]).chain.isOpen).toBe(true);
    expect(chainOf([all], [rules]).chain.isOpen).toBe(false);
    expect(chainOf([all], [], { noMatch: "deny" }).chain.isOpen).toBe(false);
    expect(chainOf([all, token]).chain.isOpen).toBe(false);
  });

  test("first match wins, and when nobody knows noMatch holds", () => {
    const a = scripted("a").judging(({ topic }) => (topic === "a" ? "allow" : "ignore"));
    const b = scripted("b").judging(({ topic }) => (topic === "x" ? "ignore" : "deny"));
    for (const noMatch of ["allow", "deny"] as const) {
      const { chain } = chainOf([], [a, b], { noMatch });
      expect(publish(chain, "a")).toBe(ALLOW);
      expect(publish(chain, "b")).toBe(DENY);
      expect(publish(chain, "x")).toBe(noMatch === "allow" ? ALLOW : DENY);
      expect(subscribe(chain, "a", "b", "x")).toEqual([ALLOW, DENY, noMatch === "allow" ? ALLOW : DENY]);
    }
  });

  test("a share's filter is judged as the filter itself", () => {
    const a = scripted("a").judging(() => "deny");
    subscribe(chainOf([], [a]).chain, "$share/g/a/#", "$queue/b", "$share/g");
    expect(a.asked).toEqual(["subscribe a/#", "subscribe b", "subscribe $share/g"]);
  });

  test("a publish to a queue is judged as one to its topic", () => {
    const a = scripted("a").judging(({ topic }) => (topic === "s" ? "deny" : "allow"));
    const { chain, denials } = chainOf([], [a]);
    const client = { ...knownClient };
    const judge = (topic: string) => chain.authorizePublish(client, viewOf(topic, "x"));
    expect(["s", "$queue/s", "$queue/t", "$queue", "$queue/", "$Queue/s"].map(judge)).toEqual([1, 1, 0, 0, 0, 0]);
    expect(a.asked.map((asked) => asked.replace("publish ", ""))).toEqual(["s", "t", "$queue", "$queue/", "$Queue/s"]);
    expect(denials.at(-1)!.topic).toBe("$queue/s");
  });

  test("an answer is kept for its time and its topic, then asked for anew", () => {
    const a = scripted("a").judging(({ topic }) => (topic === "no" ? "deny" : "allow"));
    const { chain, denials } = chainOf([], [a]);
    for (let i = 0; i < 5; i++) {
      expect(publish(chain, "yes")).toBe(ALLOW);
      expect(publish(chain, "no")).toBe(DENY);
    }
    expect(a.asked).toEqual(["publish yes", "publish no"]);
    expect(chain.counts.publishDenied).toBe(5);
    expect(denials).toHaveLength(5);
    chain.tick(NOW_SEC + 60);
    expect(publish(chain, "yes")).toBe(ALLOW);
    expect(a.asked).toHaveLength(3);
    chain.invalidate();
    expect(publish(chain, "yes")).toBe(ALLOW);
    expect(a.asked).toHaveLength(4);
  });

  test("one client's answers are not another's", () => {
    const a = scripted("a").judging(({ client }) => (client.clientId === "c1" ? "allow" : "deny"));
    const { chain } = chainOf([], [a]);
    expect(publish(chain, "t")).toBe(ALLOW);
    expect(publish(chain, "t", { ...knownClient, clientId: "c2" })).toBe(DENY);
  });

  test.each([0, 60])("a slow answer comes once, and the publish is then judged at once (kept %p s)", (cacheSec) => {
    const slow = new Slow("slow");
    const { chain } = chainOf([], [slow], { cacheSec });
    for (const [topic, answer, verdict] of [
      ["a", "allow", ALLOW],
      ["b", "deny", DENY],
    ] as const) {
      expect(publish(chain, topic)).toBe(PENDING);
      const told: Verdict[] = [];
      chain.whenDecided(knownClient, (decided) => told.push(decided));
      slow.answer(answer);
      expect(told).toEqual([verdict]);
      expect(publish(chain, topic)).toBe(verdict);
      expect(publish(chain, topic)).toBe(cacheSec === 0 ? PENDING : verdict);
      if (cacheSec === 0) slow.answer(answer);
    }
  });

  test("what was asked before a change is not kept after it", () => {
    const slow = new Slow("slow");
    const { chain } = chainOf([], [slow]);
    expect(publish(chain, "a")).toBe(PENDING);
    chain.invalidate();
    slow.answer("allow");
    expect(publish(chain, "a")).toBe(PENDING);
    chain.invalidate();
    expect(publish(chain, "b")).toBe(PENDING); // the answer about "a" comes after this
    slow.answer("allow");
    slow.answer("allow");
    expect([publish(chain, "b"), publish(chain, "a")]).toEqual([ALLOW, PENDING]);
  });

  test("a server's fault is not kept", () => {
    const a = scripted("a").judging(() => "unavailable");
    const { chain } = chainOf([], [a]);
    expect(publish(chain, "t")).toBe(DENY);
    a.judging(() => "allow");
    expect(publish(chain, "t")).toBe(ALLOW);
    const open = chainOf([], [scripted("b").judging(() => "unavailable")], { whenUnavailable: "allow" });
    expect(publish(open.chain, "t")).toBe(ALLOW);
    const next = chainOf([], [scripted("b").judging(() => "unavailable")], {
      whenUnavailable: "ignore",
      noMatch: "deny",
    });
    expect(publish(next.chain, "t")).toBe(DENY);
  });

  test("a review takes only what is certainly refused", () => {
    const verdicts: Record<string, AuthorizeAnswer> = { a: "allow", b: "deny", c: "unavailable", d: "deny" };
    const { chain } = chainOf([], [scripted("r").judging(({ topic }) => verdicts[topic] ?? "ignore")]);
    const lost: string[][] = [];
    const filters = ["a", "b", "c", "$share/g/d", "e"].map((filter) => Buffer.from(filter));
    chain.reviewSubscriptions(knownClient, filters, (those) => lost.push(those.map(String)));
    expect(lost).toEqual([["b", "$share/g/d"]]);
  });

  test("ten thousand filters are asked one after the other, without depth", () => {
    const a = scripted("a").judging(() => "ignore");
    const { chain } = chainOf([], [a]);
    const filters = Array.from({ length: 10_000 }, (_, i) => `f/${i}`);
    expect(subscribe(chain, ...filters)).toHaveLength(10_000);
    const slow = new Slow("slow");
    const later = chainOf([], [slow]).chain;
    subscribe(later, "a", "b");
    expect(slow.waiting).toHaveLength(1);
  });
});

describe("an unknown user", () => {
  const decoy = decoyOf(Bun.password.hashSync("other", { algorithm: "argon2id", memoryCost: 64, timeCost: 1 }))!;
  const guess = async (backends: readonly Backend[], passwords: PasswordChecker, password: string | undefined) => {
    const { chain } = chainOf(backends, [], { passwords });
    const { promise, resolve } = Promise.withResolvers<AuthenticateOutcome>();
    chain.authenticate(
      requestOf({}, { password: password === undefined ? undefined : Buffer.from(password), complete: resolve })
        .request,
    );
    return (await promise).reasonCode;
  };

  test("costs one hash as a known one does, and not two where several do not know it", async () => {
    const passwords = new PasswordChecker();
    const known = scripted("known");
    known.authenticate = ({ password }, answer) =>
      passwords.check(password!, decoy, (verdict) => answer({ verdict: verdict === "match" ? "allow" : "deny" }));
    const ignorant = ["a", "b"].map((name) => scripted(name).answering({ verdict: "ignore", decoy }));
    expect(await guess([known], passwords, "x")).toBe(0x86);
    expect(passwords.counts.checked).toBe(1);
    expect(await guess(ignorant, passwords, "x")).toBe(0x86);
    expect(passwords.counts.checked).toBe(2);
    // The right password of somebody else is as wrong as any.
    expect(await guess(ignorant, passwords, "other")).toBe(0x86);
    expect(passwords.counts.checked).toBe(3);
  });

  test("costs none when a later backend knows it, or when there is no password to compare", async () => {
    const passwords = new PasswordChecker();
    const ignorant = scripted("a").answering({ verdict: "ignore", decoy });
    expect(await guess([ignorant, scripted("b").answering("allow")], passwords, "x")).toBe(0);
    expect(await guess([ignorant, scripted("b").answering("deny")], passwords, "x")).toBe(0x86);
    expect(await guess([ignorant], passwords, undefined)).toBe(0x87);
    expect(await guess([ignorant], passwords, "")).toBe(0x86);
    expect(passwords.counts.checked).toBe(0);
  });

  test("is told Server busy when a known one would be", async () => {
    const passwords = new PasswordChecker({ runningMax: 1, waitingMax: 0 });
    const first = Promise.withResolvers<void>();
    passwords.check(Buffer.from("x"), decoy, () => first.resolve());
    expect(await guess([scripted("a").answering({ verdict: "ignore", decoy })], passwords, "x")).toBe(0x89);
    await first.promise;
  });
});

describe("what a client is subscribed to as it comes in", () => {
  const list = parseJsonSubscriptions({ "home/%u/#": 1, "$share/g/jobs/%c": 2 }) as SubscriptionList;
  const listed = (chain: AccessChain, client: Partial<ClientInfo> = {}, extra: Partial<AuthenticateRequest> = {}) => {
    const { request, outcomes } = requestOf(client, extra);
    chain.authenticate(request);
    const [{ reasonCode, subscriptions }] = outcomes as [AuthenticateOutcome];
    return [reasonCode, ...(subscriptions ?? []).map(({ filter, qos }) => `${filter.toString()} ${qos}`)];
  };

  test("comes with the grant and from every backend that lists some, under the granted name", () => {
    const one = scripted("one").answering({ verdict: "allow", grant: { username: "real", subscriptions: list } });
    one.subscriptions = ({ username }, answer) => answer([{ filter: Buffer.from(`from one ${username}`), qos: 0 }]);
    const two = scripted("two");
    two.subscriptions = (_client, answer) => answer([{ filter: Buffer.from("from two"), qos: 1 }]);
    const { chain } = chainOf([one, two], [one]);
    expect(listed(chain)).toEqual([0, "home/real/# 1", "$share/g/jobs/c1 2", "from one real 0", "from two 1"]);
    // Who authenticates again has it already.
    chain.standings.open({ ...knownClient, username: "real" });
    expect(listed(chain, { username: "real" }, { isReauthentication: true })).toEqual([0]);
  });

  test("leaves out filters that a name would widen", () => {
    const { chain } = chainOf([scripted("all").answering({ verdict: "allow", grant: { subscriptions: list } })]);
    for (const username of ["#", "+", "a/b", ""])
      expect(listed(chain, { username })).toEqual([0, "$share/g/jobs/c1 2"]);
    expect(listed(chain, { username: undefined })).toEqual([0, "$share/g/jobs/c1 2"]);
  });

  test("keeps a client out when it cannot be had, unless the configuration says otherwise", () => {
    const broken = scripted("broken").answering("allow");
    broken.subscriptions = (_client, answer) => answer("unavailable");
    const other = scripted("other");
    other.subscriptions = (_client, answer) => answer([{ filter: Buffer.from("a"), qos: 0 }]);
    expect(listed(chainOf([broken, other]).chain)).toEqual([0x88]);
    for (const whenUnavailable of ["ignore", "allow"] as const)
      expect(listed(chainOf([broken, other], [], { whenUnavailable }).chain)).toEqual([0, "a 0"]);
  });

  test("is a mapping or a list, and nothing that is half understood", () => {
    for (const json of [{ "a/#": 0 }, [{ topic: "a/#" }], [{ topic: "a/#", qos: "0" }]])
      expect(parseJsonSubscriptions(json)).toMatchObject([{ share: "", qos: 0 }]);
    for (const json of [null, 1, "a", { "a/#/b": 0 }, { a: 3 }, { a: "x" }, [1], [null], { "$share/g": 1 }, { "": 0 }])
      expect(parseJsonSubscriptions(json)).toHaveProperty("fault");
    expect(parseJsonSubscriptions(Array.from({ length: 1001 }, () => ({ topic: "a" })))).toHaveProperty("fault");
  });
});

describe("what is granted", () => {
  const rules = parseYamlRules(`[{ allow: publish, topics: [own/%u] }, { deny: all }]`, "f");

  function enter(chain: AccessChain, client: Partial<ClientInfo> = {}): ClientInfo {
    const { request, outcomes } = requestOf(client);
    chain.authenticate(request);
    expect(outcomes).toMatchObject([{ reasonCode: 0 }]);
    chain.standings.open(request.client);
    return copyOf(request.client); // as the connection keeps it
  }

  test("own rules come first, under the granted name", () => {
    const token = Object.assign(scripted("token"), { mayGrant: true });
    token.answering({ verdict: "allow", grant: { username: "alice", rules } });
    const { chain } = chainOf([token], [scripted("all").judging(() => "allow")]);
    const client = enter(chain);
    expect(publish(chain, "own/alice", client)).toBe(ALLOW);
    expect(publish(chain, "own/bob", client)).toBe(DENY);
    expect(publish(chain, "own/alice", { ...client, port: 7 })).toBe(ALLOW); // somebody else: the backend allows
  });

  test("a super user is asked nothing, whoever says that he is one", () => {
    const never = scripted("never").judging(() => "deny");
    const grants = scripted("grants").answering({ verdict: "allow", grant: { isSuperuser: true } });
    const first = chainOf([grants], [never]).chain;
    expect(publish(first, "t", enter(first))).toBe(ALLOW);
    const knows = Object.assign(scripted("knows"), {
      isSuperuser: (client: ClientInfo, answer: (is: boolean) => void) => answer(client.username === "root"),
    });
    const second = chainOf([scripted("all").answering("allow")], [never, knows]).chain;
    expect(publish(second, "t", enter(second, { username: "root" }))).toBe(ALLOW);
    expect(publish(second, "t", enter(second, { username: "toor", clientId: "c2" }))).toBe(DENY);
    expect(never.asked).toHaveLength(1);
  });

  test("whose time is over is disconnected in that second, and not before", () => {
    const token = Object.assign(scripted("token"), { mayGrant: true });
    token.answering({ verdict: "allow", grant: { expiresAtSec: NOW_SEC + 5 } });
    const { chain, kicked } = chainOf([token]);
    const client = enter(chain);
    const gone = enter(chain, { clientId: "gone", port: 2 });
    chain.standings.close(gone);
    chain.tick(NOW_SEC + 4);
    expect(kicked).toEqual([]);
    chain.tick(NOW_SEC + 7);
    expect(kicked).toEqual([["c1", 0x87]]);
    chain.standings.close(client);
    expect(chain.standings.liveCount).toBe(0);
  });

  test("whose time is over already is disconnected in the next second", () => {
    const token = Object.assign(scripted("token"), { mayGrant: true });
    token.answering({ verdict: "allow", grant: { expiresAtSec: NOW_SEC - 2 } });
    const { chain, kicked } = chainOf([token]);
    enter(chain);
    chain.tick(NOW_SEC + 1);
    expect(kicked).toHaveLength(1);
  });

  test("a clock that is set on or back neither holds the loop nor lets anything live longer", () => {
    const token = Object.assign(scripted("token"), { mayGrant: true });
    const rules = scripted("rules").judging(() => "allow");
    const { chain, kicked } = chainOf([token], [rules], { nowSec: 10 });
    const grant = (expiresAtSec: number) => token.answering({ verdict: "allow", grant: { expiresAtSec } });
    grant(NOW_SEC + 5);
    enter(chain);
    const startMs = performance.now();
    chain.tick(NOW_SEC); // of a machine that thought it was 1970
    expect(performance.now() - startMs).toBeLessThan(1000);
    expect(kicked).toEqual([]);
    chain.tick(NOW_SEC + 5);
    expect(kicked).toHaveLength(1);

    chain.tick(NOW_SEC + 1_000_000);
    const client = enter(chain, { clientId: "c2" });
    const judge = () => chain.authorizePublish(client, viewOf("t", "x"));
    judge();
    judge();
    expect(rules.asked).toHaveLength(1);
    chain.tick(NOW_SEC + 10);
    grant(NOW_SEC + 15);
    enter(chain, { clientId: "c3", port: 3 });
    judge();
    expect(rules.asked).toHaveLength(2); // and not for a million seconds
    chain.tick(NOW_SEC + 100);
    judge();
    expect(rules.asked).toHaveLength(3);
    expect(kicked.map(([id]) => id)).toEqual(["c1", "c3"]);
  });

  test("authenticating again gives more time, and never another name", () => {
    const token = Object.assign(scripted("token"), { mayGrant: true });
    token.answering({ verdict: "allow", grant: { username: "alice", expiresAtSec: NOW_SEC + 5 } });
    const { chain, kicked } = chainOf([token]);
    const client = enter(chain);
    token.answering({ verdict: "allow", grant: { username: "alice", expiresAtSec: NOW_SEC + 50 } });
    const again = requestOf({}, { client, isReauthentication: true });
    chain.authenticate(again.request);
    chain.tick(NOW_SEC + 10);
    expect(kicked).toEqual([]);
    token.answering({ verdict: "allow", grant: { username: "bob" } });
    const other = requestOf({}, { client, isReauthentication: true });
    chain.authenticate(other.request);
    expect(other.outcomes).toMatchObject([{ reasonCode: 0x87 }]);
  });

  test("what is taken away between being let in and being there ends the connection as it opens", () => {
    const named = Object.assign(scripted("named"), { mayGrant: true });
    const { chain } = chainOf([named]);
    const admitted = (expiresAtSec?: number): ClientInfo => {
      named.answering({ verdict: "allow", grant: { username: "alice", expiresAtSec } });
      const { request, outcomes } = requestOf();
      chain.authenticate(request);
      expect(outcomes).toMatchObject([{ reasonCode: 0 }]);
      return request.client;
    };
    expect(chain.open(admitted())).toBe(0);
    const [revoked, banned, ended] = [admitted(), admitted(), admitted(NOW_SEC + 2)];
    chain.revoke({ username: "bob" });
    expect(chain.open(admitted())).toBe(0);
    chain.revoke({ username: "alice" });
    expect([chain.open(revoked), chain.open(admitted())]).toEqual([0x87, 0]);
    chain.revoke({ clientId: "c1" }, 0x98);
    expect(chain.open(banned)).toBe(0x87); // the first of the two
    chain.tick(NOW_SEC + 3);
    expect(chain.open(ended)).toBe(0x87);
    // One that nobody was asked about has lost nothing.
    expect(chain.open({ ...knownClient })).toBe(0);
  });

  test("revocation finds the live clients by id, by granted name, by a condition", () => {
    const named = scripted("named").answering({ verdict: "allow", grant: { username: "alice" } });
    const { chain, kicked } = chainOf([named]);
    enter(chain);
    const second = enter(chain, { clientId: "c2", port: 2, address: "10.0.0.1" });
    expect(chain.revoke({ username: "alice" })).toBe(2);
    expect(chain.revoke({ username: "bob" })).toBe(0);
    expect(chain.revoke({ clientId: "c2" })).toBe(1);
    expect(chain.revoke({ clientId: "c2", username: "bob" })).toBe(0);
    expect(chain.revoke({ holds: ({ address }) => address === "10.0.0.1" }, 0x8a)).toBe(1);
    expect(kicked.map(([id]) => id)).toEqual(["c1", "c2", "c2", "c2"]);
    chain.standings.close(second);
    expect(chain.revoke({ clientId: "c2" })).toBe(0);
  });

  test("the end of a connection that was taken over leaves its successor known", () => {
    const { chain } = chainOf([scripted("all").answering("allow")]);
    const first = enter(chain);
    enter(chain, { port: 2 });
    chain.standings.close(first);
    expect(chain.standings.liveCount).toBe(1);
  });
});
