/**
 * Clients that come and go too often are banned for a while: a device in a restart loop, two with one client id that take
 * each other's session. Counted per client id, in windows; off until configured.
 */
import type { ClientInfo } from "#core/ports.ts";
import type { Ban } from "./access-db.ts";

const CLIENT_COUNT_MAX = 100_000;

export interface FlappingOptions {
  /** Disconnects within `windowSec` that lead to a ban. */
  readonly countMax: number;
  readonly windowSec: number;
  readonly banSec: number;
}

export class Flapping {
  bannedCount = 0;
  private readonly windows = new Map<string, { untilSec: number; count: number }>();

  constructor(
    private readonly options: FlappingOptions,
    private readonly ban: (ban: Ban) => void,
  ) {}

  handleDisconnect({ clientId }: ClientInfo, nowSec: number): void {
    const { countMax, windowSec, banSec } = this.options;
    let window = this.windows.get(clientId);
    // A clock that is set back must not make a window of a year.
    if (!window || nowSec >= window.untilSec || window.untilSec > nowSec + windowSec) {
      window = { untilSec: nowSec + windowSec, count: 0 };
      this.windows.delete(clientId);
      this.windows.set(clientId, window);
      if (this.windows.size > CLIENT_COUNT_MAX) this.windows.delete(this.windows.keys().next().value!);
    }
    if (++window.count < countMax) return;
    this.windows.delete(clientId);
    this.bannedCount++;
    const reason = `${countMax} disconnects within ${windowSec} s`;
    this.ban({ kind: "clientId", value: clientId, untilSec: nowSec + banSec, reason });
  }
}
