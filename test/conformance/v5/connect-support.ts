// What the tests of chapters 1 to 3.2 need besides the fixture: a broker of its own for a test with configuration, an
// access backend, names that nobody else uses, CONNECT written byte by byte, and topics through their aliases.

import type { Access, AuthenticateRequest } from "#core/ports.ts";
import type { RawClient } from "#test/support/client.ts";
import { type Harness, startHarness } from "#test/support/harness.ts";
import { hex, type Packet, prop } from "#test/support/packets.ts";
import { isForeign, publishes } from "./fixture.ts";

/** Runs `body` against a broker of this configuration. A foreign broker cannot be given one, and shows nothing. */
export async function withConfig(
  config: Record<string, unknown>,
  body: (harness: Harness) => Promise<void>,
): Promise<void> {
  if (isForeign) return;
  const harness = await startHarness(config);
  try {
    await body(harness);
  } finally {
    await harness.stop();
  }
}

/**
 * For `withConfig({ ports: { access } })`: refuses the password "wrong", and knows the method TEST, which asks "who?" and
 * wants "me". Everybody may publish and subscribe.
 */
export function testAccess(reasonString?: string): Access & { requests: AuthenticateRequest[] } {
  const requests: AuthenticateRequest[] = [];
  return {
    requests,
    isOpen: true,
    authenticate(request) {
      requests.push(request);
      const { method, data, password, state } = request;
      request.state = "asked";
      if (method === undefined) {
        request.complete(password?.toString() === "wrong" ? { reasonCode: 0x86, reasonString } : { reasonCode: 0 });
      } else if (method !== "TEST") request.complete({ reasonCode: 0x8c, reasonString });
      else if (state === undefined) request.complete({ reasonCode: 0x18, data: Buffer.from("who?") });
      else request.complete(data?.toString() === "me" ? { reasonCode: 0 } : { reasonCode: 0x87, reasonString });
    },
    authorizePublish: () => 0,
    whenDecided: () => {},
    authorizeSubscribe: (_client, filters, complete) => complete(filters.map(() => 0)),
  };
}

/** Closed without a word, as fits where CONNECT could not be read, or with a CONNACK of this code before. */
export async function expectClosedOr(client: RawClient, reasonCode: number): Promise<void> {
  await client.expectClosed().catch(async () => {
    await client.expect("connack", { reasonCode });
    await client.expectClosed();
  });
}

const run = `${process.pid.toString(36)}${Date.now().toString(36)}`;
let count = 0;

/** A topic or client id that no other test and no earlier run has used. */
export function unique(name: string): string {
  return `${name}-${run}-${++count}`;
}

/** A whole CONNECT of 5.0 with keep alive 0: its flags, its payload, and its properties with their length, all as hex. */
export function connectBytes(flags: string, payload: string, properties = "00"): Uint8Array {
  return framed("10", `00 04 4d 51 54 54 05 ${flags} 00 00 ${properties} ${payload}`);
}

/** A packet from its first byte and from what follows the remaining length, which must be below 128. */
export function framed(first: string, rest: string): Uint8Array {
  const body = hex(rest);
  return Uint8Array.of(...hex(first), body.length, ...body);
}

/** The topics meant, through the table of aliases that these packets of one connection build up. */
export function resolvedTopics(packets: Packet[]): string[] {
  const aliases = new Map<unknown, string>();
  return publishes(packets).map((packet) => {
    const alias = prop(packet, "topicAlias");
    if (alias === undefined) return packet.topic;
    if (packet.topic !== "") aliases.set(alias, packet.topic);
    return aliases.get(alias) ?? `alias ${String(alias)} before its topic`;
  });
}
