// The broker's process is killed at random moments, and everything it had acknowledged is still there.

import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { rounds } from "#test/support/level.ts";
import { crash, seeds, survive } from "./campaign.ts";
import { rootOf } from "./plants.ts";

const RUN_MS = 40_000;
const runCount = rounds(1, 6, 40);
const roundCount = rounds(2, 5, 6);

test(
  `after kill -9 nothing acknowledged is lost, doubled, out of order or back from the dead (${runCount} × ${roundCount} kills)`,
  () => survive(seeds(runCount), (seed) => crash(seed, { roundCount }, { spec: { root: rootOf(seed) } })),
  runCount * RUN_MS,
);

test.skipIf(Bun.which("mosquitto") === null)(
  "a broker that acknowledges before it has written is caught (skipped without mosquitto)",
  async () => {
    const other = (port: number, dataDir: string): string[] => [
      "mosquitto",
      "-p",
      String(port),
      "-c",
      `${dataDir}.conf`,
    ];
    const hooks = { beforeStart: writeMosquittoConfig };
    const { violations } = await crash(3, { roundCount: 1 }, { spec: { other }, hooks, silenceMs: 1000 });
    expect(violations.map(({ kind }) => kind)).toContain("session");
  },
  RUN_MS,
);

function writeMosquittoConfig(dataDir: string): Record<string, string> {
  const lines = ["allow_anonymous true", "persistence true", `persistence_location ${dataDir}/`, "log_type none", ""];
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(`${dataDir}.conf`, lines.join("\n"));
  return {};
}
