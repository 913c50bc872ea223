/**
 * What the dashboard asks of the broker: REST of the same origin, with the session's cookie and its CSRF token.
 *
 * What it answers has its types in answers.ts. Whether somebody has signed in is noted in local storage, so that a
 * stranger's first page asks nothing that must be refused.
 */
import type { Identity, Role } from "#admin/identity.ts";
import { Cell } from "./cell.ts";

export interface Session {
  readonly username: string;
  readonly role: Role;
  readonly way: Identity["way"];
  readonly csrfToken?: string;
  readonly mustChangePassword: boolean;
}

/** `code` is `unreachable` when the broker did not answer at all. */
export class ApiError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export const API = "/api/v1";
const HINT = "mantou.signed-in";

/** Undefined: not known yet; null: nobody has signed in. */
export const session = new Cell<Session | null | undefined>(undefined);
/** The session ended without being asked to: the sign-in page says so. */
export const hasExpired = new Cell(false);

type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
type Params = Readonly<Record<string, unknown>>;

/** While a session gives way to the next one, whatever else is asked waits. */
let renewal: Promise<void> | undefined;

/** Joins what stands below the API, each part encoded: `at("clients", clientId)`. */
export function at(...parts: readonly string[]): string {
  return `/${parts.map(encodeURIComponent).join("/")}`;
}

/** Rejects with ApiError. Parameters that are undefined or empty are left out. */
export async function ask<T>(method: Method, path: string, params: Params = {}): Promise<T> {
  await renewal;
  return send(method, path, params);
}

async function send<T>(method: Method, path: string, params: Params): Promise<T> {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== "");
  const isInQuery = method === "GET" || method === "DELETE";
  const query = isInQuery ? new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString() : "";
  const headers: Record<string, string> = {};
  if (!isInQuery) headers["Content-Type"] = "application/json";
  if (method !== "GET" && session.value?.csrfToken !== undefined) headers["X-CSRF-Token"] = session.value.csrfToken;
  const body = isInQuery ? null : JSON.stringify(Object.fromEntries(given));
  const response = await fetch(`${API}${path}${query === "" ? "" : `?${query}`}`, { method, headers, body }).catch(
    () => undefined,
  );
  if (!response) throw new ApiError("unreachable", "", 0);
  const answer: unknown = await response.json().catch(() => undefined);
  if (response.ok) return answer as T;
  const { code = "bug", message = response.statusText } =
    (answer as { error?: { code: string; message: string } } | undefined)?.error ?? {};
  if (response.status === 401 && code === "unauthorized") endSession(true);
  throw new ApiError(code, message, response.status);
}

/** Finds out who has signed in, if anybody. */
export async function findSession(): Promise<void> {
  if (localStorage.getItem(HINT) === null) {
    session.set(null);
    return;
  }
  try {
    session.set(await ask<Session>("GET", "/session"));
  } catch (error) {
    if ((error as ApiError).status === 0) throw error;
    if (session.value !== null) endSession(false);
  }
}

export async function signIn(username: string, password: string): Promise<void> {
  const own = await send<Session>("POST", "/sign-in", { username, password });
  localStorage.setItem(HINT, "1");
  hasExpired.set(false);
  session.set(own);
}

/** All sessions of the account end with its password, so the new one signs in at once. */
export async function changePassword(username: string, oldPassword: string, password: string): Promise<void> {
  const work = (async () => {
    await send("PUT", "/session/password", { oldPassword, password });
    await signIn(username, password);
  })();
  renewal = work.catch(() => {}).finally(() => (renewal = undefined));
  await work;
}

export async function signOut(): Promise<void> {
  await ask("POST", "/sign-out");
  endSession(false);
}

function endSession(isExpired: boolean): void {
  localStorage.removeItem(HINT);
  hasExpired.set(isExpired && session.value !== null);
  session.set(null);
}

const ROLE_ORDER: readonly Role[] = ["viewer", "operator", "administrator"];

/** Whether who has signed in may do what needs this role; the broker asks again. */
export function may(role: Role): boolean {
  const own = session.value;
  return own !== null && own !== undefined && ROLE_ORDER.indexOf(own.role) >= ROLE_ORDER.indexOf(role);
}
