/**
 * Alarms of sessions whose queue is nearly full: `queue_high_watermark.<clientid>`, as emqttd had it.
 *
 *   a queue grows over the high mark ─ core/delivery.ts tells ─► noted ─ once a second ─► alarm … down to the low mark ─► cleared
 *
 * Only the sessions that are noted are looked at, so a million quiet queues cost nothing. Beyond the limits of `noted` and of the alarms
 * themselves queues are counted only.
 */
import type { Engine } from "#core/engine.ts";
import type { AlarmConfig } from "./alarm-schema.ts";
import type { Alarms } from "./alarms.ts";

const NOTED_COUNT_MAX = 1000;

export class QueueWatch {
  /** Sessions above the high mark of which nobody could be told. */
  overflowCount = 0;
  /** Client ids by session: a session's number may be given to another client. */
  private readonly noted = new Map<number, string>();

  constructor(
    private readonly engine: Engine,
    private readonly alarms: Alarms,
    private readonly config: AlarmConfig,
  ) {
    const { outboxCountMax, outboxBytesMax } = engine.limits.session;
    const { delivery } = engine;
    delivery.queueHighCount = Math.max(1, Math.ceil((outboxCountMax * config.queueHighPercent) / 100));
    delivery.queueHighBytes = Math.max(1, Math.ceil((outboxBytesMax * config.queueHighPercent) / 100));
    delivery.onQueueHigh = (session) => this.note(session);
  }

  /** Looks at every session once: after the store has restored what it had. */
  scan(): void {
    const { sessions, delivery } = this.engine;
    for (let session = 0; session < sessions.high; session++) {
      const outbox = sessions.queueOf(session)?.outbox;
      if (!outbox) continue;
      if (outbox.count >= delivery.queueHighCount || outbox.bytes >= delivery.queueHighBytes) this.note(session);
    }
  }

  /** About once a second. */
  look(): void {
    for (const [session, clientId] of this.noted) {
      if (this.isStillHigh(session, clientId)) this.set(session, clientId);
      else {
        this.noted.delete(session);
        this.alarms.clear(idOf(clientId));
      }
    }
  }

  private note(session: number): void {
    const clientId = this.engine.sessions.clientId(session);
    const before = this.noted.get(session);
    if (before === clientId) return;
    if (before !== undefined) this.alarms.clear(idOf(before)); // that session has ended
    if (before === undefined && this.noted.size >= NOTED_COUNT_MAX) this.overflowCount++;
    else this.noted.set(session, clientId);
  }

  private isStillHigh(session: number, clientId: string): boolean {
    const { sessions, limits } = this.engine;
    if (sessions.find(Buffer.from(clientId)) !== session) return false;
    const outbox = sessions.queueOf(session)?.outbox;
    if (!outbox) return false;
    const { outboxCountMax, outboxBytesMax } = limits.session;
    const low = Math.min(this.config.queueLowPercent, this.config.queueHighPercent) / 100;
    return outbox.count > outboxCountMax * low || outbox.bytes > outboxBytesMax * low;
  }

  private set(session: number, clientId: string): void {
    const { count, bytes } = this.engine.sessions.queueOf(session)!.outbox;
    const { outboxCountMax, outboxBytesMax } = this.engine.limits.session;
    const summary = `${count} of ${outboxCountMax} messages, ${bytes} of ${outboxBytesMax} bytes wait for ${clientId}`;
    const title = "the queue of a session is nearly full";
    this.alarms.set({ id: idOf(clientId), severity: "warning", title, summary });
  }
}

function idOf(clientId: string): string {
  return `queue_high_watermark.${clientId}`;
}
