/**
 * Events to HTTP services, in batches: one POST, one JSON object.
 *
 *   { "node": "mantou@127.0.0.1", "worker": 0, "events": [ { "id": …, "event": "message.publish", "ts": …, … }, … ] }
 *
 *   2xx                 taken
 *   400, 413, 422       refused: the batch is halved until the event is found that is at fault, which is lost and counted
 *   all else, silence   tried again, later and later, until it is taken; meanwhile events wait in memory and on disk
 *
 * With a secret, a header proves who sends, and when, as with access over HTTP:
 *
 *   x-mantou-signature: t=1767225600,v1=hex(HMAC-SHA256(secret, "1767225600.POST /path?query." + body))
 */
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import fastJson from "fast-json-stringify";
import { MantouError, type PluginApi, type z } from "#plugins/plugin.ts";
import { type BrokerEvent, eventSchema, interestOf, observe, plainEvent } from "./event.ts";
import { offerStatus, Outlet, tellOrphans } from "./outlet.ts";
import type { webhookOptions } from "./outlet-options.ts";
import { Refused } from "./spool.ts";

type Options = z.output<typeof webhookOptions>;
type HookOptions = Options["hooks"][number];

const REFUSALS: ReadonlySet<number> = new Set([400, 413, 422]);

const writeBatch = fastJson({
  type: "object",
  properties: {
    node: { type: "string" },
    worker: { type: "integer" },
    events: { type: "array", items: eventSchema },
  },
});

export async function startWebhook(api: PluginApi<Options>): Promise<() => Promise<void>> {
  const { hooks } = api.config;
  const senders = hooks.map((hook) => new Sender(hook, api)); // throws before anything is open
  const outlets: Outlet[] = [];
  const stop = async (): Promise<void> => void (await Promise.all(outlets.map((outlet) => outlet.stop())));
  try {
    for (const [i, { name, queue }] of hooks.entries())
      outlets.push(await Outlet.open(api, name, queue, (batch, signal) => senders[i]!.send(batch, signal)));
  } catch (error) {
    await stop();
    throw error;
  }
  observe(
    api,
    hooks.map(({ events, filters }, i) => ({
      ...interestOf(events, filters),
      put: (event) => outlets[i]!.put(event),
    })),
  );
  offerStatus(api, outlets);
  tellOrphans(
    api,
    hooks.map(({ name }) => name),
  );
  return stop;
}

class Sender {
  private readonly headers: Readonly<Record<string, string>>;
  private readonly key: string | undefined;
  private readonly path: string;
  private readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string };

  /** @throws MantouError where a secret or a file is missing */
  constructor(
    private readonly options: HookOptions,
    private readonly api: PluginApi,
  ) {
    const { url, headers, authorization, secret } = options;
    this.headers = {
      ...headers,
      "content-type": "application/json",
      "user-agent": `mantou/${api.broker.version}`,
      ...(authorization && { authorization: authorization.reveal() }),
    };
    this.key = secret?.reveal();
    const { pathname, search } = new URL(url);
    this.path = pathname + search;
    this.tls = readTls(options);
  }

  /** Redirects are not followed: what is sent goes nowhere else. */
  async send(batch: readonly BrokerEvent[], signal: AbortSignal): Promise<void> {
    const { node, worker } = this.api.broker;
    const { url, payload } = this.options;
    const body = writeBatch({ node, worker, events: batch.map((event) => plainEvent(event, payload)) });
    const headers = this.key === undefined ? this.headers : { ...this.headers, ...this.signed(this.key, body) };
    const response = await fetch(url, { method: "POST", body, headers, signal, redirect: "manual", tls: this.tls });
    await response.body?.cancel();
    const words = `HTTP ${response.status}`;
    if (REFUSALS.has(response.status)) throw new Refused(words);
    if (!response.ok) throw new Error(words);
  }

  private signed(key: string, body: string): Record<string, string> {
    const sec = Math.floor(Date.now() / 1000);
    const mac = createHmac("sha256", key).update(`${sec}.POST ${this.path}.${body}`).digest("hex");
    return { "x-mantou-signature": `t=${sec},v1=${mac}` };
  }
}

/** Throws MantouError `webhook_invalid` where a file is missing. */
export function readTls({ name, caFile, certFile, keyFile }: HookOptions) {
  if ((certFile === undefined) !== (keyFile === undefined))
    throw new MantouError("webhook_invalid", `webhook ${name}: found one of certFile, keyFile, allowed: both`);
  const pem = (key: string, file: string): string => {
    try {
      return readFileSync(file, "utf8");
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code ?? "not readable";
      throw new MantouError("webhook_invalid", `webhook ${name}: ${key}: ${file}: ${why}`);
    }
  };
  return {
    ...(caFile !== undefined && { ca: pem("caFile", caFile) }),
    ...(certFile !== undefined && { cert: pem("certFile", certFile) }),
    ...(keyFile !== undefined && { key: pem("keyFile", keyFile) }),
  };
}
