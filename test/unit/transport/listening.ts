/** A listener in the test's process whose links are the test's: what the protocol hears is recorded, nothing answers. */
import { join } from "node:path";
import { Metrics } from "#core/metrics.ts";
import { makeLimits } from "#core/limits.ts";
import type { Link, Protocol } from "#core/ports.ts";
import type { Listener, ListenerOptions } from "#transport/entrance.ts";
import { openListener } from "#transport/listener.ts";
import { TcpTransport } from "#transport/tcp.ts";
import type { TlsOptions } from "#transport/tls-credentials.ts";
import type { HttpMount } from "#core/ports.ts";
import { until } from "./until.ts";

export const pem = (name: string): string => join(import.meta.dir, "pem", name);

export const serverTls: TlsOptions = {
  certificates: [{ cert: pem("server.pem"), key: pem("server.key") }],
  verify: "none",
  versionMin: "1.2",
};

export class Recorder implements Protocol {
  private readonly chunks: Buffer[] = [];
  length = 0;
  readonly writable: boolean[] = [];
  closeCount = 0;
  onData: (chunk: Buffer) => void = () => {};

  constructor(readonly link: Link) {}

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  handleData(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.length += chunk.length;
    this.onData(chunk);
  }

  handleWritable(isWritable: boolean): void {
    this.writable.push(isWritable);
  }

  handleClose(): void {
    this.closeCount++;
  }

  /** Writes as the MQTT connection does. */
  write(bytes: Buffer): void {
    const at = this.link.reserve(bytes.length);
    bytes.copy(this.link.buffer, at);
    this.link.commit(at + bytes.length);
  }
}

export interface Listening extends AsyncDisposable {
  readonly listener: Listener;
  readonly port: number;
  readonly transport: TcpTransport;
  readonly metrics: Metrics;
  readonly links: Recorder[];
  readonly bugs: unknown[];
  readonly notices: string[];
  /** The next link, once it is there. */
  next(): Promise<Recorder>;
}

export interface ListeningOptions extends Partial<ListenerOptions> {
  readonly mounts?: readonly HttpMount[];
  /** Of the whole process. */
  readonly processConnectionsMax?: number;
}

export async function listen(options: ListeningOptions = {}): Promise<Listening> {
  const metrics = new Metrics();
  const bugs: unknown[] = [];
  const notices: string[] = [];
  const links: Recorder[] = [];
  const limits = makeLimits({ send: { linkBytesMax: 256 * 1024, stallSec: 1 } }).send;
  const transport = new TcpTransport(limits, metrics, (bug) => bugs.push(bug), options.processConnectionsMax);
  const host = {
    transport,
    makeProtocol(link: Link): Protocol {
      const recorder = new Recorder(link);
      links.push(recorder);
      return recorder;
    },
    notice: (_isProblem: boolean, text: string) => void notices.push(text),
  };
  const full: ListenerOptions = {
    name: "test",
    bind: { host: "127.0.0.1", port: 0 },
    isShared: false,
    connectionsMax: 10_000,
    rules: [],
    acceptRate: 0,
    addressRate: 0,
    proxyFrom: [],
    handshakeSecMax: 10,
    handshakesMax: 1000,
    identityAs: "none",
    identityFrom: "commonName",
    readRateBytes: 0,
    readBurstBytes: 0,
    messageBytesMax: 1024 * 1024,
    ...options,
  };
  const listener = await openListener(full, host, options.mounts);
  let taken = 0;
  return {
    listener,
    port: listener.port,
    transport,
    metrics,
    links,
    bugs,
    notices,
    async next() {
      await until(() => links.length > taken, "a link");
      return links[taken++]!;
    },
    async [Symbol.asyncDispose]() {
      listener.stop();
      for (const { link } of links) link.destroy();
      transport.sweep(Infinity); // those that are no links yet
      await until(() => listener.connectionCount === 0, "the connections' end").catch(() => {});
    },
  };
}
