/**
 * The server name (SNI) in a TLS ClientHello, read before the handshake so that the certificate can be chosen (RFC 8446 §4.1.2, RFC 6066 §3).
 *
 *   record    | 22 | version (2) | length (2) | fragment … |   one message may lie in several records
 *   message   | 1 | length (3) | version (2) | random (32) | session id <1> | suites <2> | compression <1> | extensions <2> |
 *   extension | 0, 0 | length (2) | list length (2) | 0 | length (2) | name |
 *
 * Nothing is judged here: what is no ClientHello goes to the TLS stack, which answers with the right alert.
 */
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const RECORD_HEAD = 5;
const MESSAGE_HEAD = 4;
const HELLO_BYTES_MAX = 16_384;
const HOST_NAME = /^[a-z0-9._-]{1,255}$/;

/** The name in lower case; "" when there is none or it cannot be read; undefined while the ClientHello is not complete. */
export function readServerName(bytes: Buffer): string | undefined {
  let hello: Buffer = bytes.subarray(0, 0);
  let at = 0;
  for (;;) {
    if (bytes.length > at && bytes[at] !== HANDSHAKE) return "";
    if (bytes.length < at + RECORD_HEAD) return undefined;
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0) return "";
    const fragment = bytes.subarray(at + RECORD_HEAD, at + RECORD_HEAD + length);
    hello = hello.length === 0 ? fragment : Buffer.concat([hello, fragment]);
    if (hello.length >= MESSAGE_HEAD) {
      if (hello[0] !== CLIENT_HELLO) return "";
      const size = MESSAGE_HEAD + hello.readUIntBE(1, 3);
      if (size > HELLO_BYTES_MAX) return "";
      if (hello.length >= size) return nameIn(hello.subarray(0, size));
    }
    if (fragment.length < length) return undefined;
    at += RECORD_HEAD + length;
  }
}

function nameIn(hello: Buffer): string {
  let at = MESSAGE_HEAD + 2 + 32;
  for (const lengthBytes of [1, 2, 1]) {
    if (at + lengthBytes > hello.length) return "";
    at += lengthBytes + hello.readUIntBE(at, lengthBytes);
  }
  at += 2;
  while (at + 4 <= hello.length) {
    const type = hello.readUInt16BE(at);
    const end = at + 4 + hello.readUInt16BE(at + 2);
    if (end > hello.length) return "";
    if (type === 0) return hostNameIn(hello.subarray(at + 4, end));
    at = end;
  }
  return "";
}

function hostNameIn(extension: Buffer): string {
  if (extension.length < 5 || extension[2] !== 0) return "";
  const length = extension.readUInt16BE(3);
  if (5 + length > extension.length) return "";
  const name = extension.toString("latin1", 5, 5 + length).toLowerCase();
  return HOST_NAME.test(name) ? name : "";
}
