/**
 * The list of `--ifaddr`: addresses, ranges and networks of IPv4, separated by commas.
 *
 *   127.0.0.2,127.0.1.1-127.0.1.40,127.0.8.0/29
 *
 * One source address gives about 28,000 ports towards one listener (net.ipv4.ip_local_port_range), so more connections
 * need more addresses. On Linux all of 127.0.0.0/8 is local without configuration.
 */

const ADDRESSES_MAX = 65_536;

/** Throws RangeError for a list that cannot be read. */
export function parseSources(list: string): string[] {
  const sources: string[] = [];
  for (const part of list.split(",")) {
    const [first, last] = rangeOf(part.trim());
    if (last < first) throw new RangeError(`${part}: the range ends before it starts`);
    if (sources.length + last - first >= ADDRESSES_MAX)
      throw new RangeError(`${list}: more than ${ADDRESSES_MAX} addresses`);
    for (let n = first; n <= last; n++) sources.push(textOf(n));
  }
  return sources;
}

function rangeOf(part: string): [first: number, last: number] {
  const [address = "", bits, ...more] = part.split("/");
  if (bits !== undefined) {
    if (more.length > 0 || !/^\d{1,2}$/.test(bits) || Number(bits) < 8 || Number(bits) > 32)
      throw new RangeError(`${part}: a network is written as 127.0.8.0/29, with 8 to 32 bits`);
    const size = 2 ** (32 - Number(bits));
    const base = Math.floor(numberOf(address, part) / size) * size;
    // The network's and the broadcast address are left out where there are any.
    return size > 2 ? [base + 1, base + size - 2] : [base, base + size - 1];
  }
  const [from = "", to, ...rest] = part.split("-");
  if (rest.length > 0) throw new RangeError(`${part}: a range is written as 127.0.1.1-127.0.1.40`);
  const first = numberOf(from, part);
  return [first, to === undefined ? first : numberOf(to, part)];
}

function numberOf(address: string, part: string): number {
  const bytes = address.split(".");
  if (bytes.length !== 4 || bytes.some((byte) => !/^\d{1,3}$/.test(byte) || Number(byte) > 255))
    throw new RangeError(`${part === "" ? "an empty place in the list" : part}: not an IPv4 address, range or network`);
  return bytes.reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

function textOf(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}
