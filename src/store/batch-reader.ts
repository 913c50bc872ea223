/** Reads a batch item by item (log-backend.ts). Its fields hold the item at hand and are reused. */
import { ByteReader } from "#base/byte-writer.ts";
import { BODY, COLLECT, DROP_PAGE, OPS, PAGE, REMOVE, RETAINED, SNAPSHOT, TRIM } from "./log-backend.ts";

const NOTHING = Buffer.alloc(0);

export class BatchReader {
  kind = 0;
  /** BODY: its id; TRIM: the batch; COLLECT: the floor. */
  number = 0;
  session = 0;
  page = 0;
  /** Of a SNAPSHOT: META or QUEUE. */
  part = 0;
  topic: Buffer = NOTHING;
  /** A view into the batch. */
  bytes: Buffer = NOTHING;
  private readonly from: ByteReader;

  constructor(batch: Uint8Array) {
    this.from = new ByteReader(Buffer.from(batch.buffer, batch.byteOffset, batch.length));
  }

  /** Moves to the next item; false at the end. Throws RangeError when the bytes are no batch. */
  next(): boolean {
    const { from } = this;
    if (from.isAtEnd) return false;
    this.kind = from.u8();
    switch (this.kind) {
      case BODY:
        this.number = from.u48();
        break;
      case SNAPSHOT:
        this.session = from.u48();
        this.part = from.u8();
        break;
      case REMOVE:
        this.session = from.u48();
        return true;
      case PAGE:
      case DROP_PAGE:
        this.session = from.u48();
        this.page = from.u32();
        if (this.kind === DROP_PAGE) return true;
        break;
      case RETAINED: {
        const topicLength = from.u16();
        const length = from.u32();
        this.topic = from.bytes(topicLength);
        this.bytes = from.bytes(length);
        return true;
      }
      case OPS:
        break;
      case TRIM:
      case COLLECT:
        this.number = from.u48();
        return true;
      default:
        throw new RangeError(`kind ${this.kind} is no item of a batch`);
    }
    this.bytes = from.bytes(from.u32());
    return true;
  }
}
