/**
 * Reads the fields of a packet in order. A fault makes every later read yield nothing and is kept in `fault`, so a decoder
 * reads straight on and checks once. Byte fields are views of the packet: copy what is kept.
 */
import { isMqttUtf8 } from "#base/bytes.ts";
import { MALFORMED_PACKET } from "./reason-code.ts";

const none = Buffer.alloc(0);

export class Reader {
  /** Reason code of the first fault, or 0. */
  fault = 0;

  constructor(
    readonly bytes: Buffer,
    public at: number,
    readonly end: number,
  ) {}

  get left(): number {
    return this.end - this.at;
  }

  fail(reasonCode: number): void {
    if (this.fault === 0) this.fault = reasonCode;
    this.at = this.end;
  }

  byte(): number {
    return this.has(1) ? this.bytes[this.at++] : 0;
  }

  uint16(): number {
    if (!this.has(2)) return 0;
    this.at += 2;
    return (this.bytes[this.at - 2] << 8) | this.bytes[this.at - 1];
  }

  uint32(): number {
    return this.has(4) ? this.bytes.readUInt32BE((this.at += 4) - 4) : 0;
  }

  varint(): number {
    let value = 0;
    for (let i = 0; i < 4; i++) {
      const byte = this.byte();
      value |= (byte & 0x7f) << (7 * i);
      if (byte >= 0x80) continue;
      if (i > 0 && byte === 0) this.fail(MALFORMED_PACKET); // [MQTT-1.5.5-1]
      return value;
    }
    this.fail(MALFORMED_PACKET);
    return 0;
  }

  /** Binary Data: two bytes of length, then the bytes. */
  binary(): Buffer {
    const length = this.uint16();
    if (!this.has(length)) return none;
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  /** UTF-8 Encoded String, checked. [MQTT-1.5.4-1] [MQTT-1.5.4-2] */
  utf8(): Buffer {
    const bytes = this.binary();
    if (isMqttUtf8(bytes, 0, bytes.length)) return bytes;
    this.fail(MALFORMED_PACKET);
    return none;
  }

  text(): string {
    return this.utf8().toString("utf8");
  }

  private has(count: number): boolean {
    if (this.at + count <= this.end) return true;
    this.fail(MALFORMED_PACKET);
    return false;
  }
}
