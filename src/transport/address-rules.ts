/** Rules about addresses: `allow 10.0.0.0/8`, `deny all`. The first rule that matches decides; none: allowed. */
import { BlockList, isIP } from "node:net";

/** Some addresses. */
export interface AddressBlock {
  has(address: string): boolean;
}

export interface AddressRule {
  readonly isAllowing: boolean;
  readonly block: AddressBlock;
}

const everything: AddressBlock = { has: () => true };

/** Reads `all`, an IPv4 or IPv6 address, or a CIDR block of them; undefined when it is none. */
export function parseAddressBlock(text: string): AddressBlock | undefined {
  if (text === "all") return everything;
  const [address = "", prefixText, ...more] = text.split("/");
  const family = isIP(address);
  const bits = family === 4 ? 32 : 128;
  const prefix = prefixText === undefined ? bits : Number(prefixText);
  const isPrefix = prefixText === undefined || (/^\d{1,3}$/.test(prefixText) && prefix <= bits);
  if (family === 0 || address.includes("%") || !isPrefix || more.length > 0) return undefined;
  const list = new BlockList();
  list.addSubnet(address, prefix, family === 4 ? "ipv4" : "ipv6");
  return {
    has(candidate) {
      const plain = withoutZone(candidate);
      const family = isIP(plain);
      return family !== 0 && list.check(plain, family === 4 ? "ipv4" : "ipv6"); // IPv4 in IPv6 form counts as IPv4
    },
  };
}

/** Reads `allow BLOCK` or `deny BLOCK`. */
export function parseAddressRule(text: string): AddressRule | undefined {
  const [, verb, blockText] = /^(allow|deny) +(\S+)$/.exec(text) ?? [];
  const block = blockText === undefined ? undefined : parseAddressBlock(blockText);
  return block && { isAllowing: verb === "allow", block };
}

/** The peer of a Unix socket has the address "", which only `all` matches. */
export function isAddressAllowed(rules: readonly AddressRule[], address: string): boolean {
  for (const { isAllowing, block } of rules) if (block.has(address)) return isAllowing;
  return true;
}

function withoutZone(address: string): string {
  const at = address.indexOf("%");
  return at < 0 ? address : address.slice(0, at);
}
