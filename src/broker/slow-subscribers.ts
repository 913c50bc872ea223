/**
 * Who reads too slowly: the clients whose links held unsent bytes for longest or most, now and in the last minutes.
 *
 *   links that the kernel takes no bytes for (`TcpTransport.watched`) ─ once a second ─► those seen twice ─► table of 100
 *
 * Only links that are blocked are looked at, never all of them, and a client's name is read only when it has a place in the table.
 */
import { Connection } from "#mqtt/connection.ts";
import type { TcpLink, TcpTransport } from "#transport/tcp.ts";

export interface SlowSubscriber {
  readonly clientId: string;
  readonly address: string;
  readonly listener: string;
  /** The most that was seen waiting for its socket. */
  readonly unsentBytesMax: number;
  /** How long its socket had bytes waiting without a break, at most. */
  readonly blockedMsMax: number;
  /** Wall clock, milliseconds. */
  readonly lastMs: number;
}

const COUNT_MAX = 100;
const SINCE_COUNT_MAX = 100_000;
const KEPT_MS = 300_000;

export class SlowSubscribers {
  private readonly byId = new Map<string, SlowSubscriber>();
  /** When a blocked link was first seen, monotonic milliseconds. */
  private since = new Map<TcpLink, number>();

  constructor(
    private readonly transport: TcpTransport,
    private readonly wallMs: () => number = Date.now,
  ) {}

  /** About once a second. */
  look(nowMs: number): void {
    const blocked = new Map<TcpLink, number>();
    for (const link of this.transport.watched.keys()) {
      if (link.unsentBytes === 0 || blocked.size >= SINCE_COUNT_MAX) continue;
      const sinceMs = this.since.get(link);
      blocked.set(link, sinceMs ?? nowMs);
      if (sinceMs !== undefined) this.note(link, nowMs - sinceMs);
    }
    this.since = blocked;
    const endMs = this.wallMs() - KEPT_MS;
    for (const [clientId, { lastMs }] of this.byId) if (lastMs < endMs) this.byId.delete(clientId);
  }

  /** At most `countMax`, the worst first. */
  top(by: "bytes" | "time" = "bytes", countMax = 10): SlowSubscriber[] {
    const figure = ({ unsentBytesMax, blockedMsMax }: SlowSubscriber) =>
      by === "bytes" ? unsentBytesMax : blockedMsMax;
    return [...this.byId.values()].sort((a, b) => figure(b) - figure(a)).slice(0, countMax);
  }

  private note({ protocol, unsentBytes }: TcpLink, blockedMs: number): void {
    if (!(protocol instanceof Connection) || protocol.session < 0) return;
    const { clientId, address, listener } = protocol.info();
    const known = this.byId.get(clientId);
    if (!known && this.byId.size >= COUNT_MAX && !this.makeRoom(unsentBytes, blockedMs)) return;
    this.byId.set(clientId, {
      clientId,
      address,
      listener,
      unsentBytesMax: Math.max(unsentBytes, known?.unsentBytesMax ?? 0),
      blockedMsMax: Math.max(blockedMs, known?.blockedMsMax ?? 0),
      lastMs: this.wallMs(),
    });
  }

  /** The least of the table gives way to one that is worse. */
  private makeRoom(unsentBytes: number, blockedMs: number): boolean {
    const [least] = [...this.byId.values()].sort((a, b) => a.unsentBytesMax - b.unsentBytesMax);
    if (!least || (least.unsentBytesMax >= unsentBytes && least.blockedMsMax >= blockedMs)) return false;
    return this.byId.delete(least.clientId);
  }
}
