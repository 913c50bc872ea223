/** Where a listener binds: `HOST:PORT`, where an IPv6 host stands in square brackets, or the path of a Unix socket. */
import { isIPv4, isIPv6 } from "node:net";

export interface BindAddress {
  /** "" for a Unix socket. */
  readonly host: string;
  /** 0 lets the system pick one. */
  readonly port: number;
  /** Of a Unix socket, absolute. */
  readonly path?: string;
}

const FORM = /^(?:\[([^\]]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/;
/** What a socket address has room for. */
const PATH_BYTES_MAX = 107;

/** The address, or undefined when `text` is not one. Host names are not looked up here. */
export function parseBind(text: string): BindAddress | undefined {
  if (text.startsWith("/")) return parsePath(text);
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

function parsePath(path: string): BindAddress | undefined {
  const isPath = Buffer.byteLength(path) <= PATH_BYTES_MAX && !/\p{Cc}|\/$/u.test(path);
  return isPath ? { host: "", port: 0, path } : undefined;
}

export function formatBind({ host, port, path }: BindAddress): string {
  if (path !== undefined) return path;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
