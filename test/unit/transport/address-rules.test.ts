import { describe, expect, test } from "bun:test";
import { isAddressAllowed, parseAddressBlock, parseAddressRule } from "#transport/address-rules.ts";

describe("blocks", () => {
  test.each([
    ["10.0.0.0/8", "10.255.1.2", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["10.0.0.0/8", "::ffff:10.1.1.1", true],
    ["10.0.0.0/8", "::1", false],
    ["192.0.2.7", "192.0.2.7", true],
    ["192.0.2.7", "192.0.2.8", false],
    ["0.0.0.0/0", "203.0.113.9", true],
    ["2001:db8::/32", "2001:db8:1::2", true],
    ["2001:db8::/32", "2001:db9::1", false],
    ["fe80::/10", "fe80::1%eth0", true],
    ["all", "10.0.0.1", true],
    ["all", "", true],
    ["0.0.0.0/0", "", false],
  ])("%s has %j: %p", (block, address, has) => {
    expect(parseAddressBlock(block)!.has(address)).toBe(has);
  });

  test.each([
    "",
    "10.0.0.0/33",
    "10.0.0/8",
    "::/129",
    "10.0.0.0/",
    "10.0.0.0/8/8",
    "10.0.0.0/-1",
    "host",
    "10.0.0.0/1e1",
  ])("%j is none", (text) => expect(parseAddressBlock(text)).toBeUndefined());
});

describe("rules", () => {
  const rules = (...texts: string[]) => texts.map((text) => parseAddressRule(text)!);

  test("the first that matches decides", () => {
    const some = rules("deny 10.0.0.1", "allow 10.0.0.0/8", "deny all");
    expect(isAddressAllowed(some, "10.0.0.1")).toBe(false);
    expect(isAddressAllowed(some, "10.0.0.2")).toBe(true);
    expect(isAddressAllowed(some, "192.0.2.1")).toBe(false);
    expect(isAddressAllowed(some, "")).toBe(false);
  });

  test("none that matches allows", () => {
    expect(isAddressAllowed(rules("deny 10.0.0.1"), "10.0.0.2")).toBe(true);
    expect(isAddressAllowed([], "10.0.0.2")).toBe(true);
  });

  test.each(["allow", "permit all", "deny 10.0.0.0/99", "deny all all", ""])("%j is no rule", (text) =>
    expect(parseAddressRule(text)).toBeUndefined(),
  );
});
