/**
 * Where operators reach the broker: one application on two doors.
 *
 *   admin.bind    HTTP or HTTPS   sign-in, API keys; strangers: /status, /health, signing in
 *   admin.socket  Unix socket     its owner alone (mode 0600), who needs no sign-in: the command line
 */
import { chmodSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import type { Server } from "bun";
import { MantouError } from "#base/error.ts";
import { formatBind, parseBind } from "#broker/bind-address.ts";
import type { Config } from "#broker/config.ts";
import type { Control } from "#broker/control.ts";
import type { Logger } from "#broker/log.ts";
import type { PluginRoutes } from "#broker/plugin-routes.ts";
import { addAccountRoutes } from "./account-routes.ts";
import { Accounts } from "./accounts.ts";
import { AdminDb } from "./admin-db.ts";
import { OtlpExport } from "./otlp.ts";
import { addDashboard } from "./dashboard-files.ts";
import { addPages } from "./pages.ts";
import { Feed } from "./feed.ts";
import type { Peer } from "./identity.ts";
import { type App, makeApp } from "./rest.ts";

const DB_FILE = "admin.db";
const SOCKET_PATH_BYTES_MAX = 107;
const BODY_BYTES_MAX = 8 * 1024 * 1024;
const IDLE_SEC = 10;

export interface AdminOptions {
  readonly config: Config;
  readonly control: Control;
  readonly log: Logger;
  /** Relative paths of the configuration start here. */
  readonly cwd?: string | undefined;
  /** Password of the first account, when there is none yet; undefined: the well-known one, taken on this machine only. */
  readonly firstPassword?: string | undefined;
  /** What plugins answer to administrators. */
  readonly pluginRoutes?: PluginRoutes;
}

export interface RunningAdmin {
  /** Such as `http://0.0.0.0:18083`; undefined where none was asked for. */
  readonly address: string | undefined;
  /** Of the Unix socket, or undefined. */
  readonly socketPath: string | undefined;
  stop(): Promise<void>;
}

/** Throws MantouError `listen_failed`, `certificate_invalid`, `admin_db_unusable`, `password_invalid`, with nothing left open. */
export async function startAdmin(options: AdminOptions): Promise<RunningAdmin> {
  const { config, control, log, cwd = process.cwd(), firstPassword, pluginRoutes = async () => undefined } = options;
  const { bind, socket, sessionSec, metrics, auditCountMax } = config.admin;
  const dataDir = resolve(cwd, config.node.data);
  let opened: AdminDb | undefined;
  const db = (): AdminDb => (opened ??= new AdminDb(join(dataDir, DB_FILE), auditCountMax));
  const accounts = new Accounts({ db, sessionSec, firstPassword });
  const parts = { control, accounts, db, log, sessionSec, metrics, pluginRoutes };
  const app = makeApp(parts);
  const feed = new Feed(control, (error) => log.error({ err: error }, "the live feed cannot ask the broker"));
  addAccountRoutes(app, parts);
  addPages(app, parts, feed);
  addDashboard(app);
  const servers: Server<undefined>[] = [];
  const otlp = startOtlp(options);
  const stop = async (): Promise<void> => {
    otlp?.stop();
    feed.stop();
    for (const server of servers) await server.stop(true);
    if (socketPath !== undefined) rmSync(socketPath, { force: true });
    opened?.close();
  };
  let socketPath: string | undefined;
  try {
    if (bind !== "") {
      await accounts.open();
      servers.push(listen(app, config.admin, cwd));
      if (accounts.hasDefault)
        log.warn(
          "admin: the first account is admin with password public, taken from this machine only until it is changed",
        );
    }
    if (socket !== "") {
      const path = isAbsolute(socket) ? socket : join(dataDir, socket);
      const server = await listenOnSocket(app, path, cwd, log);
      if (server) {
        servers.push(server);
        socketPath = path;
      }
    }
  } catch (error) {
    await stop();
    throw error;
  }
  const scheme = config.admin.cert === "" ? "http" : "https";
  const address =
    bind === "" ? undefined : `${scheme}://${formatBind({ ...parseBind(bind)!, port: servers[0].port! })}`;
  return { address, socketPath, stop };
}

function startOtlp({ config, control, log }: AdminOptions): OtlpExport | undefined {
  const { otlpUrl: url, otlpSec: everySec } = config.admin;
  if (url === "") return undefined;
  const headers = process.env["OTEL_EXPORTER_OTLP_HEADERS"] ?? "";
  return new OtlpExport({ url, everySec, node: config.node.name, headers }, control, log);
}

const common = { development: false, maxRequestBodySize: BODY_BYTES_MAX } as const;

function listen(app: App, { bind, cert, key }: Config["admin"], cwd: string): Server<undefined> {
  const { host, port } = parseBind(bind)!;
  const isTls = cert !== "";
  const tls = isTls ? { tls: { cert: readPem(resolve(cwd, cert)), key: readPem(resolve(cwd, key)) } } : {};
  try {
    return Bun.serve({
      ...common,
      ...tls,
      hostname: host,
      port,
      reusePort: false,
      idleTimeout: IDLE_SEC,
      fetch(request, server) {
        const keepOpen = (): void => server.timeout(request, 0);
        const peer: Peer = { address: server.requestIP(request)?.address ?? "", isSocket: false, isTls, keepOpen };
        return app.fetch(request, { peer });
      },
    });
  } catch (error) {
    throw new MantouError("listen_failed", `admin: ${bind} cannot be listened on: ${(error as Error).message}`);
  }
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new MantouError("certificate_invalid", `admin: ${path}: ${(error as Error).message}`);
  }
}

/** Undefined, with a line in the log, when the path is too long for a socket or somebody else listens there. */
async function listenOnSocket(
  app: App,
  path: string,
  cwd: string,
  log: Logger,
): Promise<Server<undefined> | undefined> {
  const shorter = relative(process.cwd(), path);
  const name = shorter.length < path.length && process.cwd() === cwd ? shorter : path;
  if (Buffer.byteLength(name) > SOCKET_PATH_BYTES_MAX) {
    log.warn(`admin: no socket for the command line: ${path} is longer than ${SOCKET_PATH_BYTES_MAX} bytes`);
    return undefined;
  }
  if (await isTaken(name)) {
    log.warn(`admin: no socket for the command line: another process listens on ${path}`);
    return undefined;
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  rmSync(path, { force: true });
  const before = process.umask(0o177);
  try {
    const server = Bun.serve({
      ...common,
      unix: name,
      fetch(request, own) {
        const keepOpen = (): void => own.timeout(request, 0);
        return app.fetch(request, { peer: { address: "", isSocket: true, isTls: false, keepOpen } });
      },
    });
    chmodSync(path, 0o600);
    return server as Server<undefined>;
  } catch (error) {
    throw new MantouError("listen_failed", `admin: ${path} cannot be listened on: ${(error as Error).message}`);
  } finally {
    process.umask(before);
  }
}

async function isTaken(path: string): Promise<boolean> {
  try {
    const socket = await Bun.connect({ unix: path, socket: { data() {} } });
    socket.terminate();
    return true;
  } catch {
    return false;
  }
}
