/** Operations on clients: those connected, their sessions, and what they are subscribed to. */
import { z } from "zod";
import { NEVER } from "#core/message.ts";
import { NO_LOCAL, QOS_MASK, RETAIN_AS_PUBLISHED, RETAIN_HANDLING_SHIFT } from "#core/topic-index.ts";
import { ADMINISTRATIVE_ACTION } from "#access/reason.ts";
import type { Connection } from "#mqtt/connection.ts";
import {
  clientIdParam,
  type ControlParts,
  done,
  flag,
  notFound,
  operation,
  pageFrom,
  pageOf,
  pageParams,
  sumDone,
  walk,
} from "./operation.ts";

const count = (description: string) => z.int().min(0).meta({ description });
const queueFields = {
  subscriptionCount: count("its subscriptions"),
  inflightCount: count("messages sent and not acknowledged"),
  queuedCount: count("messages that wait to be sent, in memory and on disk"),
  queuedBytes: count("their bytes"),
  droppedCount: count("messages of its queue that were dropped since it was made in this process"),
};
const expirySec = z
  .int()
  .nullable()
  .meta({ description: "how long the session outlives its connection; null: for ever; 0: not at all" });

export const clientRow = z.object({
  clientId: z.string(),
  username: z.string().optional(),
  address: z.string(),
  port: z.int(),
  version: z.int().meta({ description: "3: MQTT 3.1; 4: 3.1.1; 5: 5.0" }),
  listener: z.string().meta({ description: "name of the listener it came in by" }),
  connectedAtSec: z.int().meta({ description: "wall clock, seconds since 1970" }),
  keepAliveSec: z.number().meta({ description: "0: none" }),
  isCleanStart: z.boolean(),
  expirySec,
  unsentBytes: count("accepted for it and not taken by its kernel yet"),
  ...queueFields,
});

export const sessionRow = z.object({
  clientId: z.string(),
  isConnected: z.boolean(),
  isStored: z.boolean().meta({ description: "it is on disk" }),
  createdAtSec: z.int().meta({ description: "wall clock; of a restored session: when the broker started" }),
  expirySec,
  awaitingReleaseCount: count("QoS 2 messages received whose PUBREL has not come"),
  awaitingCompleteCount: count("QoS 2 messages sent whose PUBREC has come and PUBCOMP not"),
  ...queueFields,
});

const subscriptionRow = z.object({
  clientId: z.string(),
  filter: z.string().meta({ description: "as it was subscribed to, share name and all" }),
  qos: z.int(),
  noLocal: z.boolean(),
  retainAsPublished: z.boolean(),
  retainHandling: z.int(),
  id: z.int().optional().meta({ description: "Subscription Identifier" }),
});

export const clientFilters = z.object({
  clientIdPrefix: z.string().optional(),
  clientIdContains: z.string().optional(),
  username: z.string().optional(),
  address: z.string().optional(),
  listener: z.string().optional(),
  version: z.coerce.number().int().min(3).max(5).optional(),
  connectedAfterSec: z.coerce.number().int().optional(),
  connectedBeforeSec: z.coerce.number().int().optional(),
});

export const sessionFilters = z.object({
  clientIdPrefix: z.string().optional(),
  clientIdContains: z.string().optional(),
  isConnected: flag.optional(),
  queuedCountMin: z.coerce.number().int().min(0).optional().meta({ description: "only with so many messages waiting" }),
});

const subscriptionFilters = z.object({
  clientIdPrefix: z.string().optional(),
  filterContains: z.string().optional(),
  qos: z.coerce.number().int().min(0).max(2).optional(),
});

const subscribeItem = z.object({
  filter: z.string().min(1).max(65_535),
  qos: z.int().min(0).max(2).default(0),
  noLocal: z.boolean().default(false),
  retainAsPublished: z.boolean().default(false),
  retainHandling: z.int().min(0).max(2).default(0),
  id: z.int().min(1).max(268_435_455).optional(),
});

const ITEMS_MAX = 1000;
const reasonCodes = z.object({
  results: z.array(
    z.object({ filter: z.string(), reasonCode: z.int().meta({ description: "as in SUBACK, UNSUBACK of MQTT 5.0" }) }),
  ),
});

