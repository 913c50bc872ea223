/** How many there are now of what a broker holds, and the most there were when somebody looked: once a second. */
import type { Engine } from "#core/engine.ts";
import type { MqttContext } from "#mqtt/context.ts";
import type { TcpTransport } from "#transport/tcp.ts";

export const gaugeNames = [
  "connections",
  "sessions",
  "subscribers",
  "subscriptions",
  "topics",
  "shareGroups",
  "retained",
  "messages",
  "messageBytes",
  "unsentBytes",
] as const;

/** What all processes of a broker have in common. */
export const sharedGauges: ReadonlySet<GaugeName> = new Set(["topics", "retained"]);

export type GaugeName = (typeof gaugeNames)[number];

export class Gauges {
  private readonly most = Object.fromEntries(gaugeNames.map((name) => [name, 0])) as Record<GaugeName, number>;

  constructor(
    private readonly engine: Engine,
    private readonly context: MqttContext,
    private readonly transport: TcpTransport,
  ) {}

  /** Notes what is more than ever before. */
  tick(): void {
    for (const name of gaugeNames) this.most[name] = Math.max(this.most[name], this.valueOf(name));
  }

  read(): Record<GaugeName, { value: number; max: number }> {
    this.tick();
    const rows = gaugeNames.map((name) => [name, { value: this.valueOf(name), max: this.most[name] }]);
    return Object.fromEntries(rows) as Record<GaugeName, { value: number; max: number }>;
  }

  private valueOf(name: GaugeName): number {
    const { engine, context, transport } = this;
    switch (name) {
      case "connections":
        return context.connectionCount;
      case "sessions":
        return engine.sessions.count - engine.router.peers.length; // other processes, a session each
      case "subscribers":
        return engine.sessions.subscriberCount;
      case "subscriptions":
        return engine.index.subscriptionCount - engine.index.peerCount;
      case "topics":
        return engine.index.filterCount;
      case "shareGroups":
        return engine.groups.count;
      case "retained":
        return engine.retainedIndex.count;
      case "messages":
        return engine.messages.count;
      case "messageBytes":
        return engine.messages.bodyBytes;
      case "unsentBytes":
        return transport.buffers.lentBytes;
    }
  }
}
