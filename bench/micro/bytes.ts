/** src/base/bytes.ts: hash, compare, copy and UTF-8 check of ranges, against what Bun offers for the same. */
import { equalBytes, hashBytes, isMqttUtf8 } from "#base/bytes.ts";
import type { Recorder, Suite } from "./recorder.ts";

const OPS = 1000;

export const suite: Suite = {
  about: "hash, compare, copy, UTF-8 check of byte ranges (src/base/bytes.ts)",
  async run(recorder) {
    for (const size of [8, 32, 128]) await hashes(recorder, size);
    await compares(recorder);
    for (const size of [20, 100, 1000]) await copies(recorder, size);
    await utf8(recorder, "32 B of ASCII", Buffer.alloc(64, "sensor/12/temperature/state/now/"), 32);
    await utf8(recorder, "1 KiB of ASCII", Buffer.alloc(1088, "payload text "), 1024);
    await utf8(recorder, "32 B of two-byte characters", Buffer.from("ü".repeat(32)), 32);
  },
};

async function hashes(recorder: Recorder, size: number): Promise<void> {
  const bytes = Buffer.alloc(size + 64, "site/12/line/device4711/state/");
  await recorder.compare(`hash ${size} B`, OPS, {
    hashBytes: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) sum ^= hashBytes(bytes, i & 31, (i & 31) + size, i);
      return sum;
    },
    "Bun.hash.xxHash32 of a subarray": () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) sum ^= Bun.hash.xxHash32(bytes.subarray(i & 31, (i & 31) + size), i);
      return sum;
    },
  });
}

async function compares(recorder: Recorder): Promise<void> {
  const a = Buffer.alloc(96, "site/12/line/device4711/state/");
  const b = Buffer.from(a);
  await recorder.compare("equal 32 B", OPS, {
    equalBytes: () => {
      let equal = 0;
      for (let i = 0; i < OPS; i++) if (equalBytes(a, i & 31, b, i & 31, 32)) equal++;
      return equal;
    },
    "Buffer.compare of ranges": () => {
      let equal = 0;
      for (let i = 0; i < OPS; i++) if (a.compare(b, i & 31, (i & 31) + 32, i & 31, (i & 31) + 32) === 0) equal++;
      return equal;
    },
  });
}

async function copies(recorder: Recorder, size: number): Promise<void> {
  const from = Buffer.alloc(size + 64, 120);
  const to = Buffer.alloc(1 << 16);
  await recorder.compare(`copy ${size} B`, OPS, {
    "Buffer.copy": () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) sum += from.copy(to, i, i & 31, (i & 31) + size);
      return sum;
    },
    "set of a subarray": () => {
      for (let i = 0; i < OPS; i++) to.set(from.subarray(i & 31, (i & 31) + size), i);
      return to[OPS];
    },
    "a loop": () => {
      for (let i = 0; i < OPS; i++) for (let j = 0; j < size; j++) to[i + j] = from[(i & 31) + j];
      return to[OPS];
    },
  });
}

async function utf8(recorder: Recorder, name: string, bytes: Buffer, size: number): Promise<void> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  await recorder.compare(`UTF-8 check, ${name}`, OPS, {
    isMqttUtf8: () => {
      let valid = 0;
      for (let i = 0; i < OPS; i++) if (isMqttUtf8(bytes, (i & 15) * 2, (i & 15) * 2 + size)) valid++;
      return valid;
    },
    "TextDecoder, fatal": () => {
      let length = 0;
      for (let i = 0; i < OPS; i++) {
        length += decoder.decode(bytes.subarray((i & 15) * 2, (i & 15) * 2 + size)).length;
      }
      return length;
    },
  });
}
