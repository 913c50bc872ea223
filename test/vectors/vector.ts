/** A packet from a client as bytes, what it means, and what becomes of the connection it comes on. */
import type { Packet, Version } from "#test/support/packets.ts";

export interface Vector {
  readonly title: string;
  readonly versions: readonly Version[];
  readonly hex: string;
  /** Some fields of the packet as a strict decoder gives them; absent when it is malformed. */
  readonly means?: Partial<Packet> & { type: Packet["type"] };
  /** The 5.0 reason code of CONNACK or DISCONNECT; in 3.x the connection is closed. Absent when it is fine. */
  readonly fault?: number;
  /** The return code of CONNACK where 3.x has one. */
  readonly returnCode?: number;
  /** "mute": closed without a word in every version. "closed": as it should be after DISCONNECT. */
  readonly ends?: "mute" | "closed";
}

export const ALL: readonly Version[] = [3, 4, 5];
export const V3: readonly Version[] = [3, 4];
export const V4: readonly Version[] = [4, 5];
export const V5: readonly Version[] = [5];

export const MALFORMED = 0x81;
export const PROTOCOL = 0x82;
