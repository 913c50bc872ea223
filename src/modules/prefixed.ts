/** Subscriptions whose filter begins with a prefix that says something about the subscription, and is not part of the filter. */
import type { PluginApi, SubscribeRequest } from "#plugins/plugin.ts";

type Wish = SubscribeRequest["wishes"][number];

/**
 * Takes the prefix off in SUBSCRIBE and UNSUBSCRIBE. `see` is told of each such filter of a SUBSCRIBE, without the prefix, and may refuse
 * it by its reason code; `forget` of each of an UNSUBSCRIBE.
 */
export function takePrefix(
  api: PluginApi,
  prefix: string,
  see: (wish: Wish, clientId: string) => void = () => {},
  forget: (filter: string, clientId: string) => void = () => {},
): void {
  api.on("client.subscribe", ({ client, wishes }) => {
    for (const wish of wishes) {
      if (!wish.filter.startsWith(prefix)) continue;
      wish.filter = wish.filter.slice(prefix.length);
      see(wish, client.clientId);
    }
  });
  api.on("client.unsubscribe", ({ client, filters }) => {
    for (const [i, filter] of filters.entries()) {
      if (!filter.startsWith(prefix)) continue;
      filters[i] = filter.slice(prefix.length);
      forget(filters[i], client.clientId);
    }
  });
}
