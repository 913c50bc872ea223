import { expect, test } from "bun:test";
import { reasonWord } from "#modules/presence.ts";
import { datetimeText, uptimeText } from "#modules/sys.ts";

test.each([
  [0, "0 seconds"],
  [24.9, "24 seconds"],
  [60, "1 minutes, 0 seconds"],
  [3600 + 25 * 60 + 24, "1 hours, 25 minutes, 24 seconds"],
  [86_400, "1 days, 0 hours, 0 minutes, 0 seconds"],
  [400 * 86_400 + 1, "400 days, 0 hours, 0 minutes, 1 seconds"],
])("%p seconds up are %p", (sec, text) => {
  expect(uptimeText(sec)).toBe(text);
});

test("a date is local, with two digits each", () => {
  expect(datetimeText(new Date(2026, 0, 2, 3, 4, 5))).toBe("2026-01-02 03:04:05");
});

test.each([
  [0, "client", "normal"],
  [4, "client", "disconnect_with_will"],
  [0x80, "client", "client_error"],
  [0, "link", "closed"],
  [0x8d, "broker", "keepalive_timeout"],
  [0x98, "broker", "kick"],
  [0x8e, "broker", "conflict"],
  [0x8b, "broker", "shutdown"],
  [0x80, "broker", "internal_error"],
] as const)("reason code %i by the %s is %s", (reasonCode, by, word) => {
  expect(reasonWord(reasonCode, by)).toBe(word);
});
