/** The `admin` section of the configuration: where operators reach the broker. */
import { z } from "zod";
import { parseBind } from "./bind-address.ts";
import { choiceLeaf, meta, numberLeaf } from "./config-leaf.ts";

const bindAllowed = "HOST:PORT with a port from 0 to 65535, such as 0.0.0.0:18083 or [::1]:18083; empty: none";
const OTLP_ALLOWED = "a URL such as http://localhost:4318/v1/metrics; empty: none";
const file = z.string({ error: "the path of a PEM file; empty: none" }).default("");

export const adminSchema = z
  .strictObject({
    bind: z
      .string({ error: bindAllowed })
      .refine((text) => text === "" || (!text.startsWith("/") && parseBind(text) !== undefined), { error: bindAllowed })
      .default("0.0.0.0:18083")
      .meta({ description: "address of REST, metrics and dashboard; empty: none" }),
    cert: file.meta({ description: "certificate, followed by its chain, in PEM: then it is HTTPS" }),
    key: file.meta({ description: "its private key, not encrypted" }),
    socket: z.string({ error: "a file name, or an absolute path; empty: none" }).default("admin.sock").meta({
      description: "Unix socket for the command line, open to its owner alone; in node.data unless it is absolute",
    }),
    sessionSec: numberLeaf("sessionSec", { min: 60, max: 30 * 86_400 })
      .default(12 * 3600)
      .meta(meta("sessionSec", "how long a sign-in lasts")),
    metrics: choiceLeaf(["viewer", "anybody"]).default("viewer").meta({
      description: "who may read /metrics: who signs in or has an API key, or anybody who reaches the address",
    }),
    otlpUrl: z
      .string({ error: OTLP_ALLOWED })
      .refine((text) => text === "" || (/^https?:\/\//.test(text) && URL.canParse(text)), { error: OTLP_ALLOWED })
      .default("")
      .meta({ description: "OpenTelemetry collector that is sent the metrics, over HTTP; empty: none" }),
    otlpSec: numberLeaf("otlpSec", { min: 1, max: 3600 }).default(15).meta(meta("otlpSec", "how often")),
    auditCountMax: numberLeaf("auditCountMax", { min: 100, max: 10_000_000 })
      .default(10_000)
      .meta({ description: "entries of the audit log; older ones are forgotten" }),
  })
  .refine(({ cert, key }) => (cert === "") === (key === ""), {
    path: ["key"],
    error: "the path of a PEM file, since there is a certificate; and none without one",
  })
  .prefault({});
