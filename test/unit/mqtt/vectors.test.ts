/** test/vectors: an independent decoder reads the same out of the bytes, and the broker does with them what it should. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Harness, harnessOf } from "#test/support/harness.ts";
import { startMemoryHarness } from "#test/support/memory-harness.ts";
import { decodePacket } from "#test/support/packet-decoder.ts";
import { hex, type Version } from "#test/support/packets.ts";
import { connectVectors } from "#test/vectors/connect.ts";
import { otherVectors } from "#test/vectors/others.ts";
import { publishVectors } from "#test/vectors/publish.ts";
import type { Vector } from "#test/vectors/vector.ts";

let harness: Harness;
beforeAll(async () => {
  harness = harnessOf(await startMemoryHarness({}));
});
afterAll(() => harness.stop());

const titled = (vectors: readonly Vector[]): [string, Vector, Version][] =>
  vectors.flatMap((vector) =>
    vector.versions.map((version) => [`${version}: ${vector.title}`, vector, version] as [string, Vector, Version]),
  );

function checkMeaning({ hex: text, means }: Vector, version: Version): void {
  const read = (): unknown => decodePacket(hex(text), version);
  if (means) expect(read()).toMatchObject(means);
}

describe("CONNECT", () => {
  test.each(titled(connectVectors))("%s", async (_title, vector, version) => {
    checkMeaning(vector, version);
    const client = await harness.open(version);
    client.send(hex(vector.hex));
    if (vector.ends === "mute") return client.expectClosed();
    if (vector.fault === undefined) {
      await client.expect("connack", { reasonCode: 0 });
      return client.ping();
    }
    if (version === 5 || vector.returnCode !== undefined) {
      await client.expect("connack", { reasonCode: version === 5 ? vector.fault : vector.returnCode! });
    }
    await client.expectClosed();
  });
});

describe.each([
  ["PUBLISH", publishVectors],
  ["others", otherVectors],
])("%s", (_name, vectors) => {
  test.each(titled(vectors))("%s", async (_title, vector, version) => {
    checkMeaning(vector, version);
    const client = await harness.connect({ version });
    client.autoAck = true;
    client.send(hex(vector.hex));
    if (vector.ends === "closed") return client.expectClosed();
    if (vector.fault !== undefined) return client.expectRejected(vector.fault);
    await client.settle();
  });
});
