/** Where a listener binds, written `HOST:PORT`; an IPv6 host stands in square brackets. */
import { isIPv4, isIPv6 } from "node:net";

export interface BindAddress {
  readonly host: string;
  /** 0 lets the system pick one. */
  readonly port: number;
}

const FORM = /^(?:\[([^\]]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/;

/** The address, or undefined when `text` is not one. Host names are not looked up here. */
export function parseBind(text: string): BindAddress | undefined {
  const found = FORM.exec(text);
  if (!found) return undefined;
  const [, bracketed, plain = "", digits] = found;
  const port = Number(digits);
  if (port > 65_535) return undefined;
  if (bracketed !== undefined) return isIPv6(bracketed) ? { host: bracketed, port } : undefined;
  // Only digits and dots: a mistyped IPv4 address, which no resolver should be asked about.
  if (/^[\d.]+$/.test(plain) && !isIPv4(plain)) return undefined;
  return { host: plain, port };
}

export function formatBind({ host, port }: BindAddress): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
