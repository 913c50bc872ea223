// What the tests of MQTT 3.1.1 share: packets in one write, and the plain answer of 3.x to bad input, a close.

import type { ConnectOptions, RawClient } from "#test/support/client.ts";
import type { Harness } from "#test/support/harness.ts";
import { encodePacket, hex, type Packet, type PacketInput } from "#test/support/packets.ts";

export { withAccess } from "#test/conformance/v5/access-backend.ts";
export { unique, withConfig } from "#test/conformance/v5/connect-support.ts";
export { isForeign, payloads, publishes, topics, useHarness } from "#test/conformance/v5/fixture.ts";

export type Connects = Pick<Harness, "open" | "connect">;

/** A packet, or bytes as hex. */
export type Sent = PacketInput | string;

/** Several packets in one write. */
export function sendTogether(client: RawClient, packets: Sent[]): void {
  const frames = packets.map((sent) => (typeof sent === "string" ? hex(sent) : encodePacket(sent, client.version)));
  client.send(Uint8Array.from(frames.flatMap((frame) => [...frame])));
}

/** Each of these, on an accepted connection of its own, makes the broker close without a byte. */
export async function expectEachCloses(
  harness: Connects,
  packets: Sent[],
  options: ConnectOptions = {},
): Promise<void> {
  for (const sent of packets) {
    const client = await harness.connect({ version: 4, ...options });
    sendTogether(client, [sent]);
    await within(sent, client.expectClosed());
  }
}

/** Each of these as a link's first packet makes the broker close without a byte. */
export async function expectEachRefused(harness: Connects, packets: Sent[]): Promise<void> {
  for (const sent of packets) {
    const client = await harness.open(4);
    sendTogether(client, [sent]);
    await within(sent, client.expectClosed());
  }
}

/** Names the case of a table in the failure. */
async function within(sent: Sent, closed: Promise<void>): Promise<void> {
  try {
    await closed;
  } catch (error) {
    throw new Error(`after ${typeof sent === "string" ? sent : JSON.stringify(sent)}: ${(error as Error).message}`);
  }
}

/** Whether the broker closes without a byte, where that is one of two right answers; false as soon as a packet comes. */
export function closesMutely(client: RawClient): Promise<boolean> {
  return client.expectClosed().then(
    () => true,
    () => false,
  );
}

export function connect(options: ConnectOptions = {}): PacketInput {
  return { type: "connect", clientId: "refused", ...options };
}

/** Topic and QoS of PUBLISHes, in order. */
export function topicsWithQos(packets: Packet[]): string[] {
  return packets.map((packet) => (packet.type === "publish" ? `${packet.topic} ${packet.qos}` : packet.type));
}
