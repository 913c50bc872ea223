/** Where the dashboard is: `#/clients/a%2Fb` is the parts clients and a/b, so that every view has an address. */
import { Cell } from "./cell.ts";

export type Route = readonly string[];

export const route = new Cell<Route>(read());
addEventListener("hashchange", () => route.set(read()));

function read(): Route {
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean);
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return [];
  }
}

export function hrefOf(...parts: Route): string {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export function go(...parts: Route): void {
  location.hash = hrefOf(...parts);
}
