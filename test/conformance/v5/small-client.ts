// A client whose Maximum Packet Size is as small as still lets its CONNACK through, so that an answer has room for
// hardly more than its reason codes.

import { expect } from "bun:test";
import type { ConnectOptions, RawClient } from "#test/support/client.ts";
import type { Harness } from "#test/support/harness.ts";
import { encodePacket, type Packet, type Properties, props } from "#test/support/packets.ts";

export interface SmallClient {
  readonly client: RawClient;
  readonly sizeMax: number;
}

export async function connectSmall(
  harness: Pick<Harness, "connect">,
  options: ConnectOptions = {},
): Promise<SmallClient> {
  const clientId = options.clientId ?? `small-${crypto.randomUUID().slice(0, 8)}`;
  const first = await harness.connect({ ...options, clientId });
  const sizeMax = encodePacket(first.connack!, 5).length;
  await first.disconnect();
  const properties: Properties = [["maximumPacketSizeBytes", sizeMax]];
  if (Array.isArray(options.properties)) properties.push(...options.properties);
  return { client: await harness.connect({ ...options, clientId, properties }), sizeMax };
}

/** The packet fits, and nothing that might be left out was put in beyond that. */
export function expectSmall(packet: Packet & { properties?: Properties }, sizeMax: number): void {
  expect(encodePacket(packet, 5).length).toBeLessThanOrEqual(sizeMax);
  expect(props(packet, "userProperty")).toEqual([]);
}
