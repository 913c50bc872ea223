/**
 * A process of its own with a spool, to be killed, or to find its disk full. Lines on stdout: `kept N` when the first N items are on
 * disk, `sent N` for each the receiver got, `fault …`, `lost N`, `end`.
 */
import { existsSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { Journal } from "#modules/journal.ts";
import { Spool } from "#modules/spool.ts";

const [mode = "", path = "", control = ""] = process.argv.slice(2);
const say = (line: string): void => void writeSync(1, `${line}\n`);
let isAway = mode !== "drain";
let lostCount = 0;

const journal = await Journal.open(path, "full");
const spool = new Spool<number>({
  limits: {
    countMax: 200,
    bytesMax: 1e6,
    diskBytesMax: 1e8,
    batchCountMax: 50,
    batchBytesMax: 1e6,
    lingerMs: 1,
    spillMs: 10,
    deadlineMs: 1000,
    retryMsMax: 20,
  },
  journal,
  bytesOf: () => 1000,
  encode: (item) => Buffer.from(`${item}`.padEnd(1000)),
  decode: (body) => Number(Buffer.from(body).toString()),
  async send(batch) {
    if (isAway) throw new Error("away");
    for (const item of batch) say(`sent ${item}`);
  },
  noteLoss: (count) => {
    lostCount += count;
  },
});

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await Bun.sleep(1);
}

if (mode === "fill") {
  let next = 0;
  setInterval(() => {
    for (let i = 0; i < 20; i++) spool.put(next++);
    if (lostCount === 0) say(`kept ${spool.state.diskCount}`);
  }, 5);
} else if (mode === "full") {
  let next = 0;
  for (; next < 20; next++) spool.put(next);
  await until(() => spool.state.diskCount === 20);
  writeFileSync(control, "n");
  for (; next < 320; next++) spool.put(next);
  await until(() => spool.state.diskFault === "the disk is full");
  isAway = false;
  await until(() => spool.state.memoryCount + spool.state.diskCount === 0);
  say(`lost ${lostCount}`);
  rmSync(control);
  spool.put(999);
  await until(() => spool.state.memoryCount === 0);
  await spool.stop(1000);
  say("end");
} else {
  await until(() => spool.state.memoryCount + spool.state.diskCount === 0);
  await spool.stop(1000);
  say("end");
}
if (control !== "" && existsSync(control)) rmSync(control);