export const clientOperations = {
  "clients.list": operation({
    about: "connected clients, in no particular order",
    spread: "walk",
    params: clientFilters.extend(pageParams),
    result: pageOf(clientRow),
    run: ({ engine, context }, params) =>
      walk(
        params,
        () => context.high,
        (number) => {
          const connection = context.openAt(number);
          if (connection === null || !isMeant(connection, params)) return undefined;
          return describeClient({ engine, context }, connection);
        },
      ),
  }),
  "clients.show": operation({
    about: "one connected client",
    spread: "home",
    params: z.object({ clientId: clientIdParam }),
    result: clientRow,
    run: (parts, { clientId }) => describeClient(parts, connectionOf(parts, clientId)),
  }),
  "clients.kick": operation({
    about: "ends the connection of a client, by Administrative action; its session stays as it asked for",
    spread: "home",
    params: z.object({ clientId: clientIdParam }),
    result: done,
    run(parts, { clientId }) {
      connectionOf(parts, clientId).end(ADMINISTRATIVE_ACTION);
      return { count: 1 };
    },
  }),
  "clients.kickWhere": operation({
    about: "ends the connections of all clients that the filters mean; without a filter none",
    spread: "each",
    params: clientFilters,
    result: done,
    merge: sumDone,
    async run({ context }, filters) {
      if (Object.values(filters).every((value) => value === undefined)) return { count: 0 };
      let kicked = 0;
      let cursor: string | undefined;
      do {
        const page = await walk(
          { cursor, limit: Infinity },
          () => context.high,
          (number) => {
            const connection = context.openAt(number);
            if (connection === null || !isMeant(connection, filters)) return undefined;
            connection.end(ADMINISTRATIVE_ACTION);
            kicked++;
            return undefined;
          },
        );
        cursor = page.cursor;
      } while (cursor !== undefined);
      return { count: kicked };
    },
  }),
  "clients.subscribe": operation({
    about: "subscribes on behalf of a client, connected or away; access is not asked",
    spread: "home",
    params: z.object({ clientId: clientIdParam, subscriptions: z.array(subscribeItem).min(1).max(ITEMS_MAX) }),
    result: reasonCodes,
    async run(parts, { clientId, subscriptions }) {
      const session = sessionOf(parts, clientId);
      const items = subscriptions.map(({ filter, qos, noLocal, retainAsPublished, retainHandling, id = 0 }) => {
        const flags = (noLocal ? NO_LOCAL : 0) | (retainAsPublished ? RETAIN_AS_PUBLISHED : 0);
        return { filter: Buffer.from(filter), options: qos | flags | (retainHandling << RETAIN_HANDLING_SHIFT), id };
      });
      const codes = await new Promise<Uint8Array>((resolve, reject) => {
        parts.engine.subscribe(session, items, (result) => {
          parts.commits.wait().then(() => resolve(result), reject);
        });
      });
      return { results: subscriptions.map(({ filter }, i) => ({ filter, reasonCode: codes[i] })) };
    },
  }),
  "clients.unsubscribe": operation({
    about: "takes subscriptions away from a client, connected or away",
    spread: "home",
    params: z.object({
      clientId: clientIdParam,
      filters: z.array(z.string().min(1).max(65_535)).min(1).max(ITEMS_MAX),
    }),
    result: reasonCodes,
    async run(parts, { clientId, filters }) {
      const session = sessionOf(parts, clientId);
      const codes = parts.engine.unsubscribe(
        session,
        filters.map((filter) => Buffer.from(filter)),
      );
      await parts.commits.wait();
      return { results: filters.map((filter, i) => ({ filter, reasonCode: codes[i] })) };
    },
  }),
  "sessions.list": operation({
    about: "sessions, of clients that are connected or away",
    spread: "walk",
    params: sessionFilters.extend(pageParams),
    result: pageOf(sessionRow),
    run: (parts, params) =>
      walk(
        params,
        () => parts.engine.sessions.high,
        (session) => {
          if (!isSessionMeant(parts, session, params)) return undefined;
          return describeSession(parts, session);
        },
      ),
  }),
  "sessions.show": operation({
    about: "the session of a client",
    spread: "home",
    params: z.object({ clientId: clientIdParam }),
    result: sessionRow,
    run: (parts, { clientId }) => describeSession(parts, sessionOf(parts, clientId)),
  }),
  "sessions.end": operation({
    about: "ends a session with all it holds, and the connection of its client",
    spread: "home",
    params: z.object({ clientId: clientIdParam }),
    result: done,
    async run(parts, { clientId }) {
      const { engine, commits } = parts;
      engine.sessions.sinks[sessionOf(parts, clientId)]?.end(ADMINISTRATIVE_ACTION);
      const session = engine.sessions.find(Buffer.from(clientId));
      if (session >= 0) engine.endSession(session);
      await commits.wait();
      return { count: 1 };
    },
  }),
  "subscriptions.list": operation({
    about: "subscriptions of all clients",
    spread: "walk",
    params: subscriptionFilters.extend(pageParams),
    result: pageOf(subscriptionRow),
    run: (parts, params) =>
      walk(
        params,
        () => parts.engine.index.subscriptionHigh,
        (sub) => {
          const { index, sessions } = parts.engine;
          if (!index.isClients(sub) || sessions.isPeer[index.target[sub]] !== 0) return undefined;
          const { qos, clientIdPrefix, filterContains } = params;
          if (qos !== undefined && (parts.engine.index.options[sub] & QOS_MASK) !== qos) return undefined;
          if (filterContains !== undefined && !filterOf(parts, sub).includes(filterContains)) return undefined;
          const isOfClient =
            clientIdPrefix === undefined || sessions.clientId(index.target[sub]).startsWith(clientIdPrefix);
          return isOfClient ? describeSubscription(parts, sub) : undefined;
        },
      ),
  }),
  "subscriptions.has": operation({
    about: "whether a client's session is subscribed to exactly this filter",
    spread: "home",
    params: z.object({ clientId: clientIdParam, filter: z.string() }),
    result: z.object({ isSubscribed: z.boolean() }),
    async run({ engine: { store, sessions, subscriptions } }, { clientId, filter }) {
      await new Promise<void>((resolve) => store.whenReady(resolve));
      const session = sessions.find(Buffer.from(clientId));
      return { isSubscribed: session >= 0 && subscriptions.has(session, Buffer.from(filter)) };
    },
  }),
  "subscriptions.of": operation({
    about: "subscriptions of one client",
    spread: "home",
    params: z.object({ clientId: clientIdParam, ...pageParams }),
    result: pageOf(subscriptionRow),
    run(parts, { clientId, ...page }) {
      const { index } = parts.engine;
      const subs: number[] = [];
      for (let sub = index.firstOfSession(sessionOf(parts, clientId)); sub >= 0; sub = index.nextOf[sub])
        subs.push(sub);
      const { items, cursor } = pageFrom(subs, page);
      return { items: items.map((sub) => describeSubscription(parts, sub)), cursor };
    },
  }),
};

