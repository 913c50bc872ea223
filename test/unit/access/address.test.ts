import { expect, test } from "bun:test";
import { isInRange, networkOf, parseAddress, parseRange } from "#access/address.ts";

const hex = (text: string): string | undefined => {
  const bytes = parseAddress(text);
  return bytes && Buffer.from(bytes).toString("hex");
};

test("addresses of both families become sixteen bytes", () => {
  expect(hex("1.2.3.4")).toBe("00000000000000000000ffff01020304");
  expect(hex("::ffff:1.2.3.4")).toBe(hex("1.2.3.4")!);
  expect(hex("::ffff:102:304")).toBe(hex("1.2.3.4")!);
  expect(hex("::")).toBe("0".repeat(32));
  expect(hex("::1")).toBe(`${"0".repeat(31)}1`);
  expect(hex("2001:DB8::8:800:200c:417a")).toBe("20010db80000000000080800200c417a");
  expect(hex("fe80::1%eth0")).toBe("fe800000000000000000000000000001");
  expect(hex("1:2:3:4:5:6:7:8")).toBe("00010002000300040005000600070008");
  for (const none of ["", "x", "1.2.3", "1.2.3.4.5", "256.1.1.1", "::1::", "/run/mantou.sock"])
    expect(parseAddress(none)).toBeUndefined();
});

test.each([
  ["10.0.0.0/8", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.1.1"], ["9.255.255.255", "11.0.0.0", "::", "", "x"]],
  ["10.0.0.7", ["10.0.0.7"], ["10.0.0.6", "10.0.0.8"]],
  ["192.168.4.0/22", ["192.168.4.0", "192.168.7.255"], ["192.168.3.255", "192.168.8.0"]],
  ["0.0.0.0/0", ["1.1.1.1", "255.255.255.255"], ["::1", "2001:db8::1"]],
  ["2001:db8::/33", ["2001:db8:7fff::1"], ["2001:db8:8000::1", "10.0.0.1"]],
  ["::/0", ["::1", "10.0.0.1"], []],
])("%s", (range, inside, outside) => {
  const parsed = parseRange(range)!;
  for (const address of inside) expect({ address, is: isInRange(address, parsed) }).toEqual({ address, is: true });
  for (const address of outside) expect({ address, is: isInRange(address, parsed) }).toEqual({ address, is: false });
});

test("what is no range is none", () => {
  for (const none of ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/8/8", "10.0.0/8", "a/8", "/8", "10.0.0.0/-1"])
    expect(parseRange(none)).toBeUndefined();
});

test("a customer is an IPv4 address or an IPv6 /64", () => {
  expect(networkOf("1.2.3.4")).toBe(networkOf("::ffff:1.2.3.4")!);
  expect(networkOf("1.2.3.4")).not.toBe(networkOf("1.2.3.5")!);
  expect(networkOf("2001:db8::1")).toBe(networkOf("2001:db8:0:0:ffff::")!);
  expect(networkOf("2001:db8::1")).not.toBe(networkOf("2001:db8:0:1::1")!);
  expect(networkOf("")).toBeUndefined();
});
