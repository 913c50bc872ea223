/**
 * `$exclusive/FILTER`: a subscription to FILTER that one client has at a time; others are refused with Quota exceeded (3.x: 0x80) as long
 * as it has it. Who holds a filter is looked up when another asks for it, so nothing has to be noticed when a session ends.
 *
 * Of several worker processes each has its own holder; subscriptions without the prefix are nobody's business.
 */
import type { PluginApi } from "#plugins/plugin.ts";
import { takePrefix } from "./prefixed.ts";

const QUOTA_EXCEEDED = 0x97;
/** Each time so many filters are held, those that nobody has any more are forgotten. */
const SWEEP_COUNT = 1024;

export function startExclusive(api: PluginApi): void {
  const holders = new Map<string, string>();
  const refused = api.counter("refused_total", "Exclusive subscriptions that another client had");
  const isHeld = (filter: string): boolean => {
    const holder = holders.get(filter);
    return holder !== undefined && api.isSubscribed(holder, filter);
  };
  let sweepAt = SWEEP_COUNT;
  takePrefix(
    api,
    "$exclusive/",
    (wish, clientId) => {
      if (holders.get(wish.filter) !== clientId && isHeld(wish.filter)) {
        wish.reasonCode = QUOTA_EXCEEDED;
        refused.add();
        return;
      }
      holders.set(wish.filter, clientId);
      if (holders.size < sweepAt) return;
      for (const filter of holders.keys()) if (filter !== wish.filter && !isHeld(filter)) holders.delete(filter);
      sweepAt = holders.size + SWEEP_COUNT;
    },
    (filter, clientId) => {
      if (holders.get(filter) === clientId) holders.delete(filter);
    },
  );
  api.gauge("held", "Exclusive subscriptions that were given and not found free since", () => holders.size);
}
