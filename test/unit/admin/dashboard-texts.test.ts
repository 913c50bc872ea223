// Each text of the dashboard is there in both languages, stands for the same values, and has a name of its own.
import { expect, test } from "bun:test";
import { texts as common } from "#admin/dashboard/common-texts.ts";
import { texts as operating } from "#admin/dashboard/operating-texts.ts";
import type { Text } from "#admin/dashboard/text.ts";
import { texts as watching } from "#admin/dashboard/watching-texts.ts";
import { Metric } from "#core/metrics.ts";

const tables: readonly Readonly<Record<string, Text>>[] = [common, watching, operating];
const all = tables.flatMap((table) => Object.entries(table));

test("no text has two meanings", () => {
  expect(all.length).toBeGreaterThan(300);
  expect(new Set(all.map(([key]) => key)).size).toBe(all.length);
});

test("both languages say something, about the same values", () => {
  const valuesOf = (text: string): string[] => [...text.matchAll(/\{\w+\}/g)].map(([value]) => value).toSorted();
  const wrong = all.filter(
    ([, { en, zh }]) => en.trim() === "" || zh.trim() === "" || valuesOf(en).join() !== valuesOf(zh).join(),
  );
  expect(wrong).toEqual([]);
});

test("each reason for a drop has its words", () => {
  const reasons = Object.keys(Metric).flatMap((name) => /^messages\.dropped\.(\w+)$/.exec(name)?.[1] ?? []);
  expect(reasons.filter((reason) => !Object.hasOwn(common, `drop.${reason}`))).toEqual([]);
});
