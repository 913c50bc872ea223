/** PostgreSQL and MariaDB as Debian has them. User `mantou` with password `server pw`, database `access`. */
import { SQL } from "bun";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ServerProgram } from "./database-server.ts";

export const SERVER_PASSWORD = "server pw";

const HOME = "/usr/lib/postgresql";

function postgresProgram(name: string): string {
  const versions = existsSync(HOME) ? readdirSync(HOME).toSorted((a, b) => Number(b) - Number(a)) : [];
  return join(HOME, versions[0] ?? "0", "bin", name);
}

export const postgres: ServerProgram = {
  name: "PostgreSQL",
  program: postgresProgram("postgres"),
  refusesRoot: true,
  async prepare(folder, run) {
    const passwordFile = join(folder, "pw");
    await run(["sh", "-c", `umask 077; cat > ${passwordFile}`], SERVER_PASSWORD);
    const auth = ["--username=mantou", "--auth=scram-sha-256", `--pwfile=${passwordFile}`];
    const data = join(folder, "data");
    await run([postgresProgram("initdb"), "-D", data, ...auth, "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]);
    await certify(folder, run);
  },
  command(folder, port) {
    const settings = [
      `port=${port}`,
      "listen_addresses=127.0.0.1",
      `unix_socket_directories=${folder}`,
      "fsync=off",
      "shared_buffers=8MB",
      "max_connections=60",
      "ssl=on",
      `ssl_cert_file=${folder}/cert.pem`,
      `ssl_key_file=${folder}/key.pem`,
    ];
    const options = settings.flatMap((setting) => ["-c", setting]);
    return [postgresProgram("postgres"), "-D", join(folder, "data"), ...options];
  },
  async ping(port) {
    await once("postgres", port, "mantou@postgres", [
      "select 1 from pg_database where datname = 'access'",
      "create database access",
    ]);
  },
};

const SYSTEM_TABLES = ["mysql_system_tables.sql", "mysql_system_tables_data.sql"];

export const mariaDb: ServerProgram = {
  name: "MariaDB",
  program: "/usr/sbin/mariadbd",
  refusesRoot: true,
  async prepare(folder, run) {
    const tables = SYSTEM_TABLES.map((file) => readFileSync(join("/usr/share/mysql", file), "utf8"));
    const statements = [
      "create database mysql;",
      "use mysql;",
      "set @auth_root_socket=NULL;",
      "set @skip_auth_anonymous=1;",
      ...tables,
      "flush privileges;",
      `create user mantou@'127.0.0.1' identified by '${SERVER_PASSWORD}';`,
      "create database access character set utf8mb4 collate utf8mb4_bin;",
      "grant all on access.* to mantou@'127.0.0.1';",
      "",
    ];
    await certify(folder, run);
    await run(["mkdir", join(folder, "data")]);
    await run([...mariaDbCommand(folder), "--bootstrap", "--skip-networking"], statements.join("\n"));
  },
  command(folder, port) {
    return [
      ...mariaDbCommand(folder),
      `--port=${port}`,
      "--bind-address=127.0.0.1",
      "--skip-name-resolve",
      "--max-connections=60",
      `--ssl-cert=${folder}/cert.pem`,
      `--ssl-key=${folder}/key.pem`,
    ];
  },
  async ping(port) {
    await once("mysql", port, "access", ["select 1", "select 1"]);
  },
};

function mariaDbCommand(folder: string): string[] {
  return [
    "/usr/sbin/mariadbd",
    "--no-defaults",
    `--datadir=${folder}/data`,
    `--tmpdir=${folder}`,
    `--socket=${folder}/socket`,
    `--pid-file=${folder}/pid`,
    "--innodb-log-file-size=4M",
    "--innodb-buffer-pool-size=8M",
    "--innodb-flush-log-at-trx-commit=2",
  ];
}

/** A certificate that signs itself, for 127.0.0.1: `cert.pem`, `key.pem`. */
async function certify(folder: string, run: (command: readonly string[]) => Promise<void>): Promise<void> {
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${folder}/key.pem`];
  await run(["openssl", "req", "-x509", ...key, "-days", "2", "-out", `${folder}/cert.pem`, ...subject]);
}

/** The first statement, and the second where it found nothing. */
async function once(adapter: "postgres" | "mysql", port: number, where: string, statements: string[]): Promise<void> {
  const database = where.split("@")[1] ?? where;
  const sql = connectTo(adapter, port, database);
  try {
    const rows = await sql.unsafe<unknown[]>(statements[0]);
    if (rows.length === 0) await sql.unsafe(statements[1]);
  } finally {
    await sql.close({ timeout: 0 });
  }
}

/** For the tests' own statements. */
export function connectTo(adapter: "postgres" | "mysql", port: number, database = "access"): SQL {
  const server = { adapter, hostname: "127.0.0.1", port, database, username: "mantou", password: SERVER_PASSWORD };
  return new SQL({ ...server, url: `${adapter}://localhost`, max: 1, connectionTimeout: 2 });
}
