/** What clients do, as log lines: faults and bugs, a few a second of each kind; who comes and goes, while the level lets it be seen. */
import type { Engine } from "#core/engine.ts";
import { AUTH, CONNECT } from "#mqtt/codec/frame.ts";
import type { Reporter } from "#mqtt/context.ts";
import type { LimitedLog } from "./limited-log.ts";
import { type Logger, onLogLevel } from "./log.ts";

export function reportTo(faults: LimitedLog): Reporter {
  return {
    fault(connection, reasonCode, packet) {
      const { clientId, address } = connection.info();
      const fields = { reasonCode: hex(reasonCode), clientId, address, packet: packetHex(packet, 64) };
      faults.write("info", `fault-${reasonCode}`, "a client broke the protocol; its connection is closed", fields);
    },
    bug(connection, error, packet) {
      const { clientId, address } = connection.info();
      const fields = { err: error, clientId, address, packet: packetHex(packet, 256) };
      faults.write("error", "bug", "a bug: handling a packet failed; its connection is closed", fields);
    },
  };
}

export function logClients(engine: Engine, log: Logger): void {
  const { clientConnected, clientDisconnected } = engine.hooks;
  let off: (() => void)[] = [];
  const follow = (): void => {
    const isWanted = log.isLevelEnabled("debug");
    if (isWanted === off.length > 0) return;
    if (isWanted) {
      off = [
        clientConnected.add(({ clientId, address, version }) => {
          log.debug({ clientId, address, version }, "client connected");
        }),
        clientDisconnected.add(({ clientId }, reasonCode) => {
          log.debug({ clientId, reasonCode: hex(reasonCode) }, "client disconnected");
        }),
      ];
      return;
    }
    for (const stop of off) stop();
    off = [];
  };
  follow();
  onLogLevel(log, follow);
}

/** Of CONNECT and AUTH only what stands before anything secret: header, protocol, flags, keep-alive. */
function packetHex(packet: Buffer, bytesMax: number): string {
  const type = packet[0] >> 4;
  return packet.toString("hex", 0, type === CONNECT ? Math.min(bytesMax, 12) : type === AUTH ? 2 : bytesMax);
}

function hex(reasonCode: number): string {
  return `0x${reasonCode.toString(16).padStart(2, "0")}`;
}
