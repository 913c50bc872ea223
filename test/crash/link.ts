/**
 * One connection of a crash client: packets out, packets in, and when it ended. It does nothing by itself.
 *
 * Packets are decoded strictly: whatever is malformed, or not a broker's to send, is given to `onFault`.
 */
import type { Socket } from "bun";
import { decodePacket, frameLength } from "#test/support/packet-decoder.ts";
import { encodePacket, type Packet, type PacketInput, type Version } from "#test/support/packets.ts";

const CLIENTS_ONLY = new Set(["connect", "subscribe", "unsubscribe", "pingreq"]);
const NOTHING = Buffer.alloc(0);

export interface LinkHandlers {
  packet(packet: Packet): void;
  fault(text: string): void;
  /** Once, whoever ended it, unless `cut` did. */
  closed(): void;
}

export class Link {
  isOpen = true;
  #socket!: Socket<undefined>;
  #tail: Buffer = NOTHING;
  #unsent: Buffer[] = [];

  private constructor(
    readonly version: Version,
    private readonly handlers: LinkHandlers,
  ) {}

  /** Rejects when nobody listens. */
  static async open(port: number, version: Version, handlers: LinkHandlers): Promise<Link> {
    const link = new Link(version, handlers);
    link.#socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        data: (_, chunk) => link.#take(chunk),
        drain: () => link.#flush(),
        close: () => link.#end(),
        error: () => link.#end(),
      },
    });
    return link;
  }

  /** What the kernel does not take now follows later. Nothing on a link that is over. */
  send(packet: PacketInput): void {
    if (!this.isOpen) return;
    this.#unsent.push(Buffer.from(encodePacket(packet, this.version)));
    if (this.#unsent.length === 1) this.#flush();
  }

  /** Ends the link at once, with what was on its way; `closed` is not called. */
  cut(): void {
    this.isOpen = false;
    this.#socket.terminate();
  }

  #end(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.handlers.closed();
  }

  #flush(): void {
    while (this.isOpen && this.#unsent.length > 0) {
      const bytes = this.#unsent[0];
      const takenBytes = Math.max(0, this.#socket.write(bytes));
      if (takenBytes < bytes.length) {
        this.#unsent[0] = bytes.subarray(takenBytes);
        return;
      }
      this.#unsent.shift();
    }
  }

  #take(chunk: Buffer): void {
    const bytes = this.#tail.length === 0 ? chunk : Buffer.concat([this.#tail, chunk]);
    let start = 0;
    while (this.isOpen) {
      const packet = this.#decode(bytes.subarray(start));
      if (packet === undefined) break;
      start += packet.bytes;
      if (packet.value !== undefined) this.handlers.packet(packet.value);
    }
    this.#tail = bytes.subarray(start);
  }

  #decode(bytes: Buffer): { value: Packet | undefined; bytes: number } | undefined {
    let length: number | undefined;
    try {
      length = frameLength(bytes);
      if (length === undefined) return undefined;
      const value = decodePacket(bytes.subarray(0, length), this.version);
      if (CLIENTS_ONLY.has(value.type)) throw new Error(`a broker must not send ${value.type}`);
      return { value, bytes: length };
    } catch (error) {
      this.handlers.fault((error as Error).message);
      return { value: undefined, bytes: length ?? bytes.length };
    }
  }
}
