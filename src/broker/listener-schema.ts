/**
 * The `listeners` section of the configuration: one flat mapping a listener, whatever its type. Keys that only some types
 * know are checked as a whole at the end. A key that is not set takes its value from `listenerDefaults` where the listener is opened, so
 * that a listener shows only what somebody wrote.
 */
import { z } from "zod";
import { parseAddressBlock, parseAddressRule } from "#transport/address-rules.ts";
import { parseBind } from "./bind-address.ts";
import { choiceLeaf, meta, numberLeaf } from "./config-leaf.ts";

export const LISTENER_TYPES = ["tcp", "tls", "ws", "wss", "unix"] as const;
export const BIND_ALLOWED = "HOST:PORT with a port from 0 to 65535, such as 0.0.0.0:1883 or [::1]:1883";
export const PATH_ALLOWED = "an absolute path of at most 107 bytes, such as /run/mantou.sock";
const NAME_ALLOWED = "a name of letters, digits, . _ -, at most 64, starting with a letter or digit";
const RULE_ALLOWED = "allow or deny and all, an address or a CIDR block, such as deny 192.0.2.0/24";
const BLOCK_ALLOWED = "all, an address or a CIDR block, such as 10.0.0.0/8";
const RATE_MAX = 1_000_000;

export const listenerDefaults = {
  acceptRate: 0,
  addressRate: 0,
  handshakeSecMax: 10,
  handshakesMax: 1000,
  verify: "none",
  tlsVersionMin: "1.2",
  identityAs: "none",
  identityFrom: "commonName",
  path: "/mqtt",
  clientRate: 0,
  readRateBytes: 0,
  messageRate: 0,
} as const;

type Defaults = typeof listenerDefaults;

/** A leaf that may be left out. */
function leaf<T extends z.ZodType>(key: string, type: T, description: string): z.ZodOptional<T> {
  const value = key in listenerDefaults ? { initial: listenerDefaults[key as keyof Defaults] } : {};
  return type.optional().meta({ ...meta(key, description), ...value });
}

const rate = (key: string, description: string) => leaf(key, numberLeaf(key, { min: 0, max: RATE_MAX }), description);

const file = (key: string, description: string) => {
  const error = "the path of a PEM file";
  return leaf(key, z.string({ error }).min(1, { error }), description);
};

function textList(key: string, error: string, isRight: (text: string) => boolean, description: string) {
  return leaf(key, z.array(z.string({ error }).refine(isRight, { error }), { error: "a list" }), description);
}

const bindLeaf = z
  .string({ error: BIND_ALLOWED })
  .transform((text, context) => {
    const address = parseBind(text);
    if (address) return address;
    context.addIssue({ code: "custom", message: text.startsWith("/") ? PATH_ALLOWED : BIND_ALLOWED });
    return z.NEVER;
  })
  .meta({ description: "address to listen on; port 0 picks a free one; a path for unix" });

