/**
 * What happened in a run, as the clients saw it: one list of events in the order in which they were seen or done.
 *
 * All clients live in one thread, so the order is total and causal: what was seen before something was sent had happened
 * in the broker before it could read what was sent. `at` is the index in the list; the judge compares only these, and
 * `ms` (of a clock that never goes back) where the protocol speaks of seconds.
 */
import type { Version } from "#test/support/packets.ts";

/** Later than any event. */
export const NEVER = Infinity;

export interface Message {
  /** Unique in the run and part of the payload, such as `p1.17`. */
  readonly key: string;
  readonly publisher: string;
  /** Ascends with each message of a publisher. */
  readonly number: number;
  readonly topic: string;
  readonly qos: number;
  readonly isRetained: boolean;
  readonly isWill: boolean;
  /** Takes the retained message of its topic away; arrives without payload, so without key. */
  readonly isEmpty: boolean;
  readonly expirySec: number | undefined;
}

export interface Will {
  /** Of its message. */
  readonly key: string;
  readonly delaySec: number;
}

export type Leaving = "cut" | "disconnect" | "lost";

export type Happening =
  | { readonly what: "started" }
  | { readonly what: "ready" }
  /** The broker's process was killed. */
  | { readonly what: "killed" }
  | { readonly what: "note"; readonly text: string }
  | {
      readonly what: "connect";
      readonly isClean: boolean;
      readonly expirySec: number;
      readonly version: Version;
      readonly will: Will | undefined;
    }
  | { readonly what: "connack"; readonly isPresent: boolean; readonly code: number }
  /** The link is over: cut by the client without a word, after its DISCONNECT, or lost by the broker's doing. */
  | { readonly what: "left"; readonly how: Leaving; readonly endsSession: boolean }
  | { readonly what: "publish"; readonly key: string; readonly packetId: number; readonly isDup: boolean }
  /** An acknowledgement came. The client behaves as if it had not when `isIgnored`. */
  | { readonly what: "puback"; readonly key: string; readonly code: number }
  | { readonly what: "pubrec"; readonly key: string; readonly code: number; readonly isIgnored: boolean }
  | { readonly what: "pubrel"; readonly key: string }
  | { readonly what: "pubcomp"; readonly key: string }
  | { readonly what: "subscribe"; readonly filter: string; readonly qos: number }
  | { readonly what: "suback"; readonly filter: string; readonly code: number }
  | { readonly what: "unsubscribe"; readonly filter: string }
  | { readonly what: "unsuback"; readonly filter: string }
  | {
      readonly what: "received";
      readonly key: string;
      readonly qos: number;
      readonly isRetained: boolean;
      readonly isDup: boolean;
      readonly packetId: number;
      /** Handed to the application; false for a QoS 2 packet whose id is received and not released. */
      readonly isNew: boolean;
    }
  | { readonly what: "acknowledged"; readonly packetId: number; readonly by: "puback" | "pubrec" | "pubcomp" }
  /** A new subscriber of everything has seen these retained messages: topic and key each. */
  | { readonly what: "retained"; readonly values: readonly (readonly [string, string])[] }
  /** Something that no broker may do, whatever happened before. */
  | { readonly what: "fault"; readonly text: string };

export type Event = Happening & {
  readonly at: number;
  readonly ms: number;
  /** "" for what the broker's process did. */
  readonly client: string;
  /** Number of the connection, unique in the run; 0 for none. */
  readonly link: number;
};

/** `Extract`, for a kind of event. */
export type EventOf<W extends Event["what"]> = Extract<Event, { what: W }>;

export class History {
  readonly events: Event[] = [];
  readonly messages = new Map<string, Message>();
  /** Called with each event. */
  onEvent: (event: Event) => void = () => {};

  constructor(private readonly nowMs: () => number = () => performance.now()) {}

  add(client: string, link: number, happening: Happening): Event {
    const event: Event = { ...happening, at: this.events.length, ms: this.nowMs(), client, link };
    this.events.push(event);
    this.onEvent(event);
    return event;
  }

  addMessage(message: Message): void {
    this.messages.set(message.key, message);
  }
}

/** One line for people: `  1234.5 s3#17 received key=p1.4 qos=1`. */
export function describeEvent(event: Event): string {
  const { at, ms, client, link, what, ...fields } = event;
  const shown = Object.entries(fields).map(([name, value]) => ` ${name}=${shortened(value)}`);
  const who = client === "" ? "broker" : `${client}#${link}`;
  return `${String(at).padStart(6)} ${ms.toFixed(1).padStart(9)} ms ${who.padEnd(8)} ${what}${shown.join("")}`;
}

function shortened(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "-");
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
}

/** `filter` without its share group, as [group, filter]; the group is undefined for a subscription of one's own. */
export function splitShared(filter: string): [group: string | undefined, filter: string] {
  const match = /^\$share\/([^/]+)\/(.+)$/.exec(filter);
  return match === null ? [undefined, filter] : [match[1], match[2]];
}

/** Whether a topic matches a filter without share group (MQTT 5.0 §4.7). */
export function isMatch(filter: string, topic: string): boolean {
  const wanted = filter.split("/");
  const levels = topic.split("/");
  for (const [i, level] of wanted.entries()) {
    if (level === "#") return true;
    if (i >= levels.length || (level !== "+" && level !== levels[i])) return false;
  }
  return wanted.length === levels.length;
}
