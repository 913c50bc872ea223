/** Signing in: what opens a session and how long it lasts, what a failure costs, what a key is worth. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Accounts } from "#admin/accounts.ts";
import { AdminDb } from "#admin/admin-db.ts";
import { isLocal } from "#admin/identity.ts";

const folder = mkdtempSync(join(tmpdir(), "mantou-accounts-"));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;

interface Site {
  readonly accounts: Accounts;
  readonly db: AdminDb;
  nowMs: number;
}

async function site(firstPassword?: string, auditCountMax = 100): Promise<Site> {
  const db = new AdminDb(join(folder, `${++count}.db`), auditCountMax);
  const made: Site = {
    db,
    nowMs: 1_000_000,
    accounts: new Accounts({ db: () => db, sessionSec: 60, firstPassword, nowMs: () => made.nowMs }),
  };
  await made.accounts.open();
  return made;
}

const here = { address: "127.0.0.1", isLocal: true };
const away = { address: "192.0.2.7", isLocal: false };

test("a session ends at its time, at sign-out, and when its account changes", async () => {
  const at = await site("long enough");
  const { accounts } = at;
  const open = async () => (await accounts.signIn("admin", "long enough", away)).token;
  const first = await open();
  expect(accounts.findSession(first, false)).toMatchObject({ name: "admin", role: "administrator", isDefault: false });
  at.nowMs += 60_000;
  expect(accounts.findSession(first, false)).toBeUndefined();
  const second = await open();
  accounts.signOut(second);
  expect(accounts.findSession(second, false)).toBeUndefined();
  const third = await open();
  await accounts.put("admin", { password: "another one" });
  expect(accounts.findSession(third, false)).toBeUndefined();
  expect(accounts.signIn("admin", "long enough", away)).rejects.toMatchObject({ code: "credentials_wrong" });
});

test("the well-known password is worth something on the broker's own machine alone, and nothing once it is changed", async () => {
  const { accounts } = await site();
  expect(accounts.hasDefault).toBe(true);
  expect(accounts.signIn("admin", "public", away)).rejects.toMatchObject({ code: "default_password" });
  const { token, identity } = await accounts.signIn("admin", "public", here);
  expect(identity.isDefault).toBe(true);
  expect(accounts.findSession(token, false)).toBeUndefined();
  expect(accounts.findSession(token, true)).toBeDefined();
  for (const weak of ["public", "short", ""])
    expect(accounts.changePassword("admin", "public", weak, "127.0.0.1")).rejects.toMatchObject({
      code: "password_invalid",
    });
  await accounts.changePassword("admin", "public", "a better one", "127.0.0.1");
  expect(accounts.hasDefault).toBe(false);
  expect(accounts.signIn("admin", "public", here)).rejects.toMatchObject({ code: "credentials_wrong" });
  expect((await accounts.signIn("admin", "a better one", away)).identity.isDefault).toBe(false);
});

test("a key is its secret's, until it ends", async () => {
  const at = await site("long enough");
  const { key } = at.accounts.addKey({ name: "k", role: "operator", createdBy: "admin", expiresAtSec: 2000 });
  expect(at.accounts.findKey(key)).toEqual({ name: "key k", role: "operator", way: "key" });
  const [id, secret] = key.split(".");
  const other = `${secret![0] === "A" ? "B" : "A"}${secret!.slice(1)}`;
  for (const wrong of [`${id}.${other}`, `${id}.`, id!, "", `${key}x`, `mk_0123456789abcdef.${secret}`])
    expect(at.accounts.findKey(wrong)).toBeUndefined();
  expect(JSON.stringify(at.accounts.listKeys())).not.toContain(secret!);
  at.nowMs = 2_000_000;
  expect(at.accounts.findKey(key)).toBeUndefined();
});

test("the audit log keeps the latest", async () => {
  const { db } = await site("long enough", 100);
  for (let i = 0; i < 130; i++)
    db.addAudit({ atMs: i, who: "a", way: "key", address: "", action: "x", target: "{}", outcome: 200 });
  const all = db.audit(1000);
  expect(all.map(({ atMs }) => atMs)).toEqual(Array.from({ length: 100 }, (_, i) => 129 - i));
  for (let i = 0; i < 1000; i++)
    db.addAudit({ atMs: 1000, who: "", way: "sign-in", address: "", action: "x", target: "{}", outcome: 401 });
  expect(db.audit(1000).filter(({ way }) => way === "key").length).toBe(70);
  expect(db.audit(2, all[1]!.seq).map(({ atMs }) => atMs)).toEqual([127, 126]);
});

test("a request is from this machine when nobody handed it on and it names this machine", () => {
  const peer = (address: string) => ({ address, isSocket: false, isTls: false, keepOpen: () => {} });
  const headers = (more: Record<string, string> = {}) => new Headers({ host: "localhost:18083", ...more });
  for (const address of ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
    expect(isLocal(peer(address), headers())).toBe(true);
  for (const address of ["192.0.2.1", "::ffff:192.0.2.1", "1270.0.0.1", "127.0.0.1.example", "", "::11"])
    expect(isLocal(peer(address), headers())).toBe(false);
  for (const host of ["127.0.0.1", "[::1]:18083", "LOCALHOST"])
    expect(isLocal(peer("::1"), headers({ host }))).toBe(true);
  for (const host of ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""])
    expect(isLocal(peer("::1"), headers({ host }))).toBe(false);
  for (const name of ["X-Forwarded-For", "x-forwarded-proto", "Forwarded", "Via", "X-Real-IP"])
    expect(isLocal(peer("127.0.0.1"), headers({ [name]: "127.0.0.1" }))).toBe(false);
});
