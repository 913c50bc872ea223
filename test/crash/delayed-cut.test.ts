/** A delayed message that was acknowledged is on the disk after a power cut, whatever the disk makes of what was not synced. */
import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Journal } from "#modules/journal.ts";
import { decodeMessage } from "#modules/message-bytes.ts";
import { Dice } from "#test/simulation/weather.ts";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import { rounds } from "#test/support/level.ts";
import { shimEnvironment, shimMissing } from "./disk-shim.ts";
import { readJournal } from "./journal.ts";
import { DiskModel } from "./power-cut.ts";

const why = shimMissing();
const folder = mkdtempSync(join(tmpdir(), "mantou-delayed-cut-"));
afterAll(() => rmSync(folder, { recursive: true }));

const FILE = "plugins/delayed/delayed.db";
const MESSAGES = 200;

test.skipIf(why !== undefined)(
  `delayed messages over a power cut ${why ?? ""}`,
  async () => {
    const data = join(folder, "data");
    const journal = join(folder, "journal");
    mkdirSync(data);
    await using broker = await startBroker(
      ["--data", data, "--workers", "1", "--set", "modules.delayed.enabled=true"],
      {
        env: shimEnvironment({ dir: data, journal }),
      },
    );
    const client = await harnessOf(tcpTarget(broker.url)).connect({ version: 5 });
    for (let id = 1; id <= MESSAGES; id++)
      client.send({
        type: "publish",
        topic: `$delayed/3600/t/${id}`,
        payload: `${id}`.repeat(100),
        qos: 1,
        packetId: id,
      });
    const acknowledged: number[] = [];
    while (acknowledged.length < MESSAGES / 2) acknowledged.push((await client.take("puback")).packetId);
    await broker.kill();

    const model = new DiskModel(new Map());
    for (const record of readJournal(readFileSync(journal))) model.apply(record);
    for (let seed = 1; seed <= rounds(2, 10, 100); seed++) {
      const path = join(folder, `cut-${seed}`, FILE);
      mkdirSync(dirname(path), { recursive: true });
      for (const [name, bytes] of model.cut(new Dice(seed), "some"))
        if (name.startsWith(FILE)) writeFileSync(join(folder, `cut-${seed}`, name), bytes);
      const kept = await Journal.open(path, "off");
      expect(kept.damage).toBeUndefined();
      const entries = await kept.readPage(0, MESSAGES, 1e9);
      const there = new Map(
        entries.map(({ body }) => {
          const { topic, payload } = decodeMessage(body)!;
          return [topic, payload.toString()];
        }),
      );
      for (const id of acknowledged) expect(there.get(`t/${id}`)).toBe(`${id}`.repeat(100));
      await kept.close();
    }
  },
  60_000,
);
