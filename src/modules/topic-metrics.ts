/** What passes for chosen filters: messages in, out and dropped, and their payload bytes, as metrics with the filter as label. */
import { type PluginApi, topicMatcher, type z } from "#plugins/plugin.ts";
import type { topicMetricsOptions } from "./options.ts";

export function startTopicMetrics(api: PluginApi<z.output<typeof topicMetricsOptions>>): void {
  const watched = api.config.filters.map((filter) => {
    const labels = { filter };
    return {
      fits: topicMatcher(filter),
      received: api.counter("received_total", "Messages that were published", labels),
      receivedBytes: api.counter("received_bytes_total", "Payload bytes that were published", labels),
      sent: api.counter("sent_total", "Messages that were sent to subscribers", labels),
      dropped: api.counter("dropped_total", "Messages that were not delivered, for whatever reason", labels),
    };
  });
  if (watched.length === 0) return;
  // First of all hooks, so that what is counted is what came; but a message that a hook stops is counted as dropped as well.
  api.on(
    "message.publish",
    ({ topic, payloadBytes }) => {
      for (const { fits, received, receivedBytes } of watched) {
        if (!fits(topic)) continue;
        received.add();
        receivedBytes.add(payloadBytes);
      }
    },
    { priority: -1000 },
  );
  api.on("message.delivered", (_clientId, { topic }) => {
    for (const { fits, sent } of watched) if (fits(topic)) sent.add();
  });
  api.on("message.dropped", (_clientId, _reason, { topic }) => {
    for (const { fits, dropped } of watched) if (fits(topic)) dropped.add();
  });
}
