/**
 * Who comes and goes, as emqttd told it: JSON on `$SYS/brokers/NODE/clients/CLIENTID/connected` and `…/disconnected`, not retained.
 *
 *   connected     { clientid, username, ipaddress, session, protocol, connack, ts }     also for a CONNECT that was refused
 *   disconnected  { clientid, reason, ts }
 *
 * A client id may hold what a topic may not: + and # stand as %2B and %23 there. docs/emqttd-compatibility.md has what differs.
 */
import fastJson from "fast-json-stringify";
import {
  type ClientInfo,
  type ConnectDetails,
  type EndedBy,
  isTopicName,
  type PluginApi,
  type z,
} from "#plugins/plugin.ts";
import type { presenceOptions } from "./options.ts";

const connectedJson = fastJson({
  type: "object",
  properties: {
    clientid: { type: "string" },
    username: { type: "string", nullable: true },
    ipaddress: { type: "string" },
    session: { type: "boolean" },
    protocol: { type: "integer" },
    connack: { type: "integer" },
    ts: { type: "integer" },
  },
});

const disconnectedJson = fastJson({
  type: "object",
  properties: { clientid: { type: "string" }, reason: { type: "string" }, ts: { type: "integer" } },
});

const WILD = /[+#]/;

/** By 5.0 reason code; what is not here ends with a fault that no client can help. */
const REASONS: Readonly<Record<number, string>> = {
  0x81: "malformed_packet",
  0x82: "protocol_error",
  0x87: "not_authorized",
  0x8b: "shutdown",
  0x8d: "keepalive_timeout",
  0x8e: "conflict",
  0x8f: "topic_filter_invalid",
  0x90: "topic_name_invalid",
  0x93: "receive_maximum_exceeded",
  0x94: "topic_alias_invalid",
  0x95: "packet_too_large",
  0x97: "quota_exceeded",
  0x98: "kick",
  0x99: "payload_format_invalid",
  0x9a: "retain_not_supported",
  0x9b: "qos_not_supported",
  0x9c: "use_another_server",
  0x9d: "server_moved",
};

/** emqttd's first word of why a connection ended. */
export function reasonWord(reasonCode: number, by: EndedBy): string {
  if (by === "link") return "closed";
  if (by === "client" && reasonCode === 0) return "normal";
  if (by === "client" && reasonCode === 4) return "disconnect_with_will";
  return REASONS[reasonCode] ?? (by === "client" ? "client_error" : "internal_error");
}

export function startPresence(api: PluginApi<z.output<typeof presenceOptions>>): void {
  const { qos } = api.config;
  const prefix = `$SYS/brokers/${api.broker.node}/clients/`;
  const nowSec = (): number => Math.floor(Date.now() / 1000);
  const publish = (clientId: string, event: string, json: () => string): void => {
    const name = WILD.test(clientId) ? clientId.replaceAll("+", "%2B").replaceAll("#", "%23") : clientId;
    const topic = `${prefix}${name}/${event}`;
    if (api.isWanted(topic) && isTopicName(topic)) api.publish(topic, json(), { qos: qos as 0 | 1 | 2 });
  };
  const tellConnected = (client: ClientInfo, { isCleanStart, connack }: ConnectDetails): void => {
    const { clientId: clientid, username = null, address: ipaddress, version: protocol } = client;
    publish(clientid, "connected", () =>
      connectedJson({ clientid, username, ipaddress, session: !isCleanStart, protocol, connack, ts: nowSec() }),
    );
  };
  api.on("client.connected", tellConnected);
  api.on("client.refused", tellConnected);
  api.on(
    "client.disconnected",
    ({ clientId: clientid }, reasonCode, by) => {
      publish(clientid, "disconnected", () =>
        disconnectedJson({ clientid, reason: reasonWord(reasonCode, by), ts: nowSec() }),
      );
    },
    { needsAddress: false },
  );
}
