/** What `mantou plugin new` writes: the counterpart of emqttd_plugin_template. `NAME` becomes the plugin's name. */

const PLUGIN = `import { definePlugin, z } from "mantou/plugin";

export default definePlugin({
  name: "NAME",
  version: "0.1.0",
  description: "what it does, in a line",
  config: z.strictObject({
    topic: z.string().default("NAME/hello").describe("where newcomers are greeted"),
  }),
  start(api) {
    const greeted = api.counter("greeted_total", "Clients that were greeted");

    // Watch: who comes is greeted.
    api.on("client.connected", ({ clientId }) => {
      api.publish(api.config.topic, \`hello \${clientId}\`);
      greeted.add();
    });

    // Change or stop: answering false stops a message.
    api.on("message.publish", (message) => message.topic !== "NAME/forbidden");

    // Ask it on the command line: mantou ctl NAME
    let count = 0;
    api.subscribe(api.config.topic, () => count++);
    api.command({ name: "NAME", usage: "", description: "how many greetings there were", run: () => ({ count }) });

    api.log.info("here");
    return () => api.log.info("gone");
  },
});
`;

const TEST = `import { afterAll, beforeAll, expect, test } from "bun:test";
import { Broker } from "mantou";

let broker: Broker;

beforeAll(async () => {
  broker = await Broker.start({
    listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:0" }],
    plugins: [{ from: import.meta.dir, options: { topic: "greetings" } }],
  });
});

afterAll(() => broker.close());

test("a message to the forbidden topic is stopped, others are not", () => {
  const heard: string[] = [];
  const off = broker.subscribe("#", ({ topic }) => heard.push(topic));
  broker.publish("NAME/forbidden", "x");
  broker.publish("NAME/allowed", "x");
  off();
  expect(heard).toEqual(["NAME/allowed"]);
});

test("who comes is greeted", async () => {
  const greeting = new Promise<string>((resolve) => {
    broker.subscribe("greetings", ({ payload }) => resolve(payload.toString()));
  });
  const { hostname, port } = new URL(broker.addresses[0]!);
  const socket = await Bun.connect({ hostname, port: Number(port), socket: { data() {} } });
  socket.write(Buffer.from("100d00044d51545404020000000163", "hex")); // CONNECT of client c
  expect(await greeting).toBe("hello c");
  socket.end();
});
`;

const README = `# NAME

A plugin of [mantou](https://www.npmjs.com/package/mantou), the MQTT broker.

\`\`\`sh
bun install
bun test
\`\`\`

Load it, in \`mantou.yaml\`:

\`\`\`yaml
plugins:
  - from: ./NAME # this folder, seen from where the broker runs
    options: { topic: NAME/hello }
\`\`\`

and while the broker runs, after a change: \`mantou ctl plugins reload NAME\`. What a plugin has and may do is in mantou's docs/plugins.md,
\`node_modules/mantou/docs/plugins.md\` once it is installed.
`;

/** The files of a new plugin by their names. `mantou` is where the package comes from, as package.json says it. */
export function pluginFiles(name: string, mantou: string): Readonly<Record<string, string>> {
  const manifest = {
    name,
    version: "0.1.0",
    type: "module",
    main: "index.ts",
    devDependencies: { "@types/bun": Bun.version, mantou },
  };
  const compilerOptions = {
    strict: true,
    target: "esnext",
    lib: ["esnext"],
    module: "preserve",
    types: ["bun"],
    skipLibCheck: true,
    noEmit: true,
    // A checkout has no declarations: the compiler reads the sources, which need the rules they are written by.
    ...(mantou.startsWith("file:") && { allowImportingTsExtensions: true, exactOptionalPropertyTypes: true }),
  };
  const named = (text: string): string => text.replaceAll("NAME", name);
  return {
    "package.json": `${JSON.stringify(manifest, null, 2)}\n`,
    "tsconfig.json": `${JSON.stringify({ compilerOptions }, null, 2)}\n`,
    "index.ts": named(PLUGIN),
    "index.test.ts": named(TEST),
    "README.md": named(README),
    ".gitignore": "node_modules\n",
  };
}
