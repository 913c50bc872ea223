/**
 * Subscriptions that clients have without asking: those of the configuration, with variables, and those that were listed for a client
 * id by `mantou ctl static-subscriptions add`. A client has them before its CONNACK, judged by access as if it had asked for them.
 *
 *   subscriptions.json   { "CLIENTID": { "FILTER": QOS } }, in the module's directory; other worker processes read it again
 *                        when it has changed
 */
import { readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ClientInfo, isTopicFilter, MantouError, type PluginApi, type z } from "#plugins/plugin.ts";
import { filterFor } from "./client-filter.ts";
import type { autoSubscribeOptions } from "./options.ts";

type Listed = Record<string, Record<string, number>>;

const USAGE = "list | add CLIENTID FILTER [QOS] | del CLIENTID [FILTER]";
const REREAD_MS = 1000;
/** Listed subscriptions of all clients together. */
const LISTED_COUNT_MAX = 100_000;

export function startAutoSubscribe(api: PluginApi<z.output<typeof autoSubscribeOptions>>): void {
  const { subscriptions } = api.config;
  const list = new SubscriptionList(join(api.nodeDir, "subscriptions.json"));
  const left = api.counter("left_out_total", "Subscriptions that do not fit a client's id or user name");
  api.setInterval(() => list.readAgain(), REREAD_MS);
  api.backend({
    name: "list",
    subscriptions(client, answer) {
      answer([...configured(client), ...list.of(client.clientId)]);
    },
  });
  api.command({
    name: "static-subscriptions",
    usage: USAGE,
    description: "subscriptions listed for a client id, which it has from its next CONNECT on",
    run: (args) => list.run(args),
  });

  function* configured(client: ClientInfo): Generator<{ filter: Buffer; qos: 0 | 1 | 2 }> {
    for (const { filter, qos } of subscriptions) {
      const filled = filterFor(filter, client);
      if (filled === undefined) left.add();
      else yield { filter: Buffer.from(filled), qos: qos as 0 | 1 | 2 };
    }
  }
}

class SubscriptionList {
  private listed: Listed = {};
  private readAtMs = -1;

  constructor(private readonly path: string) {
    this.readAgain();
  }

  of(clientId: string): { filter: Buffer; qos: 0 | 1 | 2 }[] {
    const own = Object.hasOwn(this.listed, clientId) ? this.listed[clientId]! : {};
    return Object.entries(own).map(([filter, qos]) => ({ filter: Buffer.from(filter), qos: qos as 0 | 1 | 2 }));
  }

  /** Reads the file if it has changed. */
  readAgain(): void {
    const atMs = statSync(this.path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (atMs === this.readAtMs) return;
    this.readAtMs = atMs;
    this.listed = atMs === 0 ? {} : checked(JSON.parse(readFileSync(this.path, "utf8")), this.path);
  }

  /** `static-subscriptions list | add … | del …`; listing as emqttd_ctl printed it. */
  run([verb, clientId, filter, qos = "0"]: readonly string[]): string {
    this.readAgain();
    if (verb === "list" && clientId === undefined)
      return this.rows()
        .map(([id, each, level]) => `${id} -> ${each}:${level}\n`)
        .join("");
    if (verb === "add" && clientId !== undefined && filter !== undefined)
      return this.add(clientId, filter, Number(qos));
    if (verb === "del" && clientId !== undefined) return this.remove(clientId, filter);
    throw usage(`found ${verb ?? "nothing"}, allowed: ${USAGE}`);
  }

  private rows(): [string, string, number][] {
    const byName = ([a]: [string, unknown], [b]: [string, unknown]): number => (a < b ? -1 : 1);
    return Object.entries(this.listed)
      .toSorted(byName)
      .flatMap(([clientId, own]) =>
        Object.entries(own).map(([filter, qos]): [string, string, number] => [clientId, filter, qos]),
      );
  }

  private add(clientId: string, filter: string, qos: number): string {
    if (!isTopicFilter(filter)) throw usage(`FILTER: found ${JSON.stringify(filter)}, allowed: a topic filter`);
    if (![0, 1, 2].includes(qos)) throw usage(`QOS: found ${qos}, allowed: 0, 1, 2`);
    if (this.rows().length >= LISTED_COUNT_MAX)
      throw usage(`found ${LISTED_COUNT_MAX} listed already, allowed: no more`);
    const own = Object.hasOwn(this.listed, clientId) ? this.listed[clientId] : {};
    this.write(put(this.listed, clientId, put(own!, filter, qos)));
    return "ok\n";
  }

  private remove(clientId: string, filter: string | undefined): string {
    const own = Object.hasOwn(this.listed, clientId) ? this.listed[clientId]! : {};
    const rest = Object.fromEntries(Object.entries(own).filter(([each]) => filter !== undefined && each !== filter));
    if (Object.keys(rest).length === Object.keys(own).length) throw new MantouError("not_found", "Not Found.");
    const others = Object.entries(this.listed).filter(([each]) => each !== clientId);
    this.write(Object.fromEntries(Object.keys(rest).length > 0 ? [...others, [clientId, rest]] : others));
    return "ok\n";
  }

  /** Whole or not at all. */
  private write(listed: Listed): void {
    writeFileSync(`${this.path}.new`, JSON.stringify(listed, undefined, 1));
    renameSync(`${this.path}.new`, this.path);
    this.listed = listed;
    this.readAtMs = statSync(this.path).mtimeMs;
  }
}

/** `__proto__` is a client id like any other. */
function put<T>(entries: Readonly<Record<string, T>>, key: string, value: T): Record<string, T> {
  return Object.fromEntries([...Object.entries(entries).filter(([each]) => each !== key), [key, value]]);
}

function usage(words: string): MantouError {
  return new MantouError("params_invalid", words);
}

function checked(value: unknown, path: string): Listed {
  const isMapping = (each: unknown): each is object =>
    typeof each === "object" && each !== null && !Array.isArray(each);
  const isFit =
    isMapping(value) &&
    Object.values(value).every(
      (own) =>
        isMapping(own) &&
        Object.entries(own).every(([filter, qos]) => isTopicFilter(filter) && [0, 1, 2].includes(qos as number)),
    );
  if (!isFit)
    throw new MantouError("plugin_invalid", `${path}: found something else, allowed: client ids with filters and QoS`);
  return value as Listed;
}
