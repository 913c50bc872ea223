/** The HTTP service that a broker asks about logins. It lets everybody in, after a while; or hangs; or is not there. */
import type { Server } from "bun";

export class LoginService {
  askedCount = 0;
  private isHanging = false;
  private server: Server<undefined> | undefined;

  constructor(
    private readonly port: number,
    private readonly delayMs: number,
  ) {}

  start(): void {
    this.isHanging = false;
    this.server ??= Bun.serve({
      hostname: "127.0.0.1",
      port: this.port,
      idleTimeout: 255,
      development: false,
      fetch: () => this.answer(),
    });
  }

  /** Questions from now on have no answer, until it is started again and after. */
  hang(): void {
    this.isHanging = true;
  }

  /** Connections are cut, new ones refused. */
  async stop(): Promise<void> {
    await this.server?.stop(true);
    this.server = undefined;
  }

  private async answer(): Promise<Response> {
    this.askedCount++;
    if (this.isHanging) await new Promise(() => {});
    await Bun.sleep(this.delayMs);
    return new Response("");
  }
}
