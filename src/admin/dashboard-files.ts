/**
 * The dashboard's files: its page, and what the page names, by their hashed names.
 *
 *   compiled    the import below is a list of embedded files, made by the build
 *   from source it is empty: the page is bundled once, in memory, when somebody first asks for it
 *
 * They are served here rather than as a route of Bun's, so that headers are ours: the page is checked anew each time and may load
 * nothing but its own files, and speak to nobody but this host; the others never change under their names. All are compressed once.
 */
import { join } from "node:path";
import page from "./dashboard/index.html";
import type { App } from "./rest.ts";

interface ServedFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly gzip: Uint8Array<ArrayBuffer>;
  readonly type: string;
  readonly etag: string;
}

interface Embedded {
  readonly files?: readonly { readonly path: string; readonly headers: Readonly<Record<string, string>> }[];
}

const PAGE = "/";
/** Bundled and embedded files stand beside the page under such names. */
const NAME = /^\/[a-z0-9-]+-[a-z0-9]{8}\.(js|css|svg)$/;
const SHARED = { "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", Vary: "Accept-Encoding" };

export function addDashboard(app: App): void {
  let files: Promise<Map<string, ServedFile>> | undefined;
  const find = async (path: string): Promise<ServedFile | undefined> => {
    files ??= load();
    try {
      return (await files).get(path);
    } catch (error) {
      files = undefined;
      throw error;
    }
  };
  app.get("*", async (c, next) => {
    const isPage = c.req.path === PAGE;
    const file = isPage || NAME.test(c.req.path) ? await find(c.req.path) : undefined;
    if (!file) return next();
    const isGzip = /\bgzip\b/.test(c.req.header("accept-encoding") ?? "");
    const headers: Record<string, string> = {
      ...SHARED,
      "Content-Type": file.type,
      "Cache-Control": isPage ? "no-cache" : "public, max-age=31536000, immutable",
      ETag: file.etag,
      ...(isPage && { "Content-Security-Policy": policyFor(c.req.header("host") ?? "") }),
    };
    if (c.req.header("if-none-match") === file.etag) return c.body(null, 304, headers);
    return c.body(isGzip ? file.gzip : file.bytes, 200, { ...headers, ...(isGzip && { "Content-Encoding": "gzip" }) });
  });
}

/** MQTT over WebSocket is on another port of the same host. */
function policyFor(hostHeader: string): string {
  const host = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d+)?$/i.exec(hostHeader)?.[1];
  const sockets = host === undefined ? "" : ` ws://${host}:* wss://${host}:*`;
  return [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    `connect-src 'self'${sockets}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join("; ");
}

async function load(): Promise<Map<string, ServedFile>> {
  const embedded = (page as Embedded).files;
  const raw = embedded
    ? embedded.map(({ path, headers }) => ({ path, type: headers["content-type"], blob: Bun.file(path) }))
    : (await bundle()).map((blob) => ({ path: blob.path, type: blob.type, blob }));
  const served = raw.map(async ({ path, type, blob }) => {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const etag = `"${Bun.hash(bytes).toString(36)}"`;
    const name = path.endsWith(".html") ? PAGE : `/${path.split("/").at(-1)!}`;
    return [name, { bytes, gzip: Bun.gzipSync(bytes), type, etag }] as const;
  });
  return new Map(await Promise.all(served));
}

async function bundle(): Promise<Bun.BuildArtifact[]> {
  const { outputs } = await Bun.build({
    entrypoints: [join(import.meta.dir, "dashboard/index.html")],
    target: "browser",
    minify: true,
    publicPath: "/",
    naming: { asset: "[name]-[hash].[ext]" },
  });
  return outputs;
}
