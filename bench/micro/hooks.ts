/** What hooks cost a message on its way from a client's bytes to another's: none, and what plugins do at `message.publish`. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MqttContext } from "#mqtt/context.ts";
import { PluginHost } from "#plugins/host.ts";
import type { PluginDefinition } from "#plugins/plugin.ts";
import { modules } from "#modules/module-table.ts";
import { Connection } from "#mqtt/connection.ts";
import {
  connectPacket,
  CountingLink,
  makeEngine,
  openClient,
  packet,
  publishPacket,
  subscribePacket,
} from "./fixture.ts";
import type { Body, Suite } from "./recorder.ts";

const TOPIC = "site/12/line/device4711/state";
const WINDOW = 15;
const ROUNDS = 20;
const VISITS = 1000;

export const suite: Suite = {
  about: "hooks: a QoS 0 message of 64 B from one connection to another, with plugins that listen (src/plugins/)",
  async run(recorder) {
    await recorder.compare("a plugin listens", WINDOW * ROUNDS, {
      "nobody listens": await way(() => {}),
      "at other points": await way((api) => {
        api.on("client.disconnected", () => {});
        api.on("session.subscribed", () => {});
        api.on("message.acked", () => {});
      }),
      "message.publish, reads nothing": await way((api) => void api.on("message.publish", () => {})),
      "message.publish, reads the topic": await way((api) => {
        api.on("message.publish", ({ topic }) => topic !== "");
      }),
      "message.publish, reads topic and payload": await way((api) => {
        api.on("message.publish", ({ topic, payload }) => topic !== "" && payload.length > 0);
      }),
      "message.publish, changes the topic": await way((api) => {
        api.on("message.publish", (message) => {
          message.topic = message.topic === TOPIC ? `${TOPIC}/new` : TOPIC;
        });
      }),
      "message.delivered, reads nothing": await way((api) => void api.on("message.delivered", () => {})),
    });
    await recorder.compare("a message to the process itself", WINDOW * ROUNDS, {
      "by a connection": await way(() => {}),
      "by api.subscribe": await way((api) => void api.subscribe(TOPIC, ({ payload }) => payload.length), false),
    });
    const { presence } = modules;
    await recorder.compare("CONNECT and DISCONNECT", VISITS, {
      "without presence": await visits({ start: () => {} }),
      "with presence, which nobody listens to": await visits(presence as unknown as PluginDefinition),
    });
  },
};

async function way(start: PluginDefinition["start"], hasSubscriber = true): Promise<Body> {
  const context = await contextWith({ start });
  const { engine } = context;
  const subscriber = openClient({ version: 4, context, clientId: "s" });
  const publisher = openClient({ version: 4, context, clientId: "p" });
  if (hasSubscriber) {
    subscriber.connection.handleData(subscribePacket(TOPIC, 0, 4));
    subscriber.connection.handleData(subscribePacket(`${TOPIC}/new`, 0, 4));
  }
  const sent = Buffer.concat(Array.from({ length: WINDOW }, () => publishPacket(TOPIC, 64, 0, 4)));
  return () => {
    for (let i = 0; i < ROUNDS; i++) publisher.connection.handleData(sent);
    return publisher.link.written + subscriber.link.written + engine.metrics.get("messages.qos0.sent");
  };
}

/** Clients that come and go, each with another id. */
async function visits(plugin: Pick<PluginDefinition, "start" | "config">): Promise<Body> {
  const context = await contextWith(plugin);
  const link = new CountingLink();
  const connects = Array.from({ length: VISITS }, (_, i) => connectPacket(`device-${i}`, 4));
  const disconnect = packet({ cmd: "disconnect" });
  return () => {
    for (const connect of connects) {
      const connection = new Connection(context, link, "bench");
      connection.handleData(connect);
      connection.handleData(disconnect);
    }
    return link.written;
  };
}

async function contextWith(plugin: Pick<PluginDefinition, "start" | "config">): Promise<MqttContext> {
  const engine = makeEngine();
  const silent = (): void => {};
  const host = new PluginHost({
    engine,
    node: "bench@localhost",
    version: "0",
    worker: 0,
    dataDir: join(tmpdir(), "mantou-no-plugin-data"),
    sync: "memory",
    republish: async () => 0,
    setAlarm() {},
    makeProtocol: () => Promise.reject(new Error("none")) as never,
    readFigures: () => Promise.reject(new Error("none")),
    logOf: () => ({ debug: silent, info: silent, warn: silent, error: silent }),
    addBackend: () => silent,
  });
  const definition = { name: "bench", version: "0", description: "listens", ...plugin };
  await host.load(await host.know({ kind: "plugin", from: "bench", options: {}, read: async () => definition }));
  return new MqttContext(engine);
}
