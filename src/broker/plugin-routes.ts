/**
 * What plugins answer to administrators, from wherever the administrators' port is.
 *
 *   one process    request ─► the plugin                                                      whole, streams too
 *   several        request ─► `routes.fetch` over the channel ─► a worker ─► its plugin       bounded: ROUTE_BYTES_MAX, ROUTE_MS_MAX
 */
import { z } from "zod";
import { MantouError } from "#base/error.ts";
import type { HttpMount, HttpPeer } from "#core/ports.ts";
import type { Control } from "./control.ts";

/** Of a request's body and of an answer's, where they go over a channel. */
const ROUTE_BYTES_MAX = 1024 * 1024;
const ROUTE_MS_MAX = 30_000;
/** Plugins answer below it. */
const PLUGINS = "/plugins/";

/** Undefined when no plugin answers there. */
export type PluginRoutes = (request: Request, peer: HttpPeer) => Promise<Response | undefined>;

const headers = z.array(z.tuple([z.string(), z.string()])).max(200);
const body = z.string().meta({ description: "base64" });
export const routeRequest = z.object({
  method: z.string().max(20),
  url: z.string().max(65_535),
  headers,
  body,
  address: z.string().meta({ description: "of who asks" }),
});
export const routeAnswer = z.object({ status: z.int().min(200).max(599), headers, body });

/** Of the plugins of this process. */
export function ownRoutes(mounts: () => readonly HttpMount[]): PluginRoutes {
  return async (request, peer) => mountFor(new URL(request.url).pathname, mounts())?.fetch(request, peer);
}

/** Of the plugins of a worker, whichever is there. Rejects with MantouError `payload_too_large`, and as `answerRoute` does. */
export function workersRoutes(control: Control): PluginRoutes {
  return async (request, { address }) => {
    if (!new URL(request.url).pathname.startsWith(PLUGINS)) return undefined;
    const sent = await readBounded(request.body, "payload_too_large");
    try {
      const answer = await control("routes.fetch", {
        method: request.method,
        url: request.url,
        headers: [...request.headers],
        body: sent.toString("base64"),
        address,
      });
      const isEmpty = answer.body === "" || request.method === "HEAD";
      const received = isEmpty ? null : Buffer.from(answer.body, "base64");
      return new Response(received, { status: answer.status, headers: answer.headers });
    } catch (error) {
      if (error instanceof MantouError && error.code === "not_found") return undefined;
      throw error;
    }
  };
}

/** Rejects with MantouError `not_found`, `answer_too_large`, or `answer_too_late`. */
export async function answerRoute(
  mounts: readonly HttpMount[],
  { method, url, headers: given, body: sent, address }: z.output<typeof routeRequest>,
): Promise<z.output<typeof routeAnswer>> {
  const mount = mountFor(new URL(url).pathname, mounts);
  if (!mount) throw new MantouError("not_found", `there is no ${method} ${new URL(url).pathname}`);
  const bytes = Buffer.from(sent, "base64");
  const ending = new AbortController();
  const request = new Request(url, {
    method,
    headers: given,
    signal: ending.signal,
    ...(method !== "GET" && method !== "HEAD" && { body: bytes }),
  });
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new MantouError("answer_too_late", `the plugin has not answered within ${ROUTE_MS_MAX / 1000} s`));
    ending.abort();
  }, ROUTE_MS_MAX);
  try {
    const work = async (): Promise<z.output<typeof routeAnswer>> => {
      const answer = await mount.fetch(request, { address, port: 0, listener: "admin" });
      const received = await readBounded(answer.body, "answer_too_large");
      return { status: answer.status, headers: [...answer.headers], body: received.toString("base64") };
    };
    return await Promise.race([work(), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

async function readBounded(stream: ReadableStream<Uint8Array> | null, code: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream ?? []) {
    size += chunk.length;
    if (size > ROUTE_BYTES_MAX)
      throw new MantouError(code, `body: allowed: ${ROUTE_BYTES_MAX} bytes, with several workers`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The longest that fits. */
function mountFor(path: string, mounts: readonly HttpMount[]): HttpMount | undefined {
  const isBelow = (mount: HttpMount): boolean => path === mount.path || path.startsWith(`${mount.path}/`);
  return mounts.filter(isBelow).toSorted((a, b) => b.path.length - a.path.length)[0];
}
