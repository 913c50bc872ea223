/** What clients of the durable broker got, as tests compare it. */
import type { RawClient } from "#test/support/client.ts";
import type { DurableBroker } from "#test/support/durable-broker.ts";
import type { Packet, PublishPacket } from "#test/support/packets.ts";

export function publishesOf(packets: readonly Packet[]): PublishPacket[] {
  return packets.filter((packet) => packet.type === "publish");
}

export function payloadOf({ payload }: PublishPacket): string {
  return Buffer.from(payload).toString();
}

export function payloadsOf(packets: readonly Packet[]): string[] {
  return publishesOf(packets).map(payloadOf);
}

/** Publishes at QoS 1 or 2 and waits until the broker has acknowledged, what it gives on-line receivers included. */
export async function publishAll(
  broker: DurableBroker,
  source: RawClient,
  topic: string,
  payloads: readonly string[],
  qos = 1,
): Promise<void> {
  for (const payload of payloads) {
    const isDone = source.publish(topic, payload, { qos });
    broker.advanceMs(3);
    await isDone;
  }
}

/** m0, m1, … */
export function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `m${i}`);
}
