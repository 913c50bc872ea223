/**
 * A client whose flow the test rules: it stops and goes on reading, counts its reads, keeps half of a connection open, and
 * takes megabytes without copying them again for each packet. For anything else `RawClient` is the better one.
 */
import type { Socket } from "bun";
import { decodePacket, frameLength } from "#test/support/packet-decoder.ts";
import { encodePacket, type Packet, type PacketInput, type PacketOf, type Version } from "#test/support/packets.ts";

export interface FlowOptions {
  readonly host?: string;
  readonly version?: Version;
  /** Does not close its own side when the broker has closed. */
  readonly isHalfOpen?: boolean;
  /** Does not look at what comes: for what is no MQTT. */
  readonly isDeaf?: boolean;
}

const WAIT_MS = 10_000;

export class FlowClient {
  readonly packets: Packet[] = [];
  readCount = 0;
  isClosed = false;
  /** The broker has closed its side. */
  isEnded = false;
  /** Acknowledge each QoS 1 PUBLISH that comes. */
  autoAck = false;
  private tail: Buffer = Buffer.alloc(0);
  private unsent: Buffer[] = [];
  private failure: Error | undefined;
  private socket!: Socket<undefined>;
  private readonly watchers = new Set<() => void>();

  private constructor(private readonly version: Version) {}

  static async open(port: number, options: FlowOptions = {}): Promise<FlowClient> {
    const { host = "127.0.0.1", version = 4, isHalfOpen = false, isDeaf = false } = options;
    const client = new FlowClient(version);
    client.socket = await Bun.connect({
      hostname: host,
      port,
      allowHalfOpen: isHalfOpen,
      socket: {
        data: (_, chunk) => (isDeaf ? undefined : client.receive(chunk)),
        drain: () => client.write(),
        end: () => client.note(() => (client.isEnded = true)),
        close: () => client.note(() => (client.isClosed = client.isEnded = true)),
        error: (_, error) => client.note(() => (client.failure = error)),
      },
    });
    return client;
  }

  /** Opened and accepted. */
  static async connect(port: number, options: FlowOptions & { clientId: string }): Promise<FlowClient> {
    const client = await FlowClient.open(port, options);
    client.send({ type: "connect", clientId: options.clientId });
    await client.until(() => client.packets.length > 0 || client.isClosed);
    const [connack] = client.packets.splice(0);
    if (connack === undefined) throw new Error("closed without CONNACK");
    if (connack.type !== "connack" || connack.reasonCode !== 0) throw new Error(`not accepted: ${connack.type}`);
    return client;
  }

  get fd(): number {
    return (this.socket as unknown as { fd: number }).fd;
  }

  async subscribe(filter: string, qos: number): Promise<void> {
    this.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter, qos }] });
    await this.until(() => this.packets.some(({ type }) => type === "suback"));
    this.packets.length = 0;
  }

  /** Bytes that the kernel does not take wait here. */
  send(packet: PacketInput | Uint8Array): void {
    this.unsent.push(Buffer.from(packet instanceof Uint8Array ? packet : encodePacket(packet, this.version)));
    if (this.unsent.length === 1) this.write();
  }

  /** Everything is with the kernel. */
  async sent(timeoutMs?: number): Promise<void> {
    await this.until(() => this.unsent.length === 0, timeoutMs);
  }

  publishes(): PacketOf<"publish">[] {
    return this.packets.filter((packet) => packet.type === "publish");
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  /** FIN: this side has nothing more to say. */
  endWriting(): void {
    this.socket.shutdown();
  }

  kill(): void {
    this.socket.terminate();
  }

  [Symbol.dispose](): void {
    this.kill();
  }

  /** Resolves when the condition holds; it is looked at again at each event of this client, and now and then. */
  until(condition: () => boolean, timeoutMs: number = WAIT_MS): Promise<void> {
    const failure = new Error(); // its stack names the test's line
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const look = (): void => {
      if (this.failure !== undefined) reject(this.failure);
      else if (condition()) resolve();
    };
    const often = setInterval(look, 20);
    const timer = setTimeout(() => {
      failure.message = `not within ${timeoutMs} ms: ${condition}; ${this.packets.length} packets, closed: ${this.isClosed}`;
      reject(failure);
    }, timeoutMs);
    this.watchers.add(look);
    look();
    return promise.finally(() => {
      clearTimeout(timer);
      clearInterval(often);
      this.watchers.delete(look);
    });
  }

  private receive(chunk: Buffer): void {
    this.readCount++;
    const bytes = this.tail.length === 0 ? chunk : Buffer.concat([this.tail, chunk]);
    let start = 0;
    for (;;) {
      const length = frameLength(bytes.subarray(start));
      if (length === undefined) break;
      this.take(decodePacket(bytes.subarray(start, start + length), this.version));
      start += length;
    }
    this.tail = bytes.subarray(start);
    this.note(() => {});
  }

  private take(packet: Packet): void {
    this.packets.push(packet);
    if (this.autoAck && packet.type === "publish" && packet.qos === 1) {
      this.send({ type: "puback", packetId: packet.packetId! });
    }
  }

  private note(change: () => void): void {
    change();
    for (const look of this.watchers) look();
  }

  private write(): void {
    while (this.unsent.length > 0) {
      const bytes = this.unsent[0];
      const taken = Math.max(0, this.socket.write(bytes));
      if (taken < bytes.length) {
        this.unsent[0] = bytes.subarray(taken);
        return;
      }
      this.unsent.shift();
    }
    this.note(() => {});
  }
}

/** Polls what no event tells of. */
export async function eventually(condition: () => boolean, timeoutMs: number = WAIT_MS): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${timeoutMs} ms: ${condition}`);
    await Bun.sleep(5);
  }
}
