/** MQTT.js as a peer whose messages are awaited one by one, in the order in which they came. */
import mqtt, { type IClientOptions, type IConnackPacket, type IPublishPacket, type MqttClient } from "mqtt";
import { Inbox } from "./inbox.ts";
import type { Version } from "./pass-table.ts";

const levels = { "3.1": 3, "3.1.1": 4, "5.0": 5 } as const;

export type Qos = 0 | 1 | 2;

export interface Received {
  readonly topic: string;
  readonly payload: string;
  readonly qos: number;
  readonly retain: boolean;
  readonly properties: NonNullable<IPublishPacket["properties"]>;
  readonly bytes: Buffer;
}

export class Peer implements AsyncDisposable {
  readonly client: MqttClient;
  readonly inbox = new Inbox<Received>();
  /** Of the first connection. */
  connack!: IConnackPacket;

  private constructor(client: MqttClient) {
    this.client = client;
    client.on("message", (topic, bytes, { qos, retain, properties }) => {
      const payload = bytes.toString();
      this.inbox.push({ topic, payload, qos, retain, properties: { ...properties }, bytes });
    });
    // A refused connection is what `connect` throws; later errors show as what does not arrive.
    client.on("error", () => {});
  }

  /** Without reconnecting, unless `options` ask for it. Throws when the broker refuses. */
  static async connect(url: string, version: Version, options: IClientOptions = {}): Promise<Peer> {
    const client = mqtt.connect(url, {
      protocolVersion: levels[version],
      protocolId: version === "3.1" ? "MQIsdp" : "MQTT",
      reconnectPeriod: 0,
      connectTimeout: 5000,
      ...options,
    });
    const peer = new Peer(client);
    const connack = Promise.withResolvers<IConnackPacket>();
    client.once("connect", connack.resolve);
    client.once("error", connack.reject);
    client.once("close", () => connack.reject(new Error("closed before CONNACK")));
    peer.connack = await connack.promise;
    return peer;
  }

  async subscribe(filter: string, qos: Qos): Promise<void> {
    const [grant] = await this.client.subscribeAsync(filter, { qos });
    if (grant?.qos !== qos) throw new Error(`asked ${filter} with QoS ${qos}, was granted ${grant?.qos}`);
  }

  /** Resolves when the flow of its QoS has ended. */
  async publish(topic: string, payload: string | Buffer, options: mqtt.IClientPublishOptions = {}): Promise<void> {
    await this.client.publishAsync(topic, payload, options);
  }

  next(): Promise<Received> {
    return this.inbox.next();
  }

  event(name: "close" | "connect"): Promise<void> {
    return new Promise((resolve) => this.client.once(name, () => resolve()));
  }

  /** Sends DISCONNECT and closes. */
  async end(): Promise<void> {
    await this.client.endAsync();
  }

  /** Closes the socket without a DISCONNECT. */
  async cut(): Promise<void> {
    const closed = this.event("close");
    this.client.stream.destroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.endAsync(true);
  }
}
