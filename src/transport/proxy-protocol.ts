/**
 * The PROXY protocol, versions 1 and 2: a load balancer says whose connection it brings, before the first byte of it.
 *
 *   1   `PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n`, at most 107 bytes
 *   2   | signature (12) | 2, command | family, transport | length (2) | source, destination, ports | TLVs … |
 *   TLV | type | length (2) | value |     0x20 SSL: | client flags | verify (4) | TLVs: 0x22 common name … |
 *
 * Only to be read from peers that are trusted: whoever sends this header chooses his address. A checksum TLV is not verified.
 */
import { isIPv4, isIPv6 } from "node:net";

const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const V1 = Buffer.from("PROXY ", "latin1");
const V1_BYTES_MAX = 107;
const V2_HEAD = 16;
/** Of a version 2 header: addresses and TLVs are far smaller. */
const V2_BYTES_MAX = 4096;
const TLV_SSL = 0x20;
const TLV_SSL_COMMON_NAME = 0x22;
const CLIENT_CERTIFICATE = 0x02 | 0x04; // on this connection or in its TLS session

export interface ProxyHeader {
  /** Bytes of the header. */
  readonly size: number;
  /** Undefined when the proxy speaks for itself (a health check) or does not know: the socket's address then counts. */
  readonly source?: { readonly address: string; readonly port: number };
  /** Of a client certificate that the proxy has verified. */
  readonly commonName?: string;
}

/** Undefined while the header is not complete; null when there is none or it is malformed. */
export function readProxyHeader(bytes: Buffer): ProxyHeader | undefined | null {
  const isV2 =
    SIGNATURE.compare(bytes, 0, Math.min(bytes.length, SIGNATURE.length), 0, Math.min(bytes.length, 12)) === 0;
  if (isV2) return bytes.length < V2_HEAD ? undefined : readV2(bytes);
  const known = Math.min(bytes.length, V1.length);
  return V1.compare(bytes, 0, known, 0, known) === 0 ? readV1(bytes) : null;
}

function readV1(bytes: Buffer): ProxyHeader | undefined | null {
  const end = bytes.subarray(0, V1_BYTES_MAX).indexOf("\r\n");
  if (end < 0) return bytes.length < V1_BYTES_MAX ? undefined : null;
  const size = end + 2;
  const [, family, address = "", target = "", port = "", targetPort = "", ...more] = bytes
    .toString("latin1", 0, end)
    .split(" ");
  if (family === "UNKNOWN") return { size };
  const isAddress = family === "TCP4" ? isIPv4 : family === "TCP6" ? isIPv6 : undefined;
  const isRight = isAddress?.(address) && isAddress(target) && isPort(port) && isPort(targetPort) && more.length === 0;
  return isRight ? { size, source: { address, port: Number(port) } } : null;
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535;
}

function readV2(bytes: Buffer): ProxyHeader | undefined | null {
  const size = V2_HEAD + bytes.readUInt16BE(14);
  const isCommandKnown = bytes[12] === 0x20 || bytes[12] === 0x21;
  if (!isCommandKnown || size > V2_BYTES_MAX) return null;
  if (bytes.length < size) return undefined;
  const family = bytes[13] >> 4;
  if (bytes[12] === 0x20 || family === 0) return { size }; // LOCAL, or unspecified
  const addressesEnd = V2_HEAD + [0, 12, 36, 216][family]!;
  if (!(addressesEnd <= size)) return null;
  const commonName = commonNameIn(bytes.subarray(addressesEnd, size));
  if (commonName === null) return null;
  const isStream = bytes[13] === 0x11 || bytes[13] === 0x21;
  return {
    size,
    ...(isStream && { source: sourceOf(bytes, family) }),
    ...(commonName !== undefined && { commonName }),
  };
}

function sourceOf(bytes: Buffer, family: number): { address: string; port: number } {
  if (family === 1) return { address: bytes.subarray(16, 20).join("."), port: bytes.readUInt16BE(24) };
  const groups = Array.from({ length: 8 }, (_, i) => bytes.readUInt16BE(16 + 2 * i).toString(16)).join(":");
  return { address: new URL(`http://[${groups}]`).hostname.slice(1, -1), port: bytes.readUInt16BE(48) };
}

/** Undefined when there is none, null when the TLVs are malformed. */
function commonNameIn(tlvs: Buffer): string | undefined | null {
  let found: string | undefined;
  for (const tlv of readTlvs(tlvs)) {
    if (tlv === null) return null;
    if (tlv.type !== TLV_SSL) continue;
    if (tlv.value.length < 5) return null;
    const isVerified = (tlv.value[0] & CLIENT_CERTIFICATE) !== 0 && tlv.value.readUInt32BE(1) === 0;
    for (const inner of readTlvs(tlv.value.subarray(5))) {
      if (inner === null) return null;
      if (inner.type === TLV_SSL_COMMON_NAME && isVerified) found = inner.value.toString();
    }
  }
  return found;
}

/** One after another; null for one that does not fit. */
function* readTlvs(bytes: Buffer): Generator<{ type: number; value: Buffer } | null> {
  let at = 0;
  while (at < bytes.length) {
    const end = at + 3 <= bytes.length ? at + 3 + bytes.readUInt16BE(at + 1) : Infinity;
    if (end > bytes.length) return yield null;
    yield { type: bytes[at], value: bytes.subarray(at + 3, end) };
    at = end;
  }
}
