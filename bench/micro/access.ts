/**
 * What it costs to judge a PUBLISH by twenty rules. As long as the answer is kept, rules do not matter: what does is whether
 * a client publishes to one topic or to several in turn, and how many clients there are.
 */
import { decideByRules } from "#access/acl-rule.ts";
import { parseYamlRules } from "#access/acl-yaml.ts";
import type { Backend } from "#access/backend.ts";
import { AccessChain } from "#access/chain.ts";
import { PasswordChecker } from "#access/password.ts";
import { Standing } from "#access/standing.ts";
import { LOGIN, RULES } from "#bench/compare/access-files.ts";
import type { MessageView } from "#core/message.ts";
import { ALLOW, ALLOW_KEPT, type ClientInfo } from "#core/ports.ts";
import { MqttContext } from "#mqtt/context.ts";
import { makeEngine, openClient, publishPacket, SEED, subscribePacket, viewOf } from "./fixture.ts";
import { type Recorder, type Suite, sized } from "./recorder.ts";

const PUBLISHES = 1000;
const PAIRS = 50;

export const suite: Suite = {
  about: "AccessChain.authorizePublish with twenty rules; an operation is one PUBLISH",
  async run(recorder) {
    await judged(recorder, { clients: 1, topics: 1 });
    await judged(recorder, { clients: 50, topics: 1 });
    await judged(recorder, { clients: 50, topics: 8 });
    await judged(recorder, { clients: 5000, topics: 1 });
    await judged(recorder, { clients: 50, topics: 1, cacheCountMax: 0 });
    for (const chunk of [1, 15]) await pairs(recorder, chunk);
  },
};

/** Bytes in, bytes out, without sockets: what of a PUBLISH is the judging. Publishers take turns, `chunk` messages each. */
async function pairs(recorder: Recorder, chunk: number): Promise<void> {
  const ways = { open: pairsOf(undefined, chunk), judged: pairsOf(chainOf(256), chunk) };
  await recorder.compare(`pairs 50 → 50, QoS 0, ${chunk} in a chunk`, PAIRS * chunk, ways);
}

function pairsOf(chain: AccessChain | undefined, chunk: number): () => number {
  const engine = makeEngine({}, chain);
  const context = new MqttContext(engine);
  // As the broker's assembly does.
  if (chain) engine.hooks.clientConnected.add((client) => chain.standings.open(client));
  const publishers = Array.from({ length: PAIRS }, (_, i) => {
    const subscriber = openClient({ version: 4, context, clientId: `s${i}` });
    subscriber.connection.handleData(subscribePacket(`bench/${i}`, 0, 4));
    const { connection } = openClient({ version: 4, context, clientId: `p${i}` });
    const sent = Buffer.concat(Array.from({ length: chunk }, () => publishPacket(`bench/${i}`, 64, 0, 4)));
    return { connection, sent };
  });
  return () => {
    for (const { connection, sent } of publishers) connection.handleData(sent);
    return engine.metrics.counts[0];
  };
}

interface Shape {
  readonly clients: number;
  /** Of each client, in turn. */
  readonly topics: number;
  /** 0: every PUBLISH is judged by the rules. */
  readonly cacheCountMax?: number;
}

async function judged(recorder: Recorder, { clients, topics, cacheCountMax = 256 }: Shape): Promise<void> {
  const chain = chainOf(cacheCountMax);
  const count = sized(recorder, clients);
  const infos = Array.from({ length: count }, (_, i) => clientOf(i));
  for (const info of infos) {
    chain.standings.admit(info, new Standing(info));
    chain.standings.open(info);
  }
  const views = Array.from({ length: topics }, (_, i) => viewOf(publishPacket(`bench/${i}`, 64, 0, 4), 4));
  for (const [i, view] of views.entries()) view.topicStamp = i + 1; // as the match cache gives them
  const name = `${count} clients, ${topics} topics each${cacheCountMax === 0 ? ", no answer kept" : ""}`;
  let turn = 0;
  await recorder.time(name, PUBLISHES, () => {
    turn += PUBLISHES;
    return judge(chain, infos, views, turn);
  });
}

function judge(chain: AccessChain, infos: readonly ClientInfo[], views: readonly MessageView[], turn: number): number {
  let allowed = 0;
  let client = turn % infos.length;
  let topic = Math.floor(turn / infos.length) % views.length;
  for (let i = 0; i < PUBLISHES; i++) {
    const verdict = chain.authorizePublish(infos[client], views[topic]);
    if (verdict === ALLOW || verdict === ALLOW_KEPT) allowed++;
    if (++client < infos.length) continue;
    client = 0;
    topic = (topic + 1) % views.length;
  }
  if (allowed !== PUBLISHES) throw new Error("a PUBLISH was refused");
  return allowed;
}

function chainOf(cacheCountMax: number): AccessChain {
  const rules = parseYamlRules(RULES, "rules");
  const backend: Backend = {
    name: "rules",
    authenticate: (_, answer) => answer({ verdict: "allow", grant: { username: LOGIN.username } }),
    authorize: (question, answer) => answer(decideByRules(rules, question)),
  };
  return new AccessChain({
    authenticate: [{ backend, whenUnavailable: "deny" }],
    authorize: [{ backend, whenUnavailable: "deny" }],
    noMatch: "deny",
    deniedPublish: "drop",
    cacheCountMax,
    cacheSec: 60,
    seed: SEED,
    nowSec: 0,
    passwords: new PasswordChecker(),
    kick: () => {},
  });
}

function clientOf(i: number): ClientInfo {
  const { username } = LOGIN;
  return { clientId: `client-${i}`, username, address: "127.0.0.1", port: 1024 + i, version: 4, listener: "tcp:1883" };
}
