/** Which server a listener is opened on. */
import type { HttpMount } from "#core/ports.ts";
import type { Listener, ListenerHost, ListenerOptions } from "./entrance.ts";
import { listenOnSocket } from "./socket-listener.ts";
import { listenOnServe } from "./websocket-server.ts";

/** Throws MantouError `listen_failed` or `certificate_invalid`. */
export async function openListener(
  options: ListenerOptions,
  host: ListenerHost,
  mounts: readonly HttpMount[] = [],
): Promise<Listener> {
  return isOnServe(options) ? listenOnServe(options, host, mounts) : listenOnSocket(options, host);
}

/** Bun's WebSocket server knows nothing of client certificates and the PROXY protocol; there we frame ourselves, without mounts. */
function isOnServe({ webSocket, tls, proxyFrom }: ListenerOptions): boolean {
  return webSocket !== undefined && (tls?.verify ?? "none") === "none" && proxyFrom.length === 0;
}
