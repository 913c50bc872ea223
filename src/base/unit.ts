/** Units that a number in the configuration may carry: `1MiB` for a key that counts bytes, `5m` for one that counts seconds. */

export type Unit = "bytes" | "seconds";

const FACTORS: Record<Unit, Readonly<Record<string, number>>> = {
  bytes: { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 },
  seconds: { s: 1, m: 60, h: 3600, d: 86_400 },
};

/** The unit that a key's name announces, if any. */
export function unitOf(key: string): Unit | undefined {
  if (/bytes/i.test(key)) return "bytes";
  return /(?:^s|S)ec(?![a-z])/.test(key) ? "seconds" : undefined;
}

export function unitNames(unit: Unit): readonly string[] {
  return Object.keys(FACTORS[unit]);
}

/** A regular expression (source) for the texts that `parseUnit` reads, for editors. */
export function unitPattern(unit: Unit): string {
  return String.raw`^\d+(\.\d+)? ?(${unitNames(unit).join("|")})$`;
}

/** `"1.5KiB"` → 1536; undefined when the text is no number with a unit. The result may be a fraction: the caller checks. */
export function parseUnit(text: string, unit: Unit): number | undefined {
  if (!new RegExp(unitPattern(unit)).test(text)) return undefined;
  const name = /[A-Za-z]+$/.exec(text)?.[0] ?? "";
  return Number.parseFloat(text) * FACTORS[unit][name]!;
}

/** The shortest exact form: 1048576 → `1MiB`. Seconds stay plain numbers: nobody reads `4294967295` better in days. */
export function formatUnit(value: number, unit: Unit): string {
  if (unit === "seconds" || value === 0) return String(value);
  const [name, factor] = Object.entries(FACTORS.bytes).findLast(([, factor]) => value % factor === 0)!;
  return factor === 1 ? String(value) : `${value / factor}${name}`;
}
