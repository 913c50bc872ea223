/** The figure of `bench idle`: memory of a client above a bare socket, both measured in one run, as a bench client says it. */
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { report } from "./arguments.ts";

const file = join(tmpdir(), `mantou-footprint-${process.pid}.json`);
const child = Bun.spawn(
  [process.execPath, join(import.meta.dir, "../../main.ts"), "idle", "--runs", "1", "--json", file],
  {
    stdout: "ignore",
    stderr: "inherit",
  },
);
const code = await child.exited;
if (code !== 0) throw new Error(`bench idle ended with ${code}`);
const { aboveBareBytes } = JSON.parse(await Bun.file(file).text()) as { aboveBareBytes: number };
rmSync(file);
if (typeof aboveBareBytes !== "number") throw new Error("bench idle does not say aboveBareBytes");
report({ metrics: { bytesAboveBare: aboveBareBytes }, faults: [] });
