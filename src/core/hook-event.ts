/** What hook points are told, where that is more than a few values. */
import type { ClientInfo } from "./ports.ts";

/** What CONNECT said besides who is there. */
export interface ConnectDetails {
  readonly isCleanStart: boolean;
  readonly keepAliveSec: number;
  /** As asked for; 0xffffffff for ever. */
  readonly expirySec: number;
  readonly hasWill: boolean;
  /** What CONNACK says: a 5.0 reason code, for 3.x its return code; 3.x has none for some refusals: −1. 0: accepted. */
  readonly connack: number;
}

/** Before anybody is asked whether the client may come in. */
export interface ConnectAttempt {
  readonly client: ClientInfo;
  readonly details: ConnectDetails;
  /** Set it to 0x80 or above to refuse the client with it (MQTT 5.0 §3.2.2.2). Answering false refuses as not authorized. */
  reasonCode: number;
}

/** One filter of a SUBSCRIBE; everything may be changed. */
export interface SubscribeWish {
  /** With the prefix of a share, where it is one. */
  filter: string;
  qos: 0 | 1 | 2;
  isNoLocal: boolean;
  isRetainAsPublished: boolean;
  /** 0 retained messages are sent, 1 if the subscription is new, 2 not. */
  retainHandling: 0 | 1 | 2;
  /** Set it to 0x80 or above to refuse this filter with it. */
  reasonCode: number;
}

/** The filters that access has allowed. Answering false refuses them all. */
export interface SubscribeRequest {
  readonly client: ClientInfo;
  readonly wishes: readonly SubscribeWish[];
}

/** Elements may be replaced. Answering false refuses them all. */
export interface UnsubscribeRequest {
  readonly client: ClientInfo;
  readonly filters: string[];
}

/** A message is about to take its topic's place among the retained ones; in every process that keeps them. */
export interface RetainAttempt {
  readonly topic: string;
  readonly payloadBytes: number;
  /** How long it is kept if it says nothing itself, 0 for ever; may be changed. */
  expirySec: number;
}

/** Who ended a connection: the client by DISCONNECT, the broker, or nobody: the link was lost. */
export type EndedBy = "client" | "broker" | "link";

export interface ListenerNote {
  readonly name: string;
  /** Such as `tcp://127.0.0.1:1883`. */
  readonly address: string;
}

export interface AlarmNote {
  /** Such as `memory_high` or `queue_high_watermark.<clientid>`. */
  readonly id: string;
  readonly severity: string;
  readonly title: string;
  readonly summary: string;
  /** Wall clock, milliseconds, of its beginning; of its end where it has ended. */
  readonly atMs: number;
}
