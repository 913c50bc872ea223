/**
 * Events to MongoDB: a bulk write for each collection of a batch. `_id` is the event's `id`, so that a document that is there already is not
 * written twice.
 */
import type { Document, MongoClient } from "mongodb";
import type { ServerPlace } from "#access/backends/sql-server.ts";
import type { BrokerEvent } from "./event.ts";
import { Refused } from "./spool.ts";
import type { TargetOf } from "./storage-options.ts";
import { fillTemplate, templateOf } from "./storage-template.ts";
import { invalid, type StoredRow, type Writer } from "./storage-writer.ts";

const DUPLICATE_KEY = 11_000;
/** Of single documents: not valid for the collection, too large, a name or value that cannot be. */
const REFUSALS: ReadonlySet<unknown> = new Set([121, 10_334, 17_280, 17_419, 17_420, 52, 57]);

type Fill = (event: BrokerEvent) => Document;

export class MongoWriter implements Writer {
  private client: MongoClient | undefined;

  private constructor(
    private readonly connect: () => MongoClient,
    private readonly target: TargetOf<"mongodb">,
    private readonly fills: readonly Fill[],
  ) {}

  /** Rejects with MantouError where the secret is missing or no connection string; its text is not told: it may have a password in it. */
  static async open(target: TargetOf<"mongodb">, place: ServerPlace, node: string): Promise<MongoWriter> {
    const { deadlineMs } = target.queue;
    const uri = target.uri.reveal();
    const driver = await import("mongodb");
    const connect = (): MongoClient =>
      new driver.MongoClient(uri, {
        appName: "mantou",
        maxPoolSize: 1,
        serverSelectionTimeoutMS: Math.ceil(deadlineMs / 2), // sooner than the deadline, so that it says why
        connectTimeoutMS: deadlineMs,
        socketTimeoutMS: deadlineMs,
      });
    const fills = target.rules.map(({ document }) => fillOf({ _id: "${id}", ...document }, node) as Fill);
    const writer = new MongoWriter(connect, target, fills);
    try {
      writer.client = connect();
    } catch {
      throw invalid(place.label, "uri: found something else, allowed: a connection string");
    }
    return writer;
  }

  /** After a failure the client is given up with all its connections, whatever has become of what runs on them. */
  async write(rows: readonly StoredRow[], signal: AbortSignal): Promise<void> {
    const client = (this.client ??= this.connect());
    const giveUp = (): void => void this.stop();
    signal.addEventListener("abort", giveUp, { once: true });
    try {
      await this.insert(client, rows);
    } catch (error) {
      if (!(error instanceof Refused)) giveUp();
      throw error;
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
  }

  async stop(): Promise<void> {
    const { client } = this;
    this.client = undefined;
    await client?.close(true).catch(() => {});
  }

  private async insert(client: MongoClient, rows: readonly StoredRow[]): Promise<void> {
    const { rules, database } = this.target;
    const byCollection = Map.groupBy(rows, ({ rule }) => rules[rule]!.collection);
    for (const [collection, some] of byCollection) {
      const documents = some.map(({ rule, event }) => this.fills[rule]!(event));
      await client.db(database).collection(collection).insertMany(documents, { ordered: false }).catch(checkFaults);
    }
  }
}

/** What is there already is well. */
function checkFaults(error: Error & { writeErrors?: unknown }): void {
  const faults = [error.writeErrors ?? []].flat() as { readonly code?: unknown; readonly errmsg?: string }[];
  const others = faults.filter(({ code }) => code !== DUPLICATE_KEY);
  if (faults.length === 0) throw error;
  if (others.length === 0) return;
  if (others.every(({ code }) => REFUSALS.has(code))) throw new Refused(others[0]!.errmsg ?? error.message);
  throw error;
}

/** Texts are templates, everything else is itself. */
function fillOf(value: unknown, node: string): (event: BrokerEvent) => unknown {
  if (typeof value === "string") {
    const template = templateOf(value);
    return (event) => fillTemplate(template, event, node);
  }
  if (Array.isArray(value)) {
    const items = value.map((one: unknown) => fillOf(one, node));
    return (event) => items.map((fill) => fill(event));
  }
  if (typeof value !== "object" || value === null) return () => value;
  const fields = Object.entries(value).map(([key, one]) => [key, fillOf(one, node)] as const);
  return (event) => Object.fromEntries(fields.map(([key, fill]) => [key, fill(event)]));
}
