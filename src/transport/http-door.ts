/**
 * A server of Bun.serve on a port, that can be opened there anew: for other certificates, and after a rest.
 *
 *   replace   the new server opens beside the old one (both share the port), which then takes no more; its connections live on
 *   rest      takes no more connections, closes those that are idle; `resume` opens it again
 */
import type { Server } from "bun";

type AnyServer<T> = Server<T> & { closeIdleConnections?(): void };

export class HttpDoor<T> {
  readonly port: number;
  /** It takes no connections for now. */
  isResting = false;
  private server: Server<T>;
  /** Servers that take no more, and still have connections. */
  private readonly old = new Set<Server<T>>();
  private isStopped = false;

  /** Throws what `open` throws. */
  constructor(
    private readonly open: (port: number) => Server<T>,
    port: number,
  ) {
    this.server = open(port);
    this.port = this.server.port!;
  }

  replace(): void {
    if (this.isResting) return; // what is opened after the rest is new
    const old = this.server;
    this.server = this.open(this.port);
    this.retire(old);
  }

  /** Closes connections that have been answered and ask for nothing now. */
  closeIdle(): void {
    for (const server of [this.server, ...this.old]) (server as AnyServer<T>).closeIdleConnections?.();
  }

  rest(): void {
    if (this.isResting || this.isStopped) return;
    this.isResting = true;
    this.retire(this.server);
  }

  /** Throws what `open` throws; it goes on resting then. */
  resume(): void {
    if (!this.isResting || this.isStopped) return;
    this.server = this.open(this.port);
    this.isResting = false;
  }

  /** Takes no more connections. `isHard`: those that are there end too. Resolves when all have ended. */
  async stop(isHard: boolean): Promise<void> {
    this.isStopped = true;
    await Promise.all([this.server, ...this.old].map((server) => server.stop(isHard)));
  }

  private retire(server: Server<T>): void {
    this.old.add(server);
    void server.stop().then(() => this.old.delete(server));
  }
}
