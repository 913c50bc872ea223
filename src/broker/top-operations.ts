/**
 * The most of something, the greatest first: of sessions and connected clients. A list has no order, since to sort a million rows one has to have
 * them all; the greatest few are found by one walk that keeps no more than those.
 */
import { z } from "zod";
import {
  clientFilters,
  clientRow,
  describeClient,
  describeQueue,
  describeSession,
  isMeant,
  isSessionMeant,
  sessionFilters,
  sessionRow,
} from "./client-operations.ts";
import { operation, walkTop } from "./operation.ts";

const COUNT_MAX = 100;
const limit = z.coerce.number().int().min(1).max(COUNT_MAX).default(COUNT_MAX).meta({ description: "most rows" });
const queueKeys = ["queuedCount", "queuedBytes", "inflightCount", "droppedCount", "subscriptionCount"] as const;
const sessionKey = z.enum([...queueKeys, "createdAtSec"]);
const clientKey = z.enum([...queueKeys, "unsentBytes", "connectedAtSec"]);

function topOf<R extends z.ZodType, K extends z.ZodType>(row: R, key: K) {
  return z.object({ items: z.array(row), by: key, limit: z.int() });
}

export const topOperations = {
  "sessions.top": operation({
    about: "sessions with most of something, the greatest first",
    spread: "each",
    params: sessionFilters.extend({ by: sessionKey, limit }),
    result: topOf(sessionRow, sessionKey),
    merge: (answers) => merged(answers, (row, by) => row[by]),
    async run({ engine }, { by, limit: count, ...filters }) {
      const { sessions } = engine;
      const found = await walkTop(
        count,
        () => sessions.high,
        (session) => {
          if (!isSessionMeant({ engine }, session, filters)) return undefined;
          return by === "createdAtSec" ? sessions.createdSec[session] : describeQueue({ engine }, session)[by];
        },
      );
      const items = found.flatMap((session) =>
        isSessionMeant({ engine }, session, filters) ? describeSession({ engine }, session) : [],
      );
      return { items, by, limit: count };
    },
  }),
  "clients.top": operation({
    about: "connected clients with most of something, the greatest first; by connectedAtSec: the latest",
    spread: "each",
    params: clientFilters.extend({ by: clientKey, limit }),
    result: topOf(clientRow, clientKey),
    merge: (answers) => merged(answers, (row, by) => row[by]),
    async run(parts, { by, limit: count, ...filters }) {
      const { context } = parts;
      const found = await walkTop(
        count,
        () => context.high,
        (number) => {
          const connection = context.openAt(number);
          if (!connection || !isMeant(connection, filters)) return undefined;
          if (by === "connectedAtSec") return context.openedSecOf(number);
          return by === "unsentBytes" ? connection.link.unsentBytes : describeQueue(parts, connection.session)[by];
        },
      );
      const items = found.flatMap((number) => {
        const connection = context.openAt(number);
        return connection && isMeant(connection, filters) ? describeClient(parts, connection) : [];
      });
      return { items, by, limit: count };
    },
  }),
};

interface Top<R, K> {
  readonly items: R[];
  readonly by: K;
  readonly limit: number;
}

function merged<R, K>(answers: Top<R, K>[], valueOf: (row: R, by: K) => number): Top<R, K> {
  const [{ by, limit: count }] = answers as [Top<R, K>];
  const items = answers.flatMap((answer) => answer.items).toSorted((a, b) => valueOf(b, by) - valueOf(a, by));
  return { items: items.slice(0, count), by, limit: count };
}
