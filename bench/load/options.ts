/** Command line to plan. Every value is checked here, with a message that says what is expected. */
import { optionsOf, type Option } from "./option-table.ts";
import { type Command, isLoop, type Plan, type Version } from "./plan.ts";
import { parseQosMix } from "./qos-mix.ts";
import { parseSources } from "./source-address.ts";
import { filterOver, topicFault } from "./topic-template.ts";

/** What the user typed cannot be meant. */
export class UsageError extends Error {}

const VERSIONS: Readonly<Record<string, Version>> = { "3": 3, "3.1": 3, "4": 4, "3.1.1": 4, "5": 5, "5.0": 5 };
const CLIENTS_MAX = 1_000_000;
const DAY_SEC = 86_400;
const UINT32_MAX = 4_294_967_295;
const PAYLOAD_MAX = 268_000_000;
const MESSAGES_MAX = 1e12;
const RATE_MAX = 1e8;
const WINDOW_MAX = 65_535;
const SUBSCRIPTION_ID_MAX = 268_435_455;
const PROCESSES_MAX = 256;

/** The plan, or undefined when only help is asked for. Throws UsageError. */
export function parsePlan(command: Command, args: readonly string[]): Plan | undefined {
  const values = new Values(command, args);
  if (values.isOn("help")) return undefined;
  try {
    return planOf(command, values);
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError(error.message);
    throw error;
  }
}

/** The options that were given, by name. */
class Values {
  private readonly given: Map<string, string[]> = new Map();

  constructor(
    private readonly command: Command,
    args: readonly string[],
  ) {
    const known = optionsOf(command);
    for (let i = 0; i < args.length;) i = this.take(args, i, known);
  }

  /** Takes the option at `i`; returns the place after it and its value. */
  private take(args: readonly string[], i: number, known: readonly Option[]): number {
    const arg = args[i];
    const equals = arg.startsWith("--") ? arg.indexOf("=") : -1;
    const flag = equals < 0 ? arg : arg.slice(0, equals);
    const isShort = /^-[A-Za-z]/.test(flag);
    const option = known.find(({ name, letter }) => flag === `--${name}` || (isShort && flag[1] === letter));
    if (option === undefined) throw new UsageError(`${this.command} has no option ${flag}`);
    const isSwitch = option.value === "";
    if (equals >= 0) return this.add(option, arg.slice(equals + 1), i + 1);
    if (isShort && flag.length > 2) return this.add(option, flag.slice(2), i + 1); // -c200
    const next = args[i + 1];
    if (isSwitch && (next === undefined || !/^(true|false)$/.test(next))) return this.add(option, "true", i + 1);
    if (next === undefined || (next.startsWith("-") && !/^-\d/.test(next)))
      throw new UsageError(`${flag} needs a value (${option.value})${flag === "-h" ? "; for help write --help" : ""}`);
    return this.add(option, next, i + 2);
  }

  private add({ name, isRepeatable }: Option, value: string, next: number): number {
    const list = this.given.get(name) ?? [];
    if (list.length > 0 && isRepeatable !== true) throw new UsageError(`--${name} is given twice`);
    this.given.set(name, [...list, value]);
    return next;
  }

  has(name: string): boolean {
    return this.given.has(name);
  }

  all(name: string): readonly string[] {
    return this.given.get(name) ?? [];
  }

  text(name: string): string | undefined {
    return this.given.get(name)?.[0];
  }

  isOn(name: string, otherwise = false): boolean {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    if (text !== "true" && text !== "false") throw new UsageError(`--${name} ${text}: true or false is expected`);
    return text === "true";
  }

  whole(name: string, otherwise: number, min: number, max: number): number {
    const value = this.number(name, otherwise, min, max);
    if (!Number.isInteger(value)) throw new UsageError(`--${name} ${value}: a whole number is expected`);
    return value;
  }

  number(name: string, otherwise: number, min: number, max: number): number {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    const value = /^-?\d+(\.\d+)?(e\d+)?$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max))
      throw new UsageError(`--${name} ${text}: a number from ${min} to ${max} is expected`);
    return value;
  }
}

