/** MQTT 5.0 over a WebSocket, for one person at a page: no reconnecting, no queue; what is refused is told. */
import {
  ackPacket,
  type ConnectWish,
  connectPacket,
  decode,
  disconnectPacket,
  type Outgoing,
  type Packet,
  pingPacket,
  publishPacket,
  subscribePacket,
  unsubscribePacket,
} from "./mqtt-packet.ts";

interface Incoming {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: number;
  readonly isRetained: boolean;
}

export interface ClientEvents {
  onMessage(message: Incoming): void;
  /** `code` is a reason code of MQTT 5.0, or undefined when the connection broke. */
  onEnd(code: number | undefined): void;
}

/** A reason code of 128 or more: the broker said no. */
export class Refused extends Error {
  constructor(readonly code: number | undefined) {
    super(`refused: ${code}`);
  }
}

const CONNECT_MS = 10_000;

export class MqttClient {
  clientId = "";
  private socket: WebSocket | undefined;
  private waiting = new Map<number, { resolve(codes: readonly number[]): void; reject(error: Refused): void }>();
  /** QoS 2 messages that were handed on and whose PUBREL has not come. */
  private received = new Set<number>();
  private lastId = 0;
  private rest: Uint8Array = new Uint8Array();
  private pinging: ReturnType<typeof setInterval> | undefined;
  private isOpen = false;

  constructor(private readonly events: ClientEvents) {}

  /** Rejects with Refused. */
  async connect(url: string, wish: ConnectWish): Promise<void> {
    const socket = new WebSocket(url, "mqtt");
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.clientId = wish.clientId;
    const timer = setTimeout(() => socket.close(), CONNECT_MS);
    try {
      await new Promise<void>((resolve, reject) => {
        this.waiting.set(0, { resolve: () => resolve(), reject });
        socket.addEventListener("open", () => socket.send(connectPacket(wish) as BufferSource));
        socket.addEventListener("message", ({ data }: MessageEvent<ArrayBuffer>) => this.take(new Uint8Array(data)));
        socket.addEventListener("close", () => this.end(undefined));
      });
    } finally {
      clearTimeout(timer);
    }
    this.isOpen = true;
    this.pinging = setInterval(() => this.send(pingPacket), wish.keepAliveSec * 750);
  }

  /** Resolves with the granted QoS. Rejects with Refused. */
  async subscribe(filter: string, qos: number): Promise<number> {
    const [code = 0x80] = await this.request((id) => subscribePacket(id, filter, qos));
    if (code >= 0x80) throw new Refused(code);
    return code;
  }

  async unsubscribe(filter: string): Promise<void> {
    await this.request((id) => unsubscribePacket(id, filter));
  }

  /** Resolves when the broker has it, at QoS 0 at once. Rejects with Refused. */
  async publish(message: Outgoing): Promise<void> {
    if (message.qos === 0) return this.send(publishPacket(0, message));
    const [code = 0] = await this.request((id) => publishPacket(id, message));
    if (code >= 0x80) throw new Refused(code);
  }

  disconnect(): void {
    if (this.isOpen) this.send(disconnectPacket);
    this.end(0);
  }

  private request(packetOf: (packetId: number) => Uint8Array): Promise<readonly number[]> {
    do this.lastId = (this.lastId % 65_535) + 1;
    while (this.waiting.has(this.lastId));
    const id = this.lastId;
    const packet = packetOf(id);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.send(packet);
    });
  }

  private send(packet: Uint8Array): void {
    this.socket?.send(packet as BufferSource);
  }

  private take(chunk: Uint8Array): void {
    const bytes = new Uint8Array(this.rest.length + chunk.length);
    bytes.set(this.rest);
    bytes.set(chunk, this.rest.length);
    try {
      const { packets, rest } = decode(bytes);
      this.rest = rest;
      for (const packet of packets) this.handle(packet);
    } catch {
      this.end(undefined);
    }
  }

  private handle(packet: Packet): void {
    switch (packet.type) {
      case "connack":
        this.clientId = packet.clientId ?? this.clientId;
        return packet.code === 0 ? this.settle(0, []) : this.end(packet.code);
      case "publish":
        return this.handlePublish(packet);
      case "pubrec":
        if (packet.code >= 0x80) return this.settle(packet.packetId, [packet.code]);
        return this.send(ackPacket("pubrel", packet.packetId));
      case "pubrel":
        this.received.delete(packet.packetId);
        return this.send(ackPacket("pubcomp", packet.packetId));
      case "puback":
      case "pubcomp":
        return this.settle(packet.packetId, [packet.code]);
      case "suback":
      case "unsuback":
        return this.settle(packet.packetId, packet.codes);
      case "disconnect":
        return this.end(packet.code);
      case "pingresp":
    }
  }

  private handlePublish(packet: Extract<Packet, { type: "publish" }>): void {
    const { qos, packetId } = packet;
    const isRepeated = qos === 2 && this.received.has(packetId);
    if (qos === 1) this.send(ackPacket("puback", packetId));
    if (qos === 2) {
      this.received.add(packetId);
      this.send(ackPacket("pubrec", packetId));
    }
    if (!isRepeated) this.events.onMessage(packet);
  }

  private settle(packetId: number, codes: readonly number[]): void {
    this.waiting.get(packetId)?.resolve(codes);
    this.waiting.delete(packetId);
  }

  private end(code: number | undefined): void {
    const { socket } = this;
    if (!socket) return;
    this.socket = undefined;
    clearInterval(this.pinging);
    socket.close();
    for (const { reject } of this.waiting.values()) reject(new Refused(code));
    this.waiting.clear();
    if (this.isOpen) this.events.onEnd(code);
    this.isOpen = false;
  }
}
