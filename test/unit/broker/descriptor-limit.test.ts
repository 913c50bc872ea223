import { expect, test } from "bun:test";
import { resolve } from "node:path";

const module = resolve(import.meta.dir, "../../../src/broker/descriptor-limit.ts");

/** A process without free descriptors that asks somebody over HTTP; what it prints. */
function askWithoutDescriptors(before: string): string {
  const script = `
    const { openSync } = await import("node:fs");
    const { warmHttpClient } = await import(${JSON.stringify(module)});
    ${before}
    try { for (;;) openSync("/dev/null", "r"); } catch {}
    await fetch("http://127.0.0.1:1/").catch(({ code }) => console.log("rejected", code));`;
  const command = ["sh", "-c", 'ulimit -n 256; exec "$0" -e "$1"', process.execPath, script];
  const { stdout, stderr } = Bun.spawnSync(command, { timeout: 20_000, stdout: "pipe", stderr: "pipe" });
  return `${stdout}${stderr}`.trim();
}

test.skipIf(process.platform !== "linux")(
  "a request over HTTP that finds no descriptor rejects, and ends a process only that was not prepared (Linux)",
  () => {
    expect(askWithoutDescriptors("await warmHttpClient();")).toBe("rejected EMFILE");
    expect(askWithoutDescriptors("")).toContain("ran out of file descriptors"); // when this is over, so is warmHttpClient
  },
);
