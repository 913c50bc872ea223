/**
 * What was published, and who came and went, written to a file: one JSON object a line, for those who have to show it later.
 *
 *   hooks ─► lines in memory, at most LINES_BYTES_MAX ─► once a second appended ─► FILE, FILE.1 (older), FILE.2, …
 *
 * Nothing waits for the disk; what finds no room meanwhile is counted (`mantou_audit_lost_total`), and so is what cannot be written.
 */
import { appendFile, mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { type HookMessage, type PluginApi, topicMatcher, type z } from "#plugins/plugin.ts";
import type { auditOptions } from "./options.ts";

type Options = z.output<typeof auditOptions>;

const WRITE_MS = 1000;
const LINES_BYTES_MAX = 16 * 1024 * 1024;

export function startAudit(api: PluginApi<Options>): () => Promise<void> {
  const { filters, clients, payload: hasPayload } = api.config;
  const fits = filters.map(topicMatcher);
  const lost = api.counter("lost_total", "Lines that could not be written");
  const file = new AuditFile(fileOf(api), (count) => lost.add(count));
  const write = (event: string, fields: Record<string, unknown>): void =>
    file.add(JSON.stringify({ time: new Date().toISOString(), event, ...fields }));
  if (fits.length > 0)
    api.on(
      "message.publish",
      (message: HookMessage) => {
        const { topic } = message;
        if (!fits.some((isFit) => isFit(topic))) return;
        const { qos, isRetain: retain, payloadBytes, publisher: clientid = null } = message;
        const payload = hasPayload ? message.payload.toString("base64") : undefined;
        write("publish", { clientid, topic, qos, retain, payloadBytes, payload });
      },
      { priority: 1000 }, // as it has become
    );
  if (clients) {
    api.on("client.connected", ({ clientId: clientid, username, address, port, version, listener }) =>
      write("connected", { clientid, username, address, port, version, listener }),
    );
    api.on("client.refused", ({ clientId: clientid, username, address, port, version, listener }, { connack }) =>
      write("refused", { clientid, username, address, port, version, listener, connack }),
    );
    api.on("client.disconnected", ({ clientId: clientid, username, address, port }, reasonCode, by) =>
      write("disconnected", { clientid, username, address, port, reasonCode, by }),
    );
  }
  api.setInterval(() => file.flush(), WRITE_MS);
  return () => file.flush();
}

/** Each worker process writes a file of its own. */
function fileOf({ config, broker }: PluginApi<Options>): Options {
  return broker.worker === 0 ? config : { ...config, file: `${config.file}.worker${broker.worker}` };
}

export class AuditFile {
  private lines: string[] = [];
  private waitingBytes = 0;
  private writing: Promise<void> = Promise.resolve();

  constructor(
    private readonly options: Pick<Options, "file" | "fileBytesMax" | "fileCountMax">,
    private readonly lose: (count: number) => void,
  ) {}

  add(line: string): void {
    if (this.waitingBytes + line.length > LINES_BYTES_MAX) return this.lose(1);
    this.lines.push(line);
    this.waitingBytes += line.length;
  }

  /** Resolves when all that was added is written, or lost and counted. */
  flush(): Promise<void> {
    const write = (): Promise<void> => this.write();
    this.writing = this.writing.then(write, write);
    return this.writing;
  }

  private async write(): Promise<void> {
    const { lines } = this;
    if (lines.length === 0) return;
    this.lines = [];
    this.waitingBytes = 0;
    try {
      await mkdir(dirname(this.options.file), { recursive: true });
      const size = await sizeOf(this.options.file);
      if (size >= this.options.fileBytesMax) await this.turn();
      await appendFile(this.options.file, `${lines.join("\n")}\n`, { mode: 0o600 });
    } catch (error) {
      this.lose(lines.length);
      throw error;
    }
  }

  /** The present file becomes the first of the older ones, the oldest goes. */
  private async turn(): Promise<void> {
    const { file, fileCountMax } = this.options;
    const older = (age: number): string => (age === 0 ? file : `${file}.${age}`);
    await rm(older(fileCountMax - 1), { force: true });
    for (let age = fileCountMax - 2; age >= 0; age--) await rename(older(age), older(age + 1)).catch(() => {});
  }
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch {
    return 0;
  }
}
