/**
 * Messages and events of clients, written to databases in batches. Publishers never wait for one.
 *
 *   event ─► outlet: memory, disk ─► batch ─► writer of the target's kind: one transaction, pipeline or bulk write ─► done
 *
 * At least once: a batch whose answer was lost is written again. `${id}` tells a repeat.
 */
import type { ServerPlace } from "#access/backends/sql-server.ts";
import type { PluginApi, z } from "#plugins/plugin.ts";
import { type BrokerEvent, type Interest, interestOf, observe } from "./event.ts";
import { offerStatus, Outlet, tellOrphans } from "./outlet.ts";
import { Refused } from "./spool.ts";
import type { storageOptions, Target } from "./storage-options.ts";
import type { StoredRow, Writer } from "./storage-writer.ts";

type Options = z.output<typeof storageOptions>;

export async function startStorage(api: PluginApi<Options>): Promise<() => Promise<void>> {
  const { targets } = api.config;
  const places: Place[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(places.map((place) => place.stop()));
  };
  try {
    for (const target of targets) places.push(await Place.open(target, api));
  } catch (error) {
    await stop();
    throw error;
  }
  observe(api, places);
  offerStatus(
    api,
    places.map(({ outlet }) => outlet),
  );
  tellOrphans(
    api,
    targets.map(({ name }) => name),
  );
  return stop;
}

/** A target, and what is to go there. */
class Place implements Interest {
  readonly kinds: Interest["kinds"];

  private constructor(
    private readonly rules: readonly Interest[],
    readonly outlet: Outlet,
    private readonly writer: Writer,
  ) {
    this.kinds = new Set(rules.flatMap(({ kinds }) => [...kinds]));
  }

  /** @throws MantouError where a secret or a file is missing; a server that is away is none of that */
  static async open(target: Target, api: PluginApi<Options>): Promise<Place> {
    const rules = target.rules.map(({ events, filters }) => interestOf(events, filters));
    const writer = await writerOf(target, api);
    const send = (batch: readonly BrokerEvent[], signal: AbortSignal): Promise<unknown> =>
      writer.write(rowsOf(batch, rules), signal);
    return new Place(rules, await Outlet.open(api, target.name, target.queue, send), writer);
  }

  readonly wants: Interest["wants"] = (kind, topic) => this.rules.some((rule) => rule.wants(kind, topic));

  put(event: BrokerEvent): void {
    this.outlet.put(event);
  }

  async stop(): Promise<void> {
    await this.outlet.stop();
    await this.writer.stop();
  }
}

/** Event by event, rule by rule. */
function rowsOf(batch: readonly BrokerEvent[], rules: readonly Interest[]): StoredRow[] {
  return batch.flatMap((event) => {
    const rows = rules.flatMap((each, rule) => (each.wants(event.event, event.topic) ? [{ rule, event }] : []));
    if (rows.length === 0) throw new Refused("no rule is for it any more");
    return rows;
  });
}

/** Reads the files that a target names, and opens nothing. Rejects as `startStorage` does. */
export async function checkTarget(target: Target): Promise<void> {
  const place = placeOf(target);
  if (target.type === "postgresql" || target.type === "mysql")
    new (await import("./storage-sql.ts")).SqlWriter(target, place, "");
  else if (target.type === "redis")
    new (await import("#access/backends/redis-server.ts")).RedisServer(
      target.server,
      target.queue.deadlineMs,
      place,
    ).check();
}

function placeOf({ name }: Target): ServerPlace {
  return { label: `storage: ${name}`, baseDir: process.cwd() };
}

async function writerOf(target: Target, api: PluginApi<Options>): Promise<Writer> {
  const place = placeOf(target);
  const { node } = api.broker;
  switch (target.type) {
    case "postgresql":
    case "mysql":
      return new (await import("./storage-sql.ts")).SqlWriter(target, place, node);
    case "sqlite":
      return (await import("./storage-sqlite.ts")).SqliteWriter.open(target, place, node);
    case "redis":
      return new (await import("./storage-redis.ts")).RedisWriter(target, place, node);
    case "mongodb":
      return (await import("./storage-mongodb.ts")).MongoWriter.open(target, place, node);
  }
}
