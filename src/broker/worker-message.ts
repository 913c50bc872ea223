/** What the keeper and its workers say to each other: JSON over the channel that Bun opens between a process and its child. */
import type { ConfigFlags } from "./config.ts";
import type { ListenerConfig } from "./listener-schema.ts";
import type { BrokerPart } from "./broker.ts";

export type ToWorker =
  | {
      readonly kind: "start";
      readonly flags: ConfigFlags;
      readonly part: BrokerPart;
      /** With the ports that were picked. */
      readonly listeners: readonly ListenerConfig[];
    }
  | { readonly kind: "stop" }
  /** The configuration and certificates are read again. */
  | { readonly kind: "reload" }
  | { readonly kind: "ask"; readonly id: number; readonly name: string; readonly params: unknown };

export type ToKeeper =
  | { readonly kind: "hello" }
  | { readonly kind: "ready"; readonly addresses: readonly string[] }
  /** It could not start. */
  | { readonly kind: "failed"; readonly code: string; readonly message: string }
  | { readonly kind: "answer"; readonly id: number; readonly result: unknown }
  | { readonly kind: "refusal"; readonly id: number; readonly code: string; readonly message: string };
