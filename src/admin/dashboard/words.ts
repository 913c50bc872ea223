/** What is written in the language that was chosen: texts, numbers, sizes, times. */
import { Cell } from "./cell.ts";
import { texts as common } from "./common-texts.ts";
import { texts as operating } from "./operating-texts.ts";
import { texts as watching } from "./watching-texts.ts";

const texts = { ...common, ...watching, ...operating };
export type TextKey = keyof typeof texts;
export const languages = { en: "English", zh: "简体中文" } as const;
export type Language = keyof typeof languages;

const STORED = "mantou.language";

export const language = new Cell<Language>(firstLanguage());

export function chooseLanguage(chosen: Language): void {
  localStorage.setItem(STORED, chosen);
  language.set(chosen);
}

function firstLanguage(): Language {
  const stored = localStorage.getItem(STORED);
  if (stored === "en" || stored === "zh") return stored;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** `{name}` in the text stands for a value. */
export function t(key: TextKey, values: Readonly<Record<string, string | number>> = {}): string {
  return texts[key][language.value].replaceAll(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

/** The text when there is one by this name, else the name itself: for codes that the broker may add. */
export function named(prefix: string, name: string): string {
  const key = `${prefix}.${name}`;
  return Object.hasOwn(texts, key) ? t(key as TextKey) : name;
}

/** Of an alarm: what comes after a dot in its id says what it is about. */
export function alarmTitle({ id, title }: { readonly id: string; readonly title: string }): string {
  const kind = id.split(".")[0]!;
  const words = named("alarm", kind);
  return words === kind ? title : words;
}

/** Where a configuration value comes from: a place in a file and the like stand as they are. */
export function originOf(origin: string): string {
  return named("origin", origin);
}

const locale = (): string => (language.value === "zh" ? "zh-CN" : "en-GB");

export function number(value: number, digits = 0): string {
  return value.toLocaleString(locale(), { maximumFractionDigits: digits });
}

/** Three digits that say most: 12.3 k. */
export function short(value: number): string {
  if (value < 10 && value % 1 !== 0) return number(value, 1);
  if (value < 10_000) return number(Math.round(value));
  const [unit, by] = value < 1e6 ? ["k", 1e3] : value < 1e9 ? ["M", 1e6] : ["G", 1e9];
  return `${number(value / Number(by), 1)} ${unit}`;
}

const SIZE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value: number): string {
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < SIZE_UNITS.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${number(size, unit === 0 || size >= 100 ? 0 : 1)} ${SIZE_UNITS[unit]}`;
}

export function milliseconds(value: number): string {
  return `${number(value, value < 1 ? 2 : value < 10 ? 1 : 0)} ms`;
}

/** The two largest units: 3 d 4 h. */
export function duration(sec: number): string {
  const units = [
    ["unitDay", 86_400],
    ["unitHour", 3600],
    ["unitMinute", 60],
    ["unitSecond", 1],
  ] as const;
  const first = units.findIndex(([, size]) => sec >= size);
  const at = first < 0 ? units.length - 1 : first;
  let left = Math.floor(sec);
  const parts = units.slice(at, at + 2).map(([key, size]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return count === 0 && size !== units[at][1] ? "" : t(key, { count });
  });
  return parts.filter(Boolean).join(" ");
}

export function time(ms: number): string {
  return new Date(ms).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "medium" });
}

export function clock(ms: number): string {
  const date = new Date(ms);
  return `${date.toLocaleTimeString(locale(), { hour12: false })}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