type EngineParts = Pick<ControlParts, "engine">;

function sessionOf({ engine }: EngineParts, clientId: string): number {
  const session = engine.sessions.find(Buffer.from(clientId));
  if (session < 0 || engine.sessions.isPeer[session] !== 0) throw notFound("clientId", clientId);
  return session;
}

function connectionOf({ context, engine }: Pick<ControlParts, "engine" | "context">, clientId: string): Connection {
  const sink = engine.sessions.sinks[sessionOf({ engine }, clientId)] as Partial<Connection> | null;
  const connection = sink?.number === undefined ? null : context.openAt(sink.number);
  if (connection === null) throw notFound("clientId", clientId);
  return connection;
}

export function isMeant(connection: Connection, filters: z.output<typeof clientFilters>): boolean {
  const { version, listener, connectedAfterSec = -Infinity, connectedBeforeSec = Infinity } = filters;
  if (version !== undefined && connection.version !== version) return false;
  if (listener !== undefined && connection.listener !== listener) return false;
  if (filters.username !== undefined && connection.rare?.username !== filters.username) return false;
  if (filters.address !== undefined && connection.link.remoteAddress !== filters.address) return false;
  const openedSec = connection.context.openedSecOf(connection.number);
  if (openedSec < connectedAfterSec || openedSec > connectedBeforeSec) return false;
  if (filters.clientIdPrefix === undefined && filters.clientIdContains === undefined) return true;
  return isIdMeant(connection.context.engine.sessions.clientId(connection.session), filters);
}

