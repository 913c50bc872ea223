/** What a connection costs, as measured: tuning/README.md, "Where the figures come from", says how. */

/** The broker process before its first connection. */
export const BROKER_BASE_BYTES = 62_000_000;
/** RSS growth per idle, subscribed client while running; `bun run bench idle` shows less (1.5 KB), since it collects first. */
export const BROKER_BYTES = 2000;
/** A kernel socket with its file and epoll entry, nothing in its buffers: one end of a connection. */
export const KERNEL_END_BYTES = 4400;
/** What a lean test client (C) keeps per connection. */
export const CLIENT_BYTES = 300;
/** CPU of the broker to take in one client: accept, CONNECT, SUBSCRIBE. */
export const CONNECT_CPU_US = 52;
/** CPU of the broker per PINGREQ, answered. */
export const PING_CPU_US = 10;
/** Descriptors the broker keeps back from its limit: src/broker/descriptor-limit.ts. */
export const DESCRIPTOR_RESERVE = 256;
/** The longest queue that a listener asks for: src/transport/listen-backlog.ts takes what somaxconn grants up to it. */
export const BACKLOG_MAX = 65_535;
/** Share of the available memory that is counted on; the rest is for messages and everybody else. */
export const MEMORY_SHARE = 0.9;
