/** Files that change while the broker runs, and whom that throws out. */
import { afterEach, expect, test } from "bun:test";
import { renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { inspect } from "node:util";
import { join } from "node:path";
import type { BackendParts } from "#access/backend.ts";
import { clientId } from "#access/backends/client-id.ts";
import { userFile } from "#access/backends/user-file.ts";
import { userTable } from "#access/backends/user-table.ts";
import { Secret } from "#access/secret.ts";
import { UserTable } from "#access/user-table.ts";
import { lineFault, WatchedFile } from "#access/watched-file.ts";
import { MantouError } from "#base/error.ts";
import { askAuthenticate, attemptOf, type BackendFixture, fixture } from "#test/contract/backend-contract.ts";

const fixtures: BackendFixture[] = [];
afterEach(() => {
  for (const each of fixtures.splice(0)) each.stop();
});

function made(name: string, options: Partial<BackendParts> = {}): BackendFixture {
  const one = fixture(name, options);
  fixtures.push(one);
  return one;
}

/** A change that the file's state cannot hide, whatever the clock's resolution. */
function rewrite({ parts, write }: BackendFixture, file: string, text: string): void {
  const path = join(parts.baseDir, file);
  const { mtimeMs } = statSync(path);
  write(`${file}.new`, text);
  renameSync(`${path}.new`, path);
  utimesSync(path, mtimeMs / 1000 + 1, mtimeMs / 1000 + 1);
}

test("a file is read again when it has changed; a broken one leaves what was there in force, and says so", () => {
  const warnings: string[] = [];
  const log = { info: () => {}, warn: (message: string) => void warnings.push(message) };
  const one = made("f", { log });
  one.write("f", "1");
  const changes: [string, string][] = [];
  const parse = (text: string, file: string): string => {
    if (text === "bad") throw lineFault(file, 7, "bad");
    return text;
  };
  const file = new WatchedFile("f", parse, one.parts, (now, before) => void changes.push([before, now]));
  file.start(3_600_000);
  file.reload();
  expect([file.value, changes.length]).toEqual(["1", 0]);
  rewrite(one, "f", "2");
  file.reload();
  expect([file.value, changes]).toEqual(["2", [["1", "2"]]]);
  rewrite(one, "f", "bad");
  file.reload();
  file.reload();
  expect([file.value, warnings.length, file.health({}).state]).toEqual(["2", 1, "degraded"]);
  expect(file.health({}).detail).toContain("f:7: bad");
  rmSync(join(one.parts.baseDir, "f"));
  file.reload();
  expect([file.value, warnings.length]).toEqual(["2", 2]);
  one.write("f", "3");
  file.reload();
  expect([file.value, file.health({}).state]).toEqual(["3", "up"]);
  file.stop();
});

test("a file that is just being written is read when it is whole", async () => {
  const one = made("half");
  const path = join(one.parts.baseDir, "f");
  writeFileSync(path, "alice:1\nbob:2\n");
  const seen: string[] = [];
  const file = new WatchedFile(
    "f",
    (text) => text,
    one.parts,
    (now) => void seen.push(now),
  );
  file.start(5);
  // As `cat > f` does it: the file is empty, grows, and is whole in the end.
  for (const text of ["", "alice:1\n", "alice:1\nbob:3\n"]) {
    writeFileSync(path, text);
    await Bun.sleep(20);
  }
  while (seen.length === 0) await Bun.sleep(5);
  await Bun.sleep(150);
  file.stop();
  expect(seen).toEqual(["alice:1\nbob:3\n"]);
});

test("a file that is not there or makes no sense stops the start", () => {
  const one = made("f");
  const start = (parse: (text: string, file: string) => string): void => {
    const file = new WatchedFile("f", parse, one.parts);
    try {
      file.start();
    } finally {
      file.stop();
    }
  };
  expect(() => start((text) => text)).toThrow(/f: no such file/);
  one.write("f", "x");
  expect(() =>
    start((_, file) => {
      throw lineFault(file, 1, "no");
    }),
  ).toThrow(MantouError);
});

test.each([
  ["nobody", "f:1"],
  ["a:$6$x", "f:1"],
  ["# c\n:x", "f:2"],
  ["a:b", "f:1"],
])("a password file with %j is refused, and the passwords are not shown", async (text, where) => {
  const one = made("user-file");
  one.write("f", text);
  const backend = userFile.make(userFile.options.parse({ file: "f" }), one.parts);
  const error = await backend.start!().then(
    () => undefined,
    (caught: MantouError) => caught,
  );
  expect(error?.message).toContain(where);
  expect(error?.message).not.toContain("$6$x");
});

test("a user whose line changes or goes is disconnected, others are not", async () => {
  const one = made("user-file");
  one.write("f", "a: p\nb: p\nc: p\n");
  const options = userFile.options.parse({ file: "f", password: { algorithm: "plain" } });
  const backend = userFile.make(options, one.parts);
  await backend.start!();
  rewrite(one, "f", "a: p\nb: q\nd: p\n");
  for (const deadlineMs = performance.now() + 30_000; one.revoked.length === 0 && performance.now() < deadlineMs;)
    await Bun.sleep(10);
  await backend.stop!();
  expect(one.revoked).toEqual([{ username: "b" }, { username: "c" }]);
  expect(await askAuthenticate(backend, attemptOf({ username: "d" }, " p"))).toMatchObject({ verdict: "allow" });
});

test("a secret among the client ids is not shown when its line makes no sense", async () => {
  const one = made("client-id");
  one.write("f", "ok\nrobot passwd=hunter2\n");
  const error = await clientId.make(clientId.options.parse({ file: "f" }), one.parts).start!().catch(
    (caught: MantouError) => caught,
  );
  expect((error as MantouError).message).toContain("f:2: found something else as word 2");
  expect((error as MantouError).message).not.toContain("hunter2");
});

test("who is changed in the table by another process is disconnected", async () => {
  const one = made("tables");
  const users = new UserTable(() => one.db, one.parts.passwords);
  await users.put("a", Buffer.from("p"));
  await users.put("a", Buffer.from("p")); // before the start: nobody's loss
  await users.putClient("x", undefined, []);
  const byName = userTable.make({}, one.parts);
  const byId = clientId.make(clientId.options.parse({}), one.parts);
  await byName.start!();
  await byId.start!();
  byName.handleDbChange!();
  byId.handleDbChange!();
  expect(one.revoked).toEqual([]);
  users.delete("a");
  await users.putClient("x", Buffer.from("p"), []);
  byName.handleDbChange!();
  byId.handleDbChange!();
  expect(one.revoked).toHaveLength(2);
  expect(one.revoked[1]).toEqual({ clientId: "x" });
  const client = attemptOf({ username: "a" }, undefined).client;
  expect([one.revoked[0]!.holds!(client), one.revoked[0]!.holds!({ ...client, username: "b" })]).toEqual([true, false]);
});

test("a secret is shown nowhere, and read from where it is said to be", () => {
  const secret = new Secret("hunter2");
  for (const shown of [
    String(secret),
    JSON.stringify({ secret }),
    inspect({ secret }),
    Bun.inspect(secret),
    `${secret}`,
  ])
    expect(shown).not.toContain("hunter2");
  expect(secret.reveal()).toBe("hunter2");
  const one = made("secret");
  one.write("s", "from a file\n");
  expect(new Secret(`file:${join(one.parts.baseDir, "s")}`).reveal()).toBe("from a file");
  expect(() => new Secret("file:/nowhere/s").reveal()).toThrow(MantouError);
  expect(() => new Secret("env:MANTOU_TEST_NO_SUCH_NAME").reveal()).toThrow(/not set/);
});