function planOf(command: Command, values: Values): Plan {
  const isClosed = isLoop(command);
  const clients = clientsOf(command, values);
  const messages = messagesOf(command, values);
  const limit = values.whole("limit", 0, 0, MESSAGES_MAX);
  const plan: Plan = {
    command,
    ...serverOf(values),
    version: versionOf(values, isClosed ? "4" : "5"),
    ...clients,
    ...identityOf(values),
    connectIntervalMs: values.number("interval", isClosed ? 0 : 10, 0, 60_000),
    pendingMax: values.whole("pending", 200, 1, 10_000),
    sources: values.has("ifaddr") ? parseSources(values.text("ifaddr")!) : [],
    ...messages,
    ratePerSec: rateOf(command, values, clients.pubs),
    window: command === "rtt" ? 1 : values.whole("window", 20, 1, WINDOW_MAX),
    outstanding: command === "rtt" ? 1 : values.whole("outstanding", 5000, 1, 1e9),
    limit,
    durationSec: values.number("duration", isClosed ? 10 : 60, 0, DAY_SEC),
    warmupSec: values.number("warmup", isClosed && limit === 0 ? 1 : 0, 0, DAY_SEC),
    processes: values.whole("processes", 1, 1, PROCESSES_MAX),
    serverPid: values.whole("server-pid", 0, 1, UINT32_MAX),
    isJson: values.isOn("json"),
  };
  checkTogether(plan, values);
  return plan;
}

function serverOf(values: Values) {
  const path = values.text("ws-path") ?? "/mqtt";
  if (!path.startsWith("/")) throw new UsageError(`--ws-path ${path}: a path starts with /`);
  return {
    host: values.text("host") ?? "127.0.0.1",
    port: values.whole("port", 1883, 1, 65_535),
    isTls: values.isOn("ssl"),
    tlsFiles: {
      ca: values.text("cacertfile") ?? "",
      cert: values.text("certfile") ?? "",
      key: values.text("keyfile") ?? "",
    },
    isWebSocket: values.isOn("ws"),
    webSocketPath: path,
  };
}

function versionOf(values: Values, otherwise: string): Version {
  const text = values.text("version") ?? otherwise;
  const version = Object.hasOwn(VERSIONS, text) ? VERSIONS[text] : undefined;
  if (version === undefined)
    throw new UsageError(`--version ${text}: one of ${Object.keys(VERSIONS).join(", ")} is expected`);
  return version;
}

function clientsOf(command: Command, values: Values) {
  const count = values.whole("count", 200, 1, CLIENTS_MAX);
  const pubs = values.whole("pubs", command === "pair" ? 50 : command === "fanin" ? 200 : 1, 1, CLIENTS_MAX);
  const subs = values.whole("subs", command === "pair" ? pubs : command === "fanout" ? 500 : 1, 1, CLIENTS_MAX);
  if (command === "pair" && subs < pubs)
    throw new UsageError(`--subs ${subs}: a pair needs at least as many subscribers as publishers (${pubs})`);
  return {
    firstNumber: values.whole("startnumber", 0, 0, 1e12) + 1,
    idles: command === "conn" ? count : 0,
    pubs: command === "pub" ? count : isLoop(command) ? pubs : 0,
    subs: command === "sub" ? count : isLoop(command) ? subs : 0,
  };
}

function identityOf(values: Values) {
  const prefix = values.text("prefix");
  const random = `mtlg${Math.floor(Math.random() * 36 ** 4)
    .toString(36)
    .padStart(4, "0")}`;
  const clientId =
    values.text("client-id") ?? (values.isOn("shortids") ? `${prefix ?? ""}%i` : `${prefix ?? random}_%i`);
  if (!clientId.includes("%i")) throw new UsageError(`--client-id ${clientId}: without %i all clients are the same`);
  return {
    clientId,
    username: values.text("username"),
    password: values.text("password"),
    keepAliveSec: values.whole("keepalive", 300, 0, 65_535),
    isCleanStart: values.isOn("clean", true),
    sessionExpirySec: values.whole("session-expiry", 0, 0, UINT32_MAX),
  };
}

