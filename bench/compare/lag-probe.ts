/** Loaded into a broker before it starts (`--preload`): at SIGUSR2 it says how late its loop was since the last one. */
import { renameSync, writeFileSync } from "node:fs";
import { LAG_FILE, LoopLag } from "#bench/compare/loop-lag.ts";

const lag = new LoopLag();

function write(): void {
  writeFileSync(`${LAG_FILE}.new`, JSON.stringify(lag.take()));
  renameSync(`${LAG_FILE}.new`, LAG_FILE);
}

process.on("SIGUSR2", write);
write(); // that there is a probe
