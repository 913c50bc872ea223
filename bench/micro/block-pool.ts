/** src/base/block-pool.ts: a block taken and given, alone and among many, against a Buffer of its own. */
import { BlockPool } from "#base/block-pool.ts";
import { randomNumbers } from "./fixture.ts";
import { type Suite, sized } from "./recorder.ts";

const OPS = 1000;

export const suite: Suite = {
  about: "blocks of any size in pages (src/base/block-pool.ts); an operation is one take and one give",
  async run(recorder) {
    for (const size of [20, 100, 1000, 20_000]) {
      const pool = new BlockPool();
      await recorder.compare(`${size} B`, OPS, {
        "take and give": () => {
          for (let i = 0; i < OPS; i++) pool.give(pool.take(size));
          return pool.usedBytes;
        },
        "Buffer.allocUnsafe": () => {
          let sum = 0;
          for (let i = 0; i < OPS; i++) sum += Buffer.allocUnsafe(size).length;
          return sum;
        },
      });
    }
    const pool = new BlockPool();
    const count = sized(recorder, 100_000);
    const blocks = Int32Array.from({ length: count }, (_, i) => pool.take(16 + (i % 200)));
    const picks = Int32Array.from(randomNumbers(4096, count));
    await recorder.time(`replace one of ${count} blocks of 16 to 215 B`, picks.length, () => {
      for (let i = 0; i < picks.length; i++) {
        const pick = picks[i];
        pool.give(blocks[pick]);
        blocks[pick] = pool.take(16 + (i % 200));
      }
      return pool.usedBytes;
    });
    recorder.figure(`pages against blocks in use, ${count} blocks`, {
      value: pool.pageBytes / pool.usedBytes,
      unit: "×",
    });
  },
};
