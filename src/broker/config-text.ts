/** The words of a configuration error: what was found, and which known key an unknown one may stand for. */
import { escapeControl } from "./log-text.ts";

const SHOWN_CHARACTERS_MAX = 80;

/** What was found, on one line and of bounded length. */
export function describeFound(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  if (typeof value !== "string") return String(value);
  const cut = value.length > SHOWN_CHARACTERS_MAX ? `${value.slice(0, SHOWN_CHARACTERS_MAX)}…` : value;
  return escapeControl(JSON.stringify(cut));
}

/** The known word closest to `word`, when it is close enough to have been meant. */
export function suggest(word: string, known: readonly string[]): string | undefined {
  const distanceMax = Math.max(2, Math.floor(word.length / 4));
  let best: string | undefined;
  let bestDistance = distanceMax + 1;
  for (const candidate of known) {
    // A word of three letters is two edits away from too many others.
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance && distance < candidate.length / 2) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours between two words. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const replaced = last[column - 1] + (a[row - 1] === b[column - 1] ? 0 : 1);
      let least = Math.min(replaced, last[column] + 1, current[column - 1] + 1);
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1])
        least = Math.min(least, beforeLast[column - 2] + 1);
      current.push(least);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length];
}
