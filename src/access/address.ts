/**
 * Addresses and address ranges (CIDR) of IPv4 and IPv6. An IPv4 address in IPv6 clothes (`::ffff:10.0.0.1`, as a
 * dual-stack listener shows it) is the IPv4 address. A zone (`%eth0`) is no part of an address.
 *
 *   bytes: 16, IPv4 in the last four after ten of 0 and two of 0xff; a prefix of an IPv4 range counts 96 more bits
 */
import { isIP } from "node:net";

export interface AddressRange {
  readonly bytes: Uint8Array;
  /** 0 to 128. */
  readonly prefixBits: number;
  /** As written. */
  readonly text: string;
}

/** 16 bytes; undefined when the text is no IP address (a Unix socket's peer has none). */
export function parseAddress(text: string): Uint8Array | undefined {
  const bare = text.replace(/%.*$/, "");
  const kind = isIP(bare);
  if (kind === 0) return undefined;
  const bytes = new Uint8Array(16);
  if (kind === 4) {
    bytes[10] = bytes[11] = 0xff;
    bytes.set(bare.split(".").map(Number), 12);
    return bytes;
  }
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(bare);
  const hex = dotted ? dotted[1] + hexOfDotted(dotted[2]) : bare;
  const [head = "", tail] = hex.split("::");
  const groups = (part: string | undefined): number[] =>
    part === undefined || part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16));
  const first = groups(head);
  const last = groups(tail);
  const all = [...first, ...Array<number>(8 - first.length - last.length).fill(0), ...last];
  all.forEach((group, i) => {
    bytes[2 * i] = group >> 8;
    bytes[2 * i + 1] = group & 0xff;
  });
  return bytes;
}

function hexOfDotted(dotted: string): string {
  const [a, b, c, d] = dotted.split(".").map(Number);
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

/** `10.0.0.0/8`, `::1`, `2001:db8::/32`; a single address is a range of one. Undefined when it is none. */
export function parseRange(text: string): AddressRange | undefined {
  const [, address = "", prefix] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text.trim()) ?? [];
  const bytes = parseAddress(address);
  if (!bytes) return undefined;
  const own = isIP(address) === 4 ? 32 : 128;
  const length = prefix === undefined ? own : Number(prefix);
  return length > own ? undefined : { bytes, prefixBits: length + 128 - own, text: text.trim() };
}

/** Of texts that the configuration's schema has checked. */
export function rangesOf(texts: readonly string[]): AddressRange[] {
  return texts.map((text) => parseRange(text)!);
}

/** True when the address lies in the range; false for what is no address. */
export function isInRange(address: string, range: AddressRange): boolean {
  const bytes = parseAddress(address);
  return bytes !== undefined && hasPrefix(bytes, range);
}

export function hasPrefix(bytes: Uint8Array, range: AddressRange): boolean {
  const whole = range.prefixBits >> 3;
  for (let i = 0; i < whole; i++) if (bytes[i] !== range.bytes[i]) return false;
  const rest = range.prefixBits & 7;
  return rest === 0 || (bytes[whole] ^ range.bytes[whole]) >> (8 - rest) === 0;
}

/** What brute force is counted by: the IPv4 address, or the /64 of an IPv6 one, which is what one customer has. */
export function networkOf(address: string): string | undefined {
  const bytes = parseAddress(address);
  if (!bytes) return undefined;
  const isIpv4 = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return Buffer.from(isIpv4 ? bytes.subarray(12) : bytes.subarray(0, 8)).toString("hex");
}
