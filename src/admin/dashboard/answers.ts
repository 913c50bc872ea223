/**
 * What the broker answers, as far as the dashboard looks at it. The broker's own types would bring its sources into a program for
 * browsers, where other globals hold; that they fit these is checked in test/interop/dashboard.test.ts.
 */

export interface Page<T> {
  readonly items: readonly T[];
  readonly cursor?: string | undefined;
}

type Counts = Readonly<Record<string, number>>;

interface Gauge {
  readonly value: number;
  readonly max: number;
}

export interface Histogram {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

export interface Overview {
  readonly info: {
    readonly node: string;
    readonly version: string;
    readonly runtime: string;
    readonly platform: string;
    readonly uptimeSec: number;
    readonly nowSec: number;
    readonly missingWorkers: readonly number[];
    readonly processes: readonly {
      readonly pid: number;
      readonly memoryBytes: number;
      readonly heapBytes: number;
      readonly lagMs: number;
      readonly cpuMs: number;
      readonly connectionCount: number;
      readonly isBusy: boolean;
    }[];
  };
  readonly stats: Readonly<Record<"connections" | "sessions" | "subscriptions" | "retained", Gauge>>;
  readonly counters: Counts;
  readonly histograms: {
    readonly deliveryMs: Histogram;
    readonly queueMs: Histogram;
    readonly commitMs?: Histogram | undefined;
  };
  readonly alarms: { readonly critical: number; readonly error: number; readonly warning: number };
  readonly nowMs: number;
}

interface Queue {
  readonly subscriptionCount: number;
  readonly inflightCount: number;
  readonly queuedCount: number;
  readonly queuedBytes: number;
  readonly droppedCount: number;
}

export interface Client extends Queue {
  readonly clientId: string;
  readonly username?: string | undefined;
  readonly address: string;
  readonly port: number;
  readonly version: number;
  readonly listener: string;
  readonly connectedAtSec: number;
  readonly keepAliveSec: number;
  readonly isCleanStart: boolean;
  readonly expirySec: number | null;
  readonly unsentBytes: number;
}

export interface SessionRow extends Queue {
  readonly clientId: string;
  readonly isConnected: boolean;
  readonly isStored: boolean;
  readonly createdAtSec: number;
  readonly expirySec: number | null;
  readonly awaitingReleaseCount: number;
  readonly awaitingCompleteCount: number;
}

export interface Subscription {
  readonly clientId: string;
  readonly filter: string;
  readonly qos: number;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  readonly retainHandling: number;
  readonly id?: number | undefined;
}

export interface Topic {
  readonly filter: string;
  readonly node: string;
  readonly subscriberCount: number;
}

export interface Retained {
  readonly topic: string;
  readonly qos: number;
  readonly payloadBytes: number;
  readonly preview: string;
  readonly expiresAtSec?: number | undefined;
}

export type RetainedMessage = Retained & { readonly payload: string; readonly payloadEncoding: string };

export interface Listener {
  readonly name: string;
  readonly type: string;
  readonly address: string;
  readonly isOpen: boolean;
  readonly connectionCount: number;
  readonly connectionsMax?: number | undefined;
}

export interface Plugin {
  readonly name: string;
  readonly version: string;
  readonly description: string;
  readonly kind: "module" | "plugin";
  readonly from: string;
  readonly state: "running" | "stopped" | "failed";
  readonly faultCount: number;
  readonly lastFault: string;
}

export interface Access {
  readonly backends: readonly {
    readonly name: string;
    readonly type: string;
    readonly state?: string | undefined;
    readonly detail?: string | undefined;
    readonly counts: Counts;
  }[];
  readonly counts: Counts;
}

export interface Ban {
  readonly kind: "clientId" | "username" | "address";
  readonly value: string;
  readonly untilSec?: number | undefined;
  readonly reason: string;
}

export interface User {
  readonly username: string;
  readonly isSuperuser: boolean;
}

type Names = string | readonly string[] | undefined;

/** One of `allow` and `deny` says to do what. */
export interface Rule {
  readonly allow?: "publish" | "subscribe" | "all" | undefined;
  readonly deny?: "publish" | "subscribe" | "all" | undefined;
  readonly user?: Names;
  readonly client?: Names;
  readonly address?: Names;
  readonly topics?: readonly (string | { readonly eq: string })[] | undefined;
}

export interface Rules {
  readonly revision: number;
  readonly rules: readonly Rule[];
}

export interface ClientIdRow {
  readonly clientId: string;
  readonly ranges: readonly string[];
}

export interface Alarm {
  readonly id: string;
  readonly severity: "warning" | "error" | "critical";
  readonly title: string;
  readonly summary: string;
  readonly setMs: number;
  readonly clearedMs?: number | undefined;
}

export interface Alarms {
  readonly active: readonly Alarm[];
  readonly history: readonly Alarm[];
}

export interface TraceInfo {
  readonly name: string;
  readonly file?: string | undefined;
  readonly eventCount: number;
  readonly lostCount: number;
}

export interface TraceEvent {
  readonly atMs: number;
  readonly direction: "in" | "out" | "note";
  readonly clientId: string;
  readonly type: string;
  readonly bytes?: number | undefined;
  readonly topic?: string | undefined;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly payload?: { readonly text?: string | undefined; readonly hex?: string | undefined } | undefined;
}

export interface ConfigValue {
  readonly path: string;
  readonly value: unknown;
  readonly origin: string;
  readonly isLive: boolean;
  readonly isReloaded: boolean;
}

export interface Reloaded {
  readonly changed: readonly string[];
  readonly waiting: readonly string[];
  readonly failed: readonly string[];
}

export interface SlowSubscriber {
  readonly clientId: string;
  readonly address: string;
  readonly unsentBytesMax: number;
  readonly blockedMsMax: number;
  readonly lastMs: number;
}

export interface Memory {
  readonly processes: readonly {
    readonly pid: number;
    readonly bytes: Counts;
    readonly objects: readonly { readonly type: string; readonly count: number }[];
    readonly queues: readonly {
      readonly clientId: string;
      readonly queuedCount: number;
      readonly queuedBytes: number;
    }[];
  }[];
}

export interface Store {
  readonly type: string;
  readonly isWritable: boolean;
  readonly counts: Counts;
  readonly commitMs?: { readonly sum: number; readonly count: number } | undefined;
}
