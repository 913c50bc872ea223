/**
 * A plugin: tells which devices have fallen silent, on `watchdog/CLIENTID`, retained.
 *
 *   plugins: [{ from: ./examples/watchdog-plugin.ts, options: { silentSec: 60 } }]
 *   mantou ctl watchdog          who is silent, and for how long
 */
import { definePlugin, isTopicName, wholeNumber, z } from "mantou/plugin";

/** Devices that are remembered; the one that has been silent longest gives way. */
const COUNT_MAX = 100_000;

export default definePlugin({
  name: "watchdog",
  version: "1.0.0",
  description: "tells which devices have fallen silent",
  config: z.strictObject({
    silentSec: wholeNumber("silentSec", { min: 1, max: 86_400, initial: 60 }, "after this time without a message"),
  }),
  start(api) {
    /** When each device was last heard, the one that was heard longest ago first. */
    const heardMs = new Map<string, number>();
    const silent = new Set<string>();
    const tell = (clientId: string, state: "silent" | "back"): void => {
      const topic = `watchdog/${clientId}`;
      if (isTopicName(topic)) api.publish(topic, state, { qos: 1, isRetain: true });
    };
    const fallen = api.counter("fallen_silent_total", "Times that a device fell silent");
    api.gauge("silent", "Devices that are silent", () => silent.size);

    api.on("message.publish", ({ publisher }) => {
      if (publisher === undefined) return; // the broker itself, or this plugin
      heardMs.delete(publisher);
      heardMs.set(publisher, performance.now());
      if (heardMs.size > COUNT_MAX) heardMs.delete(heardMs.keys().next().value!);
      if (silent.delete(publisher)) tell(publisher, "back");
    });
    api.on("session.ended", (clientId) => {
      heardMs.delete(clientId);
      silent.delete(clientId);
    });

    api.setInterval(() => {
      const limitMs = performance.now() - api.config.silentSec * 1000;
      for (const [clientId, atMs] of heardMs) {
        if (atMs > limitMs) return; // and so are all others
        heardMs.delete(clientId);
        silent.add(clientId);
        fallen.add();
        tell(clientId, "silent");
      }
    }, 1000);
    api.command({
      name: "watchdog",
      usage: "",
      description: "devices that have fallen silent",
      run: () => [...silent].toSorted(),
    });
  },
});
