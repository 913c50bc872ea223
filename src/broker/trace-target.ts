/** Whom or what a trace follows: a client id, a topic filter, or an address. */
import { MantouError } from "#base/error.ts";
import { isCovered, isShared, isTopicFilter, parseShared } from "#core/topic.ts";
import { type AddressBlock, parseAddressBlock } from "#transport/address-rules.ts";

export type TraceKind = "client" | "topic" | "address";

const CLIENT_BYTES_MAX = 65_535;
const topicLimits = { topicBytesMax: 65_535, topicLevelsMax: 65_535 };

export class TraceTarget {
  private readonly filter: Buffer | undefined;
  private readonly block: AddressBlock | undefined;

  /** Throws MantouError `trace_invalid`. */
  constructor(
    readonly kind: TraceKind,
    readonly value: string,
  ) {
    if (kind === "topic") {
      this.filter = Buffer.from(value);
      const isFilter = !isShared(this.filter) && isTopicFilter(this.filter, 0, this.filter.length, topicLimits);
      if (!isFilter) throw invalid("topic", value, "a topic filter, such as a/#, without share name");
    } else if (kind === "address") {
      this.block = value === "all" ? undefined : parseAddressBlock(value);
      if (!this.block) throw invalid("address", value, "an address or a CIDR block, such as 192.0.2.0/24");
    } else if (value === "" || Buffer.byteLength(value) > CLIENT_BYTES_MAX) {
      throw invalid("client", value, "a client id");
    }
  }

  isOf(kind: TraceKind, value: string): boolean {
    return this.kind === kind && this.value === value;
  }

  /** Everything of this client is wanted. */
  hasClient(clientId: string, address: string): boolean {
    if (this.kind === "client") return this.value === clientId;
    return this.block !== undefined && this.block.has(address);
  }

  /** What concerns this topic is wanted, whoever has to do with it. */
  hasTopic(bytes: Buffer, start: number, end: number): boolean {
    return this.filter !== undefined && isCovered(this.filter, bytes, start, end);
  }

  /** A filter of a SUBSCRIBE, which is looked at as if it were a topic. */
  hasFilter(text: string): boolean {
    const given = Buffer.from(text);
    const filter = isShared(given) ? (parseShared(given)?.filter ?? given) : given;
    return this.hasTopic(filter, 0, filter.length);
  }
}

export function invalid(what: string, found: unknown, allowed: string): MantouError {
  return new MantouError("trace_invalid", `trace: ${what}: found ${JSON.stringify(found)}, allowed: ${allowed}`, {
    what,
  });
}
