// What tests of 5.0 share: a harness for the whole file whose clients are closed after each test, and short readings.

import { afterAll, afterEach, beforeAll } from "bun:test";
import type { ConnectOptions, RawClient } from "#test/support/client.ts";
import { type Harness, startHarness } from "#test/support/harness.ts";
import { describePacket, type Packet, type PublishPacket, type Properties } from "#test/support/packets.ts";

/** Over TCP: configuration is ignored, the broker's own defaults hold, and its clock is real. */
export const isForeign = process.env["MANTOU_TEST_TARGET"] !== undefined;

/** To be called once at the top of a file, or inside a `describe` that wants its own configuration. */
export function useHarness(config?: Record<string, unknown>): Harness {
  let harness: Harness;
  const clients: RawClient[] = [];
  const keep = (client: RawClient) => {
    clients.push(client);
    return client;
  };
  beforeAll(async () => {
    harness = await startHarness(config);
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.kill();
  });
  afterAll(() => harness.stop());
  return {
    open: async (version) => keep(await harness.open(version)),
    connect: async (options) => keep(await harness.connect(options)),
    advance: (sec) => harness.advance(sec),
    stop: () => harness.stop(),
  };
}

/** A first connection whose session outlives it; `resumed` comes back to it. */
export function kept(clientId: string, expirySec = 60, properties: Properties = []): ConnectOptions {
  return { clientId, cleanStart: true, properties: [["sessionExpiryIntervalSec", expirySec], ...properties] };
}

export function resumed(clientId: string, properties: Properties = []): ConnectOptions {
  return { ...kept(clientId, 60, properties), cleanStart: false };
}

/** Throws on anything that is not a PUBLISH. */
export function publishes(packets: Packet[]): PublishPacket[] {
  return packets.map((packet) => {
    if (packet.type !== "publish") throw new Error(`expected PUBLISH only, got ${describePacket(packet)}`);
    return packet;
  });
}

export function payloadOf(packet: PublishPacket): string {
  return new TextDecoder().decode(packet.payload);
}

/** The payloads of packets that must all be PUBLISH, in order. */
export function payloads(packets: Packet[]): string[] {
  return publishes(packets).map(payloadOf);
}

export function topics(packets: Packet[]): string[] {
  return publishes(packets).map(({ topic }) => topic);
}