function isIdMeant(
  clientId: string,
  {
    clientIdPrefix = "",
    clientIdContains = "",
  }: { clientIdPrefix?: string | undefined; clientIdContains?: string | undefined },
): boolean {
  return clientId.startsWith(clientIdPrefix) && clientId.includes(clientIdContains);
}

export function isSessionMeant(
  { engine }: EngineParts,
  session: number,
  filters: z.output<typeof sessionFilters>,
): boolean {
  const { sessions } = engine;
  if (!sessions.has(session) || sessions.isPeer[session] !== 0) return false;
  const { isConnected, queuedCountMin } = filters;
  if (isConnected !== undefined && (sessions.sinks[session] !== null) !== isConnected) return false;
  if (queuedCountMin !== undefined && (sessions.queueOf(session)?.outbox.count ?? 0) < queuedCountMin) return false;
  if (filters.clientIdPrefix === undefined && filters.clientIdContains === undefined) return true;
  return isIdMeant(sessions.clientId(session), filters);
}

export function describeClient(
  { engine, context }: Pick<ControlParts, "engine" | "context">,
  connection: Connection,
): z.output<typeof clientRow> {
  const { session, link, number } = connection;
  return {
    clientId: engine.sessions.clientId(session),
    username: connection.rare?.username,
    address: link.remoteAddress,
    port: link.remotePort,
    version: connection.version,
    listener: connection.listener,
    connectedAtSec: context.openedSecOf(number),
    keepAliveSec: connection.silenceMaxMs / 1500,
    isCleanStart: context.isCleanStart(number),
    expirySec: expiryOf(engine.sessions.expirySec[session]),
    unsentBytes: link.unsentBytes,
    ...describeQueue({ engine }, session),
  };
}

export function describeSession({ engine }: EngineParts, session: number): z.output<typeof sessionRow> {
  const { sessions } = engine;
  return {
    clientId: sessions.clientId(session),
    isConnected: sessions.sinks[session] !== null,
    isStored: sessions.isStored[session] === 1,
    createdAtSec: sessions.createdSec[session],
    expirySec: expiryOf(sessions.expirySec[session]),
    awaitingReleaseCount: sessions.queueOf(session)?.receipts?.count ?? 0,
    awaitingCompleteCount: sessions.queueOf(session)?.inflight.releasedCount ?? 0,
    ...describeQueue({ engine }, session),
  };
}

export function describeQueue({ engine }: EngineParts, session: number) {
  const { sessions } = engine;
  const queue = sessions.queueOf(session);
  return {
    subscriptionCount: sessions.subscriptionCount[session],
    inflightCount: queue ? queue.inflight.total + queue.storedCount : 0,
    queuedCount: queue?.outbox.count ?? 0,
    queuedBytes: queue?.outbox.bytes ?? 0,
    droppedCount: queue?.droppedCount ?? 0,
  };
}

/** As it was subscribed to. */
function filterOf({ engine: { index, groups } }: EngineParts, sub: number): string {
  const group = index.groupOf(sub);
  return (group < 0 ? index.filterOf(sub) : groups.filterOf(group)).toString();
}

function describeSubscription({ engine }: EngineParts, sub: number): z.output<typeof subscriptionRow> {
  const { index, sessions } = engine;
  const options = index.options[sub];
  return {
    clientId: sessions.clientId(index.target[sub]),
    filter: filterOf({ engine }, sub),
    qos: options & QOS_MASK,
    noLocal: (options & NO_LOCAL) !== 0,
    retainAsPublished: (options & RETAIN_AS_PUBLISHED) !== 0,
    retainHandling: (options >> RETAIN_HANDLING_SHIFT) & 3,
    ...(index.id[sub] !== 0 && { id: index.id[sub] }),
  };
}

function expiryOf(sec: number): number | null {
  return sec === NEVER ? null : sec;
}
