/** src/base/byte-table.ts: keys as bytes, against a Map whose keys are strings that must first be made. */
import { BlockPool } from "#base/block-pool.ts";
import { ByteTable } from "#base/byte-table.ts";
import { hashBytes } from "#base/bytes.ts";
import { listTopics, randomNumbers, SEED } from "./fixture.ts";
import { type Recorder, type Suite, sizes } from "./recorder.ts";

export const suite: Suite = {
  about: "byte keys with numbers (src/base/byte-table.ts), hash of the key included",
  async run(recorder) {
    for (const count of sizes(recorder, 1000, 100_000, 1_000_000)) await withKeys(recorder, count);
  },
};

async function withKeys(recorder: Recorder, count: number): Promise<void> {
  const pool = new BlockPool();
  const table = new ByteTable(pool);
  const map = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const key = Buffer.from(`client-${i}`);
    map.set(key.toString("latin1"), table.add(key, 0, key.length, hashBytes(key, 0, key.length, SEED)));
  }
  const { bytes, at, count: picks } = listTopics(randomNumbers(4096, count).map((i) => `client-${i}`));
  const missing = listTopics(randomNumbers(4096, count).map((i) => `nobody-${i}`));
  await recorder.compare(`find among ${count}`, picks, {
    ByteTable: () => {
      let sum = 0;
      for (let i = 0; i < picks; i++)
        sum += table.find(bytes, at[i], at[i + 1], hashBytes(bytes, at[i], at[i + 1], SEED));
      return sum;
    },
    "Map of strings": () => {
      let sum = 0;
      for (let i = 0; i < picks; i++) sum += map.get(bytes.toString("latin1", at[i], at[i + 1]))!;
      return sum;
    },
  });
  await recorder.time(`miss among ${count}`, picks, () => {
    let sum = 0;
    for (let i = 0; i < picks; i++) {
      const hash = hashBytes(missing.bytes, missing.at[i], missing.at[i + 1], SEED);
      sum += table.find(missing.bytes, missing.at[i], missing.at[i + 1], hash);
    }
    return sum;
  });
  await recorder.time(`add and remove among ${count}`, picks, () => {
    let sum = 0;
    for (let i = 0; i < picks; i++) {
      const hash = hashBytes(missing.bytes, missing.at[i], missing.at[i + 1], SEED);
      const number = table.add(missing.bytes, missing.at[i], missing.at[i + 1], hash);
      table.remove(number);
      sum += number;
    }
    return sum;
  });
  recorder.figure(`a key among ${count}, its block included`, {
    value: (table.bytes + pool.usedBytes) / count,
    unit: "B",
  });
}
