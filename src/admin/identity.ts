/** Who asks, and what a role may do. */

/** From little to much: what a role may, the later ones may too. */
export const ROLES = ["viewer", "operator", "administrator"] as const;
export type Role = (typeof ROLES)[number];

export interface Identity {
  readonly name: string;
  readonly role: Role;
  /** How they came. */
  readonly way: "session" | "key" | "socket";
  /** Of a session: what a request that changes something must repeat in `X-CSRF-Token`. */
  readonly csrfToken?: string;
  /** They came in with the well-known password. */
  readonly isDefault?: boolean;
}

export function mayAct(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/** What is known of a request besides itself. */
export interface Peer {
  /** Empty for the admin socket. */
  readonly address: string;
  /** It came by the admin socket, which only the broker's own user may open. */
  readonly isSocket: boolean;
  readonly isTls: boolean;
  /** The connection may be silent for as long as it likes. */
  keepOpen(): void;
}

const FORWARDING = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];
const LOOPBACK = /^(127(\.\d{1,3}){3}|::1|::ffff:127(\.\d{1,3}){3})$/;
const LOCAL_HOST = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

/**
 * A program on this machine asks for itself: no proxy handed the request on, and no page made a browser believe that its own
 * name is this machine.
 */
export function isLocal({ address }: Peer, headers: Headers): boolean {
  const isForwarded = FORWARDING.some((name) => headers.has(name));
  return LOOPBACK.test(address) && !isForwarded && LOCAL_HOST.test(headers.get("host") ?? "");
}
