/** `clients`, `sessions`, `subscriptions`, `routes`, `topics`. */
import type { Control } from "#broker/control.ts";
import { type Answer, type CtlCommand, type CtlContext, listAll, notFound, OK, record, Refusal } from "./ctl.ts";

type Row<N extends Parameters<Control>[0]> = Awaited<ReturnType<typeof askFor<N>>>;

/** Only for its type. */
function askFor<N extends Parameters<Control>[0]>(control: Control, name: N) {
  return control(name, {} as never);
}

type ClientRow = Row<"clients.show">;
type SessionRow = Row<"sessions.show">;
type SubscriptionRow = Row<"subscriptions.of">["items"][number];

async function countOf({ control }: CtlContext, gauge: "connections" | "sessions" | "subscriptions" | "topics") {
  const stats = await control("stats.read", {});
  return stats[gauge].value;
}

function clientLine({ clientId, username = "undefined", address, port, ...client }: ClientRow): string {
  return record("Client", clientId, {
    clean_sess: client.isCleanStart,
    username,
    peername: `${address}:${port}`,
    connected_at: client.connectedAtSec,
  });
}

export const clients: CtlCommand = {
  name: "clients",
  usage: [
    ["list", "List all clients"],
    ["show <ClientId>", "Show a client"],
    ["kick <ClientId>", "Kick out a client"],
  ],
  async run(context, [verb, clientId, ...more]) {
    const { control } = context;
    if (verb === "list" && clientId === undefined) {
      const found = await listAll("clients", await countOf(context, "connections"), (page) =>
        control("clients.list", page),
      );
      return { json: found, lines: found.map(clientLine) };
    }
    if (clientId === undefined || more.length > 0) return undefined;
    if (verb === "show") {
      const client = await control("clients.show", { clientId });
      return { json: client, lines: [clientLine(client)] };
    }
    if (verb !== "kick") return undefined;
    await control("clients.kick", { clientId });
    return OK;
  },
};

function sessionLine(session: SessionRow, maxInflight: number): string {
  return record("Session", session.clientId, {
    clean_sess: session.expirySec === 0,
    max_inflight: maxInflight,
    inflight_queue: session.inflightCount,
    message_queue: session.queuedCount,
    message_dropped: session.droppedCount,
    awaiting_rel: session.awaitingReleaseCount,
    awaiting_ack: session.inflightCount - session.awaitingCompleteCount,
    awaiting_comp: session.awaitingCompleteCount,
    created_at: session.createdAtSec,
  });
}

async function inflightMax({ control }: CtlContext): Promise<number> {
  const values = await control("config.show", {});
  return Number(values.find(({ path }) => path === "session.inflightCountMax")?.value ?? 0);
}

const IS_MEANT: Readonly<Record<string, (session: SessionRow) => boolean>> = {
  all: () => true,
  persistent: ({ expirySec }) => expirySec !== 0,
  transient: ({ expirySec }) => expirySec === 0,
};

export const sessions: CtlCommand = {
  name: "sessions",
  usage: [
    ["list", "List all sessions"],
    ["list persistent", "List all persistent sessions"],
    ["list transient", "List all transient sessions"],
    ["show <ClientId>", "Show a session"],
  ],
  async run(context, [verb, what, ...more]) {
    const { control } = context;
    if (more.length > 0) return undefined;
    if (verb === "show" && what !== undefined) {
      const session = await control("sessions.show", { clientId: what });
      return { json: session, lines: [sessionLine(session, await inflightMax(context))] };
    }
    const isMeant = verb === "list" && Object.hasOwn(IS_MEANT, what ?? "all") ? IS_MEANT[what ?? "all"] : undefined;
    if (!isMeant) return undefined;
    const count = await countOf(context, "sessions");
    const all = await listAll("sessions", count, (page) => control("sessions.list", page));
    const found = all.filter(isMeant);
    const most = await inflightMax(context);
    return { json: found, lines: found.map((session) => sessionLine(session, most)) };
  },
};

