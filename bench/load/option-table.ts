/** The options: emqtt_benchmark's, under its letters, and more. The parser and the usage text both read this table. */
import type { Command } from "./plan.ts";

export interface Option {
  readonly name: string;
  readonly letter?: string;
  /** How its value is called; "" for a switch, which may be followed by true or false. */
  readonly value: string;
  readonly about: string;
  /** Those that have it; all by default. */
  readonly only?: readonly Command[];
  readonly isRepeatable?: boolean;
}

const publishing: readonly Command[] = ["pub", "pair", "fanin", "fanout", "rtt"];
const subscribing: readonly Command[] = ["sub", "pair", "fanin", "fanout", "rtt"];
const single: readonly Command[] = ["conn", "pub", "sub"];
const loops: readonly Command[] = ["pair", "fanin", "fanout"];

export const options: readonly Option[] = [
  { name: "help", value: "", about: "this text" },
  { name: "host", letter: "h", value: "HOST", about: "server (127.0.0.1)" },
  { name: "port", letter: "p", value: "PORT", about: "its port (1883)" },
  {
    name: "version",
    letter: "V",
    value: "VERSION",
    about: "MQTT 3 (or 3.1), 4 (3.1.1) or 5 (5.0) (conn, pub, sub: 5; others: 4)",
  },
  { name: "count", letter: "c", value: "N", about: "clients (200)", only: single },
  { name: "startnumber", letter: "n", value: "N", about: "the first client has number %i = N + 1 (0)" },
  {
    name: "interval",
    letter: "i",
    value: "MS",
    about: "between two connects; 0: as fast as it goes (conn, pub, sub: 10; others: 0)",
  },
  { name: "pending", value: "N", about: "connects under way at once, of one process (200)" },
  { name: "prefix", value: "TEXT", about: "begin of the client ids (mtlgXXXX)" },
  { name: "shortids", value: "", about: "client ids are prefix, if given, and number" },
  { name: "client-id", value: "TEXT", about: "the whole client id, with %i" },
  { name: "username", letter: "u", value: "TEXT", about: "user name; %i and %c are filled in" },
  { name: "password", letter: "P", value: "TEXT", about: "password" },
  { name: "keepalive", letter: "k", value: "SEC", about: "keep-alive time (300)" },
  { name: "clean", letter: "C", value: "BOOL", about: "clean session or clean start (true)" },
  { name: "session-expiry", letter: "x", value: "SEC", about: "session expiry interval, MQTT 5 (0)" },
  { name: "ifaddr", value: "LIST", about: "source addresses in turn: 127.0.0.2,127.0.1.1-127.0.1.40,127.0.8.0/29" },
  { name: "ssl", letter: "S", value: "", about: "TLS" },
  { name: "cacertfile", value: "FILE", about: "judge the server's certificate by this CA (it is not judged)" },
  { name: "certfile", value: "FILE", about: "client certificate" },
  { name: "keyfile", value: "FILE", about: "its key" },
  { name: "ws", value: "", about: "WebSocket" },
  { name: "ws-path", value: "PATH", about: "path of the WebSocket (/mqtt)" },
  {
    name: "topic",
    letter: "t",
    value: "TOPIC",
    about: "topic or filter with %i number, %c client id, %u user name (pair and the like: bench/%i)",
  },
  { name: "filter", value: "FILTER", about: "filter of the subscribers (made from --topic)", only: loops },
  { name: "qos", letter: "q", value: "QOS", about: "0, 1, 2, or by weight 0:50,1:30,2:20 (0)" },
  { name: "sub-qos", value: "QOS", about: "QoS of the subscriptions (the highest of --qos)", only: subscribing },
  { name: "sub-id", value: "N", about: "subscription identifier, MQTT 5", only: [...subscribing, "conn"] },
  {
    name: "size",
    letter: "s",
    value: "BYTES",
    about: "payload; from 24 on messages are checked (pub: 256; others: 64)",
    only: publishing,
  },
  { name: "retain", letter: "r", value: "", about: "retained messages", only: publishing },
  {
    name: "interval_of_msg",
    letter: "I",
    value: "MS",
    about: "between two messages of one client; 0: what the socket takes (1000)",
    only: ["pub"],
  },
  {
    name: "rate",
    value: "N",
    about: "messages a second over all publishers, on a fixed timetable (0: closed loop)",
    only: ["pub", ...loops],
  },
  { name: "limit", letter: "L", value: "N", about: "messages in all; 0: no limit (0)", only: [...publishing, "sub"] },
  {
    name: "user-property",
    value: "NAME=VALUE",
    about: "user property of each message, MQTT 5",
    only: publishing,
    isRepeatable: true,
  },
  { name: "topic-alias", value: "", about: "topic alias after the first message, MQTT 5", only: publishing },
  { name: "expiry", value: "SEC", about: "message expiry interval, MQTT 5 (0: none)", only: publishing },
  { name: "pubs", value: "N", about: "publishers (1; fanin: 200; pair: 50)", only: loops },
  { name: "subs", value: "N", about: "subscribers (pair: as many as publishers; fanin: 1; fanout: 500)", only: loops },
  {
    name: "window",
    value: "N",
    about: "unacknowledged messages of a publisher, QoS 1 and 2 (20)",
    only: ["pub", ...loops],
  },
  {
    name: "outstanding",
    value: "N",
    about: "deliveries in flight over all publishers of a closed loop (5000)",
    only: loops,
  },
  { name: "duration", value: "SEC", about: "measured time; 0: until Ctrl-C (conn, pub, sub: 60; others: 10)" },
  { name: "warmup", value: "SEC", about: "time before that (conn, pub, sub, and with --limit: 0; others: 1)" },
  { name: "processes", value: "N", about: "generator processes, results merged (1)" },
  { name: "server-pid", value: "PID", about: "report CPU and memory of this process and its descendants" },
  { name: "json", value: "", about: "one line of JSON on stdout" },
];

export function optionsOf(command: Command): Option[] {
  return options.filter(({ only }) => only === undefined || only.includes(command));
}

export function usageOf(command: Command): string {
  const lines = optionsOf(command).map(({ name, letter, value, about }) => {
    const flag = `${letter === undefined ? "    " : `-${letter}, `}--${name} ${value}`;
    return `  ${flag.padEnd(31)}${about}`;
  });
  return `Usage: bun run bench ${command} [options]\n\n${lines.join("\n")}\n\nWhat it measures and how: bench/load/README.md\n`;
}
