/** Who a client certificate says its owner is. */
import type { X509Certificate } from "node:crypto";
import type { PeerCertificate } from "#core/ports.ts";

export type IdentityFrom = "commonName" | "subject" | "alternativeName";
export type IdentityAs = "none" | "username" | "clientId";

const IDENTITY_BYTES_MAX = 1024;
const CONTROL = /\p{Cc}/u;

export function readCertificate(x509: X509Certificate): PeerCertificate {
  const parts = x509.subject === undefined ? [] : x509.subject.split("\n"); // `CN=a` each; a comma within is `\,`
  const commonName = parts.find((part) => part.startsWith("CN="))?.slice(3) ?? "";
  return {
    commonName: unescaped(commonName),
    subject: parts.join(","),
    alternativeNames: x509.subjectAltName === undefined ? [] : x509.subjectAltName.split(", "),
    fingerprint: x509.fingerprint256.replaceAll(":", "").toLowerCase(),
  };
}

/** What stands for the client in MQTT; undefined when the certificate does not have it, or it is no MQTT string. */
export function identityText(certificate: PeerCertificate, from: IdentityFrom): string | undefined {
  if (from !== "alternativeName") return usable(certificate[from]);
  const [first = ""] = certificate.alternativeNames; // `DNS:a.example`
  return usable(first.slice(first.indexOf(":") + 1));
}

/** The text, unless it is empty, too long or has control characters. */
export function usable(text: string): string | undefined {
  return text !== "" && Buffer.byteLength(text) <= IDENTITY_BYTES_MAX && !CONTROL.test(text) ? text : undefined;
}

/** RFC 2253: `\,` or `\C3\BC`. */
function unescaped(text: string): string {
  if (!text.includes("\\")) return text;
  const bytes: number[] = [];
  const source = Buffer.from(text);
  for (let at = 0; at < source.length; at++) {
    if (source[at] !== 0x5c) {
      bytes.push(source[at]);
      continue;
    }
    const code = source.toString("latin1", at + 1, at + 3);
    const isHex = /^[0-9A-Fa-f]{2}$/.test(code);
    bytes.push(isHex ? Number.parseInt(code, 16) : source[at + 1]);
    at += isHex ? 2 : 1;
  }
  return Buffer.from(bytes).toString();
}
