/**
 * Where operators reach the broker: one application on two doors.
 *
 *   admin.bind    HTTP or HTTPS   sign-in, API keys; strangers: /status, /health, signing in
 *   admin.socket  Unix socket     its owner alone (mode 0600), who needs no sign-in: the command line
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import type { Server } from "bun";
import { inPart, MantouError } from "#base/error.ts";
import { formatBind, parseBind } from "#broker/bind-address.ts";
import type { Config } from "#broker/config.ts";
import type { Control } from "#broker/control.ts";
import { descriptorLimit } from "#broker/descriptor-limit.ts";
import type { Logger } from "#broker/log.ts";
import type { PluginRoutes } from "#broker/plugin-routes.ts";
import { HttpDoor } from "#transport/http-door.ts";
import { HttpGuard } from "#transport/http-guard.ts";
import { TlsCredentials } from "#transport/tls-credentials.ts";
import { probePort } from "#transport/websocket-server.ts";
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
/** How often certificate files are looked at, and connections when nobody else does. */
const CERTIFICATES_MS = 10_000;
const GUARD_MS = 250;

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
  /** Of the process's HTTP connections; undefined where nobody else has one. */
  readonly guard?: HttpGuard | undefined;
}

export interface RunningAdmin {
  /** Such as `http://0.0.0.0:18083`; undefined where none was asked for. */
  readonly address: string | undefined;
  /** Of the Unix socket, or undefined. */
  readonly socketPath: string | undefined;
  /** Looks for a changed certificate now, and not only every few seconds. Connections stay. */
  reload(): Promise<void>;
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
  let entrance: Entrance | undefined;
  let socketServer: Server<undefined> | undefined;
  const otlp = startOtlp(options);
  const stop = async (): Promise<void> => {
    otlp?.stop();
    feed.stop();
    await entrance?.stop();
    await socketServer?.stop(true);
    if (socketPath !== undefined) rmSync(socketPath, { force: true });
    opened?.close();
  };
  let socketPath: string | undefined;
  try {
    if (bind !== "") {
      await accounts.open();
      entrance = new Entrance(app, options);
      if (accounts.hasDefault)
        log.warn(
          "admin: the first account is admin with password public, taken from this machine only until it is changed",
        );
    }
    if (socket !== "") {
      const path = isAbsolute(socket) ? socket : join(dataDir, socket);
      socketServer = await listenOnSocket(app, path, cwd, log);
      if (socketServer) socketPath = path;
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { address: entrance?.address, socketPath, reload: async () => entrance?.refresh(), stop };
}

function startOtlp({ config, control, log }: AdminOptions): OtlpExport | undefined {
  const { otlpUrl: url, otlpSec: everySec } = config.admin;
  if (url === "") return undefined;
  const headers = process.env["OTEL_EXPORTER_OTLP_HEADERS"] ?? "";
  return new OtlpExport({ url, everySec, node: config.node.name, headers }, control, log);
}

const common = { development: false, maxRequestBodySize: BODY_BYTES_MAX } as const;

/** Throws MantouError `certificate_invalid`; undefined where it is not HTTPS. */
export function readCredentials({ admin: { bind, cert, key } }: Config, cwd: string): TlsCredentials | undefined {
  if (bind === "" || cert === "") return undefined;
  const certificates = [{ cert: resolve(cwd, cert), key: resolve(cwd, key) }];
  try {
    return new TlsCredentials({ certificates, verify: "none", versionMin: "1.2" });
  } catch (error) {
    throw inPart("admin", error);
  }
}

/** The port for administrators: its certificate is replaced when the files have changed, its connections are guarded. */
class Entrance {
  readonly address: string;
  private readonly door: HttpDoor<undefined>;
  private readonly credentials: TlsCredentials | undefined;
  private readonly timers: Timer[] = [];
  private readonly leave: () => void;

  /** Throws MantouError `listen_failed` or `certificate_invalid`. */
  constructor(
    private readonly app: App,
    private readonly options: AdminOptions,
  ) {
    const { config, cwd = process.cwd() } = options;
    const { bind } = config.admin;
    const at = parseBind(bind)!;
    this.credentials = readCredentials(config, cwd);
    const isTls = this.credentials !== undefined;
    if (isTls) {
      this.timers.push(setInterval(() => void this.refresh(), CERTIFICATES_MS));
    }
    // Two servers share the port for a moment when the certificate is replaced; nobody else may have it.
    this.door = new HttpDoor((port) => this.open(at.host, port), isTls ? probePort("admin", at) : at.port);
    this.address = `${isTls ? "https" : "http"}://${formatBind({ ...at, port: this.door.port })}`;
    this.leave = (options.guard ?? this.ownGuard()).add(this.door);
  }

  async refresh(): Promise<void> {
    const { log } = this.options;
    try {
      if (!(await this.credentials?.refresh())) return;
      this.door.replace();
      log.info("admin: its certificate has changed and is in use");
    } catch (error) {
      log.error(`admin: keeps its old certificate: ${(error as Error).message}`);
    }
  }

  async stop(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    this.leave();
    await this.door.stop(true);
  }

  private open(host: string, port: number): Server<undefined> {
    const { app, credentials } = this;
    const isTls = credentials !== undefined;
    try {
      return Bun.serve({
        ...common,
        ...(isTls && { tls: credentials.forServe() }),
        hostname: host,
        port,
        reusePort: isTls,
        idleTimeout: IDLE_SEC,
        fetch(request, server) {
          const keepOpen = (): void => server.timeout(request, 0);
          const peer: Peer = { address: server.requestIP(request)?.address ?? "", isSocket: false, isTls, keepOpen };
          return app.fetch(request, { peer });
        },
      });
    } catch (error) {
      const bind = formatBind({ host, port });
      throw new MantouError("listen_failed", `admin: ${bind} cannot be listened on: ${(error as Error).message}`);
    }
  }

  /** Beside several workers this process has no links. */
  private ownGuard(): HttpGuard {
    const { config, log } = this.options;
    const guard = new HttpGuard(config.broker.httpConnectionsMax, {
      descriptorsMax: descriptorLimit(),
      linkCount: () => 0,
      onChange(isResting, connectionCount) {
        if (isResting)
          log.warn({ connectionCount }, "admin: too many connections; it takes no more until there are fewer");
        else log.info({ connectionCount }, "admin: it takes connections again");
      },
      onFault: (error) => log.error({ err: error }, "admin: it cannot listen again; it is tried again"),
    });
    this.timers.push(setInterval(() => guard.look(performance.now()), GUARD_MS));
    return guard;
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
