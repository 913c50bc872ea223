/** The way to a PostgreSQL or MySQL server: its options, and what `Bun.SQL` is given for them. */
import type { SQL } from "bun";
import { readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { choice, secret, text, wholeNumber } from "#access/option.ts";
import { MantouError } from "#base/error.ts";

/** Who asks for a server. */
export interface ServerPlace {
  /** For messages, such as `access: postgresql`. */
  readonly label: string;
  /** Relative paths start here. */
  readonly baseDir: string;
}

/** `username` says what the user must be allowed. */
export function serverOptions(port: number, username: string) {
  return z.strictObject({
    host: text("name or address of the server").default("127.0.0.1"),
    port: wholeNumber(1, 65_535, "its port").default(port),
    database: text("the database"),
    username: text(username),
    password: secret("this user's password").optional(),
    tls: choice(["off", "verify"], "verify: TLS, and the certificate and its name must be right").default("off"),
    caFile: text("PEM: who may have signed it; unset: those whom the system trusts").optional(),
  });
}

export type ServerOptions = z.output<ReturnType<typeof serverOptions>>;

/** Closed when unused for this long; opened anew after that long, so that a server that has moved is found. */
const IDLE_SEC = 60;
const LIFETIME_SEC = 1800;

/** Throws MantouError `access_invalid` or `secret_missing`. */
export function connectionOptions(
  adapter: "postgres" | "mysql",
  { host, port, database, username, password, tls, caFile }: ServerOptions,
  place: ServerPlace,
): SQL.Options {
  return {
    adapter,
    // Without one, DATABASE_URL and its like would have a say; all that matters in it is said by what follows.
    url: `${adapter}://localhost`,
    hostname: host,
    port,
    database,
    username,
    password: password?.reveal() ?? "",
    tls: tls === "off" ? "disable" : { rejectUnauthorized: true, ...caOf(caFile, place) },
    max: 1,
    idleTimeout: IDLE_SEC,
    maxLifetime: LIFETIME_SEC,
    // The guard's deadline is what counts.
    connectionTimeout: 0,
    bigint: false,
  };
}

function caOf(file: string | undefined, place: ServerPlace): { ca?: string } {
  if (file === undefined) return {};
  const path = pathOf(file, place);
  try {
    return { ca: readFileSync(path, "utf8") };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "not readable";
    throw new MantouError("access_invalid", `${place.label}: caFile: ${path}: ${code}`);
  }
}

export function pathOf(file: string, { baseDir }: Pick<ServerPlace, "baseDir">): string {
  return isAbsolute(file) ? file : join(baseDir, file);
}