const keys = z.strictObject({
  name: z
    .string({ error: NAME_ALLOWED })
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, { error: NAME_ALLOWED })
    .meta({ description: "what the log and the ready line call it; unique" }),
  type: choiceLeaf(LISTENER_TYPES).meta({
    description:
      "what is spoken on it: MQTT over TCP, over TLS, over WebSocket, over WebSocket in TLS, over a Unix socket",
  }),
  bind: bindLeaf,
  connectionsMax: numberLeaf("connectionsMax", { min: 1, max: 100_000_000 }).optional().meta({
    description: "connections accepted at a time; unset: what the process's descriptor limit leaves room for",
  }),
  access: textList(
    "access",
    RULE_ALLOWED,
    (text) => parseAddressRule(text) !== undefined,
    "list of rules, allow BLOCK or deny BLOCK; the first that matches the client's address decides, none: allowed",
  ),
  acceptRate: rate(
    "acceptRate",
    "connections a second; more wait their turn, at most handshakeSecMax, then they are closed; 0: any",
  ),
  addressRate: rate("addressRate", "connections a second from one address; more are closed; 0: any"),
  clientRate: rate(
    "clientRate",
    "connections a second of one client id, once it is known to be the client's; more are refused with 0x9F; 3.x: 3; 0: any",
  ),
  readRateBytes: leaf(
    "readRateBytes",
    numberLeaf("readRateBytes", { min: 0, max: 100 * 1024 ** 3 }),
    "bytes a second that a client may send; beyond: reading stops until there is room; 0: any",
  ),
  readBurstBytes: leaf(
    "readBurstBytes",
    numberLeaf("readBurstBytes", { min: 1024, max: 100 * 1024 ** 3 }),
    "bytes that a client may send at once after a pause; unset: those of a second",
  ),
  messageRate: rate(
    "messageRate",
    "PUBLISH packets a second that a client may send; beyond: reading stops until there is room; 0: any",
  ),
  messageBurst: leaf(
    "messageBurst",
    numberLeaf("messageBurst", { min: 1, max: RATE_MAX }),
    "PUBLISH packets that a client may send at once after a pause, at least a fifth of messageRate; unset: those of a second",
  ),
  proxyFrom: textList(
    "proxyFrom",
    BLOCK_ALLOWED,
    (text) => parseAddressBlock(text) !== undefined,
    "list of addresses of load balancers: what they bring must begin with a PROXY protocol header, 1 or 2; from others it is not taken",
  ),
  handshakeSecMax: leaf(
    "handshakeSecMax",
    numberLeaf("handshakeSecMax", { min: 1, max: 3600 }),
    "for PROXY header, TLS handshake and WebSocket upgrade together; then the connection is closed",
  ),
  handshakesMax: leaf(
    "handshakesMax",
    numberLeaf("handshakesMax", { min: 1, max: 1_000_000 }),
    "tls, wss: TLS handshakes under way; more wait their turn",
  ),
  cert: file("cert", "tls, wss: certificate, followed by its chain, in PEM; read again when it changes"),
  key: file("key", "tls, wss: its private key, not encrypted"),
  moreCertificates: z
    .array(z.strictObject({ cert: z.string().min(1), key: z.string().min(1) }), { error: "a list of certificates" })
    .optional()
    .meta({
      description: "list of cert and key: further certificates, chosen by the server name that a client asks for",
    }),
  ca: file("ca", "tls, wss: certificates of those who may sign client certificates"),
  crl: file("crl", "tls, wss: client certificates that are no longer valid"),
  verify: leaf(
    "verify",
    choiceLeaf(["none", "optional", "required"]),
    "tls, wss: whether a client certificate is asked for",
  ),
  tlsVersionMin: leaf("tlsVersionMin", choiceLeaf(["1.2", "1.3"]), "tls, wss: the oldest TLS"),
  ciphers: leaf(
    "ciphers",
    z.string({ error: "an OpenSSL cipher list" }),
    "tls, wss: cipher list of TLS 1.2, as OpenSSL has it",
  ),
  identityAs: leaf(
    "identityAs",
    choiceLeaf(["none", "username", "clientId"]),
    "what the name in the client certificate, or in the PROXY header, replaces in CONNECT",
  ),
  identityFrom: leaf(
    "identityFrom",
    choiceLeaf(["commonName", "subject", "alternativeName"]),
    "which name of the client certificate: its CN, the whole subject, or the first subject alternative name",
  ),
  path: leaf(
    "path",
    z.string({ error: "a path such as /mqtt" }).regex(/^\/[\x21-\x7e]*$/, { error: "a path such as /mqtt" }),
    "ws, wss: where WebSockets are opened",
  ),
  origins: textList(
    "origins",
    "an origin such as https://app.example",
    (text) => /^[a-z][a-z0-9+.-]*:\/\/[^/\s]+$/i.test(text) || text === "null",
    "ws, wss: list of origins whose pages may come in; unset: any",
  ),
});

export type ListenerConfig = z.output<typeof keys>;

const TLS_KEYS = [
  "cert",
  "key",
  "moreCertificates",
  "ca",
  "crl",
  "verify",
  "tlsVersionMin",
  "ciphers",
  "handshakesMax",
] as const;
const WEB_SOCKET_KEYS = ["path", "origins"] as const;

export const listenerSchema = keys.superRefine((listener, context) => {
  const refuse = (key: keyof ListenerConfig, message: string): void =>
    context.addIssue({ code: "custom", path: [key], message });
  const { type, bind } = listener;
  const isTls = type === "tls" || type === "wss";
  const isWebSocket = type === "ws" || type === "wss";
  if ((bind.path !== undefined) !== (type === "unix")) refuse("bind", type === "unix" ? PATH_ALLOWED : BIND_ALLOWED);
  for (const key of TLS_KEYS) if (!isTls && listener[key] !== undefined) refuse(key, "only for tls and wss");
  for (const key of WEB_SOCKET_KEYS)
    if (!isWebSocket && listener[key] !== undefined) refuse(key, "only for ws and wss");
  if (!isTls) return;
  if (listener.cert === undefined) refuse("cert", "the path of a PEM file");
  if (listener.key === undefined) refuse("key", "the path of a PEM file");
  const isAsking = (listener.verify ?? "none") !== "none";
  if (isAsking && listener.ca === undefined)
    refuse("ca", "the path of a PEM file, since client certificates are asked for");
});
