/**
 * What a client is subscribed to as it comes in, whatever it was listed in: rows, a hash of Redis, a token's claim, a reply.
 *
 *   { "home/%u/#": 1, "$share/g/jobs": 0 }        filter → QoS
 *   [{ "topic": "home/%u/#", "qos": 1 }, …]       the same as a list
 *
 * Variables are those of rules. A filter whose variable the client has not, or whose value would be more than a part of a
 * level, is left out: nobody widens a filter by a name. What cannot be understood makes the whole list unusable.
 */
import type { ClientInfo, GrantedSubscription } from "#core/ports.ts";
import { isShared, parseShared } from "#core/topic.ts";
import { levelsOf, parsePattern, type TopicPattern } from "./topic-pattern.ts";
import { valuesOf } from "./template.ts";

/** More than this is no client's list but a query without its condition. */
const COUNT_MAX = 1000;

interface Listed {
  /** `$share/GROUP/`, or empty. */
  readonly share: string;
  readonly pattern: TopicPattern;
  readonly qos: 0 | 1 | 2;
}

export type SubscriptionList = readonly Listed[];

/** A list, or why it is none. */
export function parseSubscriptions(
  rows: readonly (readonly [filter: unknown, qos: unknown])[],
): SubscriptionList | { readonly fault: string } {
  if (rows.length > COUNT_MAX) return { fault: `more than ${COUNT_MAX} subscriptions for a client` };
  const list: Listed[] = [];
  for (const [filter, level] of rows) {
    const qos = level === undefined || level === null ? 0 : Number(level);
    if (qos !== 0 && qos !== 1 && qos !== 2) return { fault: `a QoS that is none of 0, 1, 2` };
    const text = typeof filter === "string" ? filter : "";
    const shared = isShared(Buffer.from(text)) ? parseShared(Buffer.from(text)) : undefined;
    const share = shared ? text.slice(0, text.length - shared.filter.toString().length) : "";
    const pattern = parsePattern(text.slice(share.length));
    if (!pattern || (isShared(Buffer.from(text)) && !shared)) return { fault: `${JSON.stringify(text)} is no filter` };
    list.push({ share, pattern, qos });
  }
  return list;
}

/** Of JSON: a mapping of filters to QoS, or a list of objects with `topic` and `qos`. */
export function parseJsonSubscriptions(json: unknown): SubscriptionList | { readonly fault: string } {
  if (typeof json !== "object" || json === null) return { fault: "no mapping and no list" };
  if (!Array.isArray(json)) return parseSubscriptions(Object.entries(json));
  return parseSubscriptions(
    json.map((item: unknown) => {
      const { topic, qos } = (typeof item === "object" ? (item ?? {}) : {}) as { topic?: unknown; qos?: unknown };
      return [topic, qos] as const;
    }),
  );
}

export function subscriptionsFor(list: SubscriptionList, client: ClientInfo): GrantedSubscription[] {
  const values = valuesOf(client);
  return list.flatMap(({ share, pattern, qos }) => {
    const levels = pattern.levels ?? levelsOf(pattern.template, "allow", values);
    return levels ? [{ filter: Buffer.from(share + levels.join("/")), qos }] : [];
  });
}