function messagesOf(command: Command, values: Values) {
  const topic = values.text("topic") ?? (isLoop(command) ? "bench/%i" : "");
  if (topic === "" && command !== "conn") throw new UsageError(`${command} needs --topic`);
  const filter = isLoop(command) ? (values.text("filter") ?? filterFor(command, topic)) : topic;
  const fault = command === "sub" || command === "conn" ? undefined : topicFault(topic, false);
  if (fault !== undefined) throw new UsageError(`--topic ${topic} ${fault}`);
  const filterFault = command === "pub" || filter === "" ? undefined : topicFault(filter, true);
  if (filterFault !== undefined) throw new UsageError(`filter ${filter} ${filterFault}`);
  const qosCycle = parseQosMix(values.text("qos") ?? "0");
  return {
    topic,
    filter,
    qosCycle,
    subQos: values.whole("sub-qos", Math.max(...qosCycle), 0, 2),
    subscriptionId: values.whole("sub-id", 0, 1, SUBSCRIPTION_ID_MAX),
    payloadBytes: values.whole("size", command === "pub" ? 256 : 64, isLoop(command) ? 24 : 0, PAYLOAD_MAX),
    isRetain: values.isOn("retain"),
    userProperties: values.all("user-property").map(userProperty),
    usesTopicAlias: values.isOn("topic-alias"),
    messageExpirySec: values.whole("expiry", 0, 0, UINT32_MAX),
  };
}

function filterFor(command: Command, topic: string): string {
  return command === "fanin" ? filterOver(topic) : topic;
}

function userProperty(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw new UsageError(`--user-property ${text}: NAME=VALUE is expected`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function rateOf(command: Command, values: Values, pubs: number): number {
  if (values.has("rate") && values.has("interval_of_msg"))
    throw new UsageError("--rate and --interval_of_msg say the same: give one");
  const rate = values.number("rate", 0, 0, RATE_MAX);
  if (command !== "pub" || values.has("rate")) return rate;
  const intervalMs = values.number("interval_of_msg", 1000, 0, 1e9);
  return intervalMs === 0 ? 0 : (pubs * 1000) / intervalMs;
}

/** What is fine alone and not together. */
function checkTogether(plan: Plan, values: Values): void {
  const v5 = ["user-property", "topic-alias", "expiry", "sub-id", "session-expiry"];
  const used = v5.find((name) => values.has(name));
  if (plan.version !== 5 && used !== undefined) throw new UsageError(`--${used} needs MQTT 5: add -V 5`);
  if (plan.version !== 5 && plan.password !== undefined && plan.username === undefined)
    throw new UsageError("--password without --username needs MQTT 5");
  if ((plan.tlsFiles.cert === "") !== (plan.tlsFiles.key === ""))
    throw new UsageError("--certfile and --keyfile come together");
  if (plan.processes > plan.idles + plan.pubs + plan.subs)
    throw new UsageError(`--processes ${plan.processes}: there are fewer clients than that`);
  if (!isPublishedApart(plan)) throw new UsageError(`--topic ${plan.topic}: pair needs %i in it`);
  if (/%[cu]/.test(plan.topic) && plan.command !== "sub" && plan.command !== "pub" && plan.command !== "conn")
    throw new UsageError(
      `--topic ${plan.topic}: in ${plan.command} publishers and subscribers share topics: use %i alone`,
    );
  if (plan.filter.startsWith("$share/") && isLoop(plan.command))
    throw new UsageError(
      `--filter ${plan.filter}: a shared subscription's messages are not counted in ${plan.command}; use sub`,
    );
}

/** In a pair each publisher needs its own topic. */
function isPublishedApart(plan: Plan): boolean {
  return plan.command !== "pair" || plan.pubs === 1 || plan.topic.includes("%i");
}
