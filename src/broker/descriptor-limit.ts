/** How many connections the process's descriptor limit leaves room for, and what must not be done for the first time at that limit. */
import { readFileSync } from "node:fs";

/** Files, pipes, listeners, and whatever libraries open: at the limit Bun's accept loop would spin. */
const RESERVE = 256;
const UNKNOWN_LIMIT = 1024;

/** Room for connections; at least 1. Bun raises the soft limit to the hard one when it starts. */
export function connectionsMaxOfProcess(): number {
  return Math.max(1, descriptorLimit() - RESERVE);
}

let isWarm = false;

/**
 * Bun starts its HTTP client's thread at the first `fetch`, and ends the whole process when that finds no free descriptor. So it is
 * started while there are some; later a `fetch` that finds none only rejects.
 */
export async function warmHttpClient(): Promise<void> {
  if (isWarm) return;
  isWarm = true;
  await fetch("http://localhost/", { unix: "/nonexistent/mantou" }).catch(() => {});
}

/** What the process may open. */
export function descriptorLimit(): number {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    const match = /^Max open files\s+(\d+|unlimited)/m.exec(limits);
    if (match) return match[1] === "unlimited" ? Number.MAX_SAFE_INTEGER : Number(match[1]);
  } catch {
    // no /proc here
  }
  return UNKNOWN_LIMIT;
}
