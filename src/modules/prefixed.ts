/** Subscriptions whose filter begins with a prefix that says something about the subscription, and is not part of the filter. */
import type { PluginApi } from "#plugins/plugin.ts";

/** Takes the prefix off in SUBSCRIBE and UNSUBSCRIBE; access judges what follows it. */
export function takePrefix(api: PluginApi, prefix: string): void {
  const rest = (filter: string): string => (filter.startsWith(prefix) ? filter.slice(prefix.length) : filter);
  api.on(
    "client.subscribe",
    ({ wishes }) => {
      for (const wish of wishes) wish.filter = rest(wish.filter);
    },
    { prefix },
  );
  api.on("client.unsubscribe", ({ filters }) => {
    for (const [i, filter] of filters.entries()) filters[i] = rest(filter);
  });
}
