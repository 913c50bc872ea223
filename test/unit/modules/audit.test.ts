import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuditFile } from "#modules/audit.ts";

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function makeFile(options: { fileBytesMax?: number; fileCountMax?: number } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "mantou-audit-"));
  folders.push(folder);
  const file = join(folder, "deep", "audit.jsonl");
  let lostCount = 0;
  const audit = new AuditFile(
    { file, fileBytesMax: 1e9, fileCountMax: 3, ...options },
    (count) => (lostCount += count),
  );
  return { audit, file, folder: join(folder, "deep"), lost: () => lostCount };
}

test("lines come in order, for the owner's eyes, whole at the end", async () => {
  const { audit, file } = makeFile();
  for (let i = 0; i < 1000; i++) {
    audit.add(String(i));
    if (i % 100 === 0) void audit.flush();
  }
  await audit.flush();
  expect(readFileSync(file, "utf8")).toBe(`${Array.from({ length: 1000 }, (_, i) => i).join("\n")}\n`);
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test("a file that is full becomes the first of the older ones, and the oldest goes", async () => {
  const { audit, file, folder } = makeFile({ fileBytesMax: 4 });
  for (let i = 0; i < 6; i++) {
    audit.add(`line ${i}`);
    await audit.flush();
  }
  expect(readdirSync(folder).toSorted()).toEqual(["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
  expect(["", ".1", ".2"].map((end) => readFileSync(file + end, "utf8"))).toEqual(["line 5\n", "line 4\n", "line 3\n"]);
});

test("what finds no room in memory, or cannot be written, is counted; later lines are written", async () => {
  const { audit, lost } = makeFile();
  const large = "x".repeat(9 * 1024 * 1024);
  audit.add(large);
  audit.add(large);
  expect(lost()).toBe(1);
  const { audit: blocked, folder, file, lost: lostThere } = makeFile();
  await Bun.write(folder, "a file where the folder is to be");
  blocked.add("1");
  blocked.add("2");
  await blocked.flush().catch(() => {});
  expect(lostThere()).toBe(2);
  rmSync(folder);
  blocked.add("3");
  await blocked.flush();
  expect(readFileSync(file, "utf8")).toBe("3\n");
});
