/**
 * `$exclusive/FILTER`: a subscription to FILTER that one client of the node has at a time; others are refused with Quota exceeded (3.x:
 * 0x80) as long as it has it. Subscriptions without the prefix are nobody's business.
 *
 *   SUBSCRIBE ─► who holds it (holders-sqlite.ts) ─┬─ nobody, or one whose session is not subscribed any more ─► taken over, then subscribed
 *                                                 └─ one who is, or whose worker process is away ─► refused
 *
 * Whether the holder still has it is asked of its session when another wants it, so nothing has to be noticed when a process dies. A client
 * is subscribed before its process handles another's question about it: nothing is waited for between the two.
 */
import { join } from "node:path";
import { MantouError, type PluginApi } from "#plugins/plugin.ts";
import { type Holding, Holders } from "./holders-sqlite.ts";
import { takePrefix } from "./prefixed.ts";

const PREFIX = "$exclusive/";
const QUOTA_EXCEEDED = 0x97;
/** After all other listeners: what they wait for must not come between. */
const LAST = Number.MAX_SAFE_INTEGER;
/** What a crash has left behind is looked for so often. */
const SWEEP_MS = 3_600_000;
const PAGE_COUNT = 1000;

export function startExclusive(api: PluginApi): void {
  const holders = new Holders(join(api.nodeDir, "holders.db"), api.broker.sync);
  api.onUnload(() => holders.close());
  const refused = api.counter("refused_total", "Exclusive subscriptions that another client had");
  const isHeld = async ({ clientId, filter }: Holding): Promise<boolean> => {
    try {
      return await api.isSubscribed(clientId, filter);
    } catch (error) {
      if (error instanceof MantouError) return true; // its process is being started again, and may have it on disk
      throw error;
    }
  };
  const lookUp = async (filter: string, clientId: string) => {
    const found = holders.find(filter);
    const isHolding = found !== undefined && (await isHeld(found));
    return { filter, found, isOwn: isHolding && found.clientId === clientId, isFree: !isHolding };
  };
  api.onAsync(
    "client.subscribe",
    async ({ client: { clientId }, wishes }) => {
      const asked = wishes.filter(({ filter }) => filter.startsWith(PREFIX));
      if (asked.length === 0) return;
      const found = await Promise.all(asked.map(({ filter }) => lookUp(filter.slice(PREFIX.length), clientId)));
      const free = found.filter(({ isFree }) => isFree);
      const taken = free.length === 0 ? [] : await holders.take(free, clientId);
      for (const [i, each] of found.entries()) {
        if (each.isOwn || taken[free.indexOf(each)]) continue;
        asked[i]!.reasonCode = QUOTA_EXCEEDED;
        refused.add();
      }
    },
    { priority: LAST, whenFailed: "refuse" },
  );
  takePrefix(api, PREFIX);

  const note = (dropped: Promise<void>): void => {
    dropped.catch((err: unknown) => api.log.warn("a holder could not be removed; it is when another asks", { err }));
  };
  api.on("session.unsubscribed", (clientId, filter) => {
    if (holders.find(filter)?.clientId === clientId) note(holders.drop(clientId, filter));
  });
  api.on("session.ended", (clientId) => {
    if (holders.holdsAny(clientId)) note(holders.dropAll(clientId));
  });
  if (api.broker.worker !== 0) return;
  const sweep = async (): Promise<void> => {
    let page: Holding[];
    for (let after = ""; (page = holders.page(after, PAGE_COUNT)).length > 0; after = page.at(-1)!.filter) {
      for (const holding of page) if (!(await isHeld(holding))) await holders.dropFound(holding);
    }
  };
  api.setInterval(sweep, SWEEP_MS);
  api.gauge("held", "Exclusive subscriptions that were given and not found free since", () => holders.count);
}
