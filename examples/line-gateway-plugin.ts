/**
 * A plugin that is a gateway: clients speak lines over TCP, and are clients of the broker like any other.
 *
 *   > HELLO meter-7 secret          < OK
 *   > SUB meters/7/set              < OK
 *   > PUB meters/7/value 21.5       < OK
 *                                   < MSG meters/7/set 20
 *
 *   plugins: [{ from: ./examples/line-gateway-plugin.ts, options: { port: 7000 } }]
 */
import { definePlugin, type GatewayClient, type PluginApi, z } from "mantou/plugin";
import type { Socket } from "bun";

const LINE_LENGTH_MAX = 4096;

const config = z.strictObject({
  hostname: z.string().default("127.0.0.1"),
  port: z.int().min(0).max(65_535).default(7000),
});

/** One connection: its lines are handled one after the other. */
class Line {
  private client: GatewayClient | undefined;
  private rest = "";
  private last: Promise<void> = Promise.resolve();

  constructor(
    private readonly api: PluginApi<z.output<typeof config>>,
    private readonly socket: Socket<Line | undefined>,
  ) {}

  take(bytes: Buffer): void {
    const lines = (this.rest + bytes.toString()).split(/\r?\n/);
    this.rest = lines.pop()!;
    if (this.rest.length > LINE_LENGTH_MAX) this.socket.end();
    for (const line of lines) this.last = this.last.then(async () => this.say(await this.handle(line)));
  }

  close(): void {
    this.client?.close(4); // 4: its will would be published, had it one
  }

  private async handle(line: string): Promise<string> {
    const [word, name = "", text = ""] = /^(\S+) ?(\S*) ?(.*)$/.exec(line)?.slice(1) ?? [];
    try {
      if (word === "HELLO" && !this.client) {
        this.client = await this.open(name, text);
        return "OK";
      }
      if (word === "PUB" && this.client) return answer(await this.client.publish(name, text, { qos: 1 }));
      if (word === "SUB" && this.client) return answer(await this.client.subscribe(name, 1));
      return "ERR what?";
    } catch (error) {
      return `ERR ${(error as Error).message}`;
    }
  }

  private open(clientId: string, password: string): Promise<GatewayClient> {
    const { remoteAddress: address, remotePort: port } = this.socket;
    return this.api.openClient(
      { clientId, username: clientId, password, address, port },
      {
        message: ({ topic, payload }) => this.say(`MSG ${topic} ${payload.toString().replaceAll(/[\r\n]/g, " ")}`),
        end: () => this.socket.end(),
      },
    );
  }

  private say(line: string): void {
    this.socket.write(`${line}\n`);
  }
}

function answer(reasonCode: number): string {
  return reasonCode < 0x80 ? "OK" : `ERR 0x${reasonCode.toString(16)}`;
}

export default definePlugin({
  name: "line-gateway",
  version: "1.0.0",
  description: "clients that speak lines over TCP",
  config,
  start(api) {
    const server = Bun.listen<Line | undefined>({
      hostname: api.config.hostname,
      port: api.config.port,
      reusePort: true, // several worker processes share it
      socket: {
        open: (socket) => void (socket.data = new Line(api, socket)),
        data: (socket, bytes) => socket.data?.take(bytes),
        close: (socket) => socket.data?.close(),
        error: (_socket, error) => api.log.warn("a connection failed", { reason: error.message }),
      },
    } as Bun.TCPSocketListenOptions<Line | undefined>);
    api.log.info("listening", { port: server.port });
    return () => server.stop(true);
  },
});
