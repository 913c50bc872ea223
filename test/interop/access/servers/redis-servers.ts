/** Redis as Debian has it: alone, over TLS, as one of a cluster, and the sentinel that watches it. Password `server pw`. */
import { join } from "node:path";
import { Redis } from "ioredis";
import { certify } from "./certificate.ts";
import type { ServerProgram } from "./database-server.ts";

export const REDIS_PASSWORD = "server pw";

const SETTINGS = ["--bind 127.0.0.1", "--appendonly yes", "--appendfsync no"];

function redisProgram(options: readonly string[], tls = false): ServerProgram {
  return {
    name: "Redis",
    program: "/usr/bin/redis-server",
    refusesRoot: false,
    prepare: (folder, run) => certify(folder, run),
    command(folder, port) {
      const certificate = join(folder, "cert.pem");
      const listening = tls
        ? ["--port 0", `--tls-port ${port}`, "--tls-auth-clients no", `--tls-ca-cert-file ${certificate}`]
        : [`--port ${port}`];
      const keys = [`--tls-cert-file ${certificate}`, `--tls-key-file ${join(folder, "key.pem")}`];
      const settings = [...listening, ...(tls ? keys : []), ...SETTINGS, `--dir ${folder}`, ...options];
      const passwords = ["--save", "", "--requirepass", REDIS_PASSWORD, "--masterauth", REDIS_PASSWORD];
      return ["/usr/bin/redis-server", ...settings.flatMap((setting) => setting.split(" ")), ...passwords];
    },
    ping: (port) => redisCommand(port, ["PING"], { isTls: tls }).then(() => {}),
  };
}

export const redisServer = redisProgram([]);
export const redisTlsServer = redisProgram([], true);

/** `busPort` must be free; slots are given out by `makeCluster`. */
export const redisNode = (busPort: number): ServerProgram =>
  redisProgram(["--cluster-enabled yes", `--cluster-port ${busPort}`, "--cluster-node-timeout 2000"]);

/** Watches the master on `masterPort` under the name `access`. */
export const redisSentinel = (masterPort: number): ServerProgram => ({
  name: "Redis Sentinel",
  program: "/usr/bin/redis-server",
  refusesRoot: false,
  async prepare(folder, run) {
    const lines = [
      "bind 127.0.0.1",
      `dir ${folder}`,
      `sentinel monitor access 127.0.0.1 ${masterPort} 1`,
      `sentinel auth-pass access "${REDIS_PASSWORD}"`,
      "sentinel down-after-milliseconds access 1000",
      "sentinel failover-timeout access 3000",
    ];
    await run(["tee", join(folder, "sentinel.conf")], `${lines.join("\n")}\n`);
  },
  command: (folder, port) => [
    "/usr/bin/redis-server",
    join(folder, "sentinel.conf"),
    "--sentinel",
    "--port",
    `${port}`,
  ],
  ping: (port) => redisCommand(port, ["PING"], { hasPassword: false }).then(() => {}),
});

/** For the tests' own commands: a connection each. */
export async function redisCommand(
  port: number,
  words: readonly string[],
  { isTls = false, hasPassword = true } = {},
): Promise<unknown> {
  const client = new Redis({
    host: "127.0.0.1",
    port,
    ...(hasPassword && { password: REDIS_PASSWORD }),
    ...(isTls && { tls: { rejectUnauthorized: false } }),
    lazyConnect: true,
    retryStrategy: null,
    enableReadyCheck: false,
    connectTimeout: 2000,
    socketTimeout: 2000,
    protocol: 2,
    disableClientInfo: true,
  });
  client.on("error", () => {});
  try {
    await client.connect();
    return await client.call(words[0], ...words.slice(1));
  } finally {
    client.disconnect();
  }
}

/** Nodes that answer become one cluster; each gets its share of the slots. */
export async function makeCluster(
  nodes: readonly { readonly port: number; readonly busPort: number }[],
): Promise<void> {
  const share = Math.ceil(16384 / nodes.length);
  for (const [at, { port }] of nodes.entries()) {
    const last = Math.min((at + 1) * share, 16384) - 1;
    await redisCommand(port, ["CLUSTER", "ADDSLOTSRANGE", `${at * share}`, `${last}`]);
    await redisCommand(port, ["CLUSTER", "SET-CONFIG-EPOCH", `${at + 1}`]);
  }
  for (const { port, busPort } of nodes.slice(1))
    await redisCommand(nodes[0].port, ["CLUSTER", "MEET", "127.0.0.1", `${port}`, `${busPort}`]);
  await Promise.all(nodes.map(({ port }) => untilWhole(port)));
}

async function untilWhole(port: number): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const info = String(await redisCommand(port, ["CLUSTER", "INFO"]).catch(String));
    if (info.includes("cluster_state:ok")) return;
    if (performance.now() > deadlineMs) throw new Error(`the cluster does not form: ${info}`);
    await Bun.sleep(50);
  }
}