/** `CLIENT -> FILTER:QOS,FILTER:QOS`, a line a client. */
function subscriptionLines(subscriptions: readonly SubscriptionRow[]): string[] {
  const byClient = Map.groupBy(subscriptions, ({ clientId }) => clientId);
  return [...byClient].map(
    ([clientId, own]) => `${clientId} -> ${own.map(({ filter, qos }) => `${filter}:${qos}`).join(",")}`,
  );
}

export const subscriptions: CtlCommand = {
  name: "subscriptions",
  usage: [
    ["list", "List all subscriptions"],
    ["show <ClientId>", "Show subscriptions of a client"],
    ["add <ClientId> <Topic> <QoS>", "Subscribe a client that has a session"],
    ["del <ClientId>", "Take all subscriptions of a client away"],
    ["del <ClientId> <Topic>", "Take a subscription of a client away"],
  ],
  async run(context, [verb, clientId, filter, qosText, ...more]) {
    const { control } = context;
    if (verb === "list" && clientId === undefined) {
      const count = await countOf(context, "subscriptions");
      const found = await listAll("subscriptions", count, (page) => control("subscriptions.list", page));
      return { json: found, lines: subscriptionLines(found) };
    }
    if (clientId === undefined || more.length > 0) return undefined;
    const ofClient = (): Promise<SubscriptionRow[]> =>
      listAll("subscriptions", 0, (page) => control("subscriptions.of", { clientId, ...page }));
    if (verb === "show" && filter === undefined) {
      const found = await ofClient();
      if (found.length === 0) throw notFound();
      return { json: found, lines: subscriptionLines(found) };
    }
    if (verb === "add" && filter !== undefined && qosText !== undefined) {
      if (!/^[012]$/.test(qosText)) throw refused("QoS should be 0, 1, 2");
      const subscriptions = [{ filter, qos: Number(qosText) }];
      const { results } = await control("clients.subscribe", { clientId, subscriptions });
      return okUnless(results);
    }
    if (verb !== "del" || qosText !== undefined) return undefined;
    const filters = filter === undefined ? (await ofClient()).map((each) => each.filter) : [filter];
    if (filters.length === 0) throw notFound();
    const { results } = await control("clients.unsubscribe", { clientId, filters });
    return okUnless(results);
  },
};

function refused(line: string): Refusal {
  return new Refusal({ json: { error: line }, lines: [line] });
}

/** Of SUBACK and UNSUBACK of MQTT 5.0. */
const REASONS: Readonly<Record<number, string>> = {
  0x11: "it is not subscribed",
  0x87: "it may not",
  0x8f: "this is no topic filter",
  0x97: "it has as many as it may, or somebody else has this one",
};

function okUnless(results: readonly { filter: string; reasonCode: number }[]): Answer {
  const bad = results.find(({ reasonCode }) => reasonCode >= 0x80 || reasonCode === 0x11);
  if (bad) {
    const words = REASONS[bad.reasonCode] ?? "refused";
    throw refused(`Error: ${bad.filter}: ${words} (reason code 0x${bad.reasonCode.toString(16)})`);
  }
  return { ...OK, json: results };
}

function placeCommand(name: "routes" | "topics", what: string): CtlCommand {
  return {
    name,
    usage: [
      ["list", `List all ${name}`],
      ["show <Topic>", `Show a ${what}`],
    ],
    async run(context, [verb, topic, ...more]) {
      const { control } = context;
      const isList = verb === "list" && topic === undefined;
      if (!isList && (verb !== "show" || topic === undefined || more.length > 0)) return undefined;
      const count = isList ? await countOf(context, "topics") : 0;
      const wanted = isList ? {} : { filterContains: topic };
      const all = await listAll(name, count, (page) => control("topics.list", { ...wanted, ...page }));
      const found = isList ? all : all.filter(({ filter }) => filter === topic);
      if (!isList && found.length === 0) throw notFound();
      const byFilter = Map.groupBy(found, ({ filter }) => filter);
      const lines = [...byFilter].map(
        ([filter, places]) => `${filter} -> ${[...new Set(places.map(({ node }) => node))].join(",")}`,
      );
      return { json: found, lines };
    },
  };
}

export const routes: CtlCommand = placeCommand("routes", "route");
export const topics: CtlCommand = placeCommand("topics", "topic");
