/** Options of the modules that pass events on: webhook and storage. As in options.ts, a leaf's error message is its list of allowed values. */
import { isTopicFilter, secret, wholeNumber, z } from "#plugins/plugin.ts";
import { eventKinds } from "./event-kind.ts";
import { filterError, text } from "./options.ts";

export const nameError = "letters, digits, - and _, at most 64, a different one for each";

export const outletName = z
  .string({ error: nameError })
  .regex(/^[A-Za-z0-9_-]{1,64}$/, { error: nameError })
  .meta({ description: "in metrics, alarms and the name of its file on disk" });

export function hasNamesOfItsOwn(list: readonly { readonly name: string }[]): boolean {
  return new Set(list.map(({ name }) => name)).size === list.length;
}

const eventsError = `events of ${eventKinds.join(", ")}`;

export const wantedEvents = z
  .array(z.enum(eventKinds, { error: eventsError }), { error: `a list of ${eventsError}` })
  .default(["message.publish"])
  .meta({ description: "which events" });

export function wantedTopics() {
  return z
    .array(z.string({ error: filterError }).refine(isTopicFilter, { error: filterError }), {
      error: "a list of topic filters",
    })
    .default(["#"])
    .meta({ description: "of messages and subscriptions: those of these topics" });
}

export const queueOptions = z
  .strictObject({
    countMax: wholeNumber("countMax", { min: 1, max: 10_000_000, initial: 10_000 }, "events that wait in memory"),
    bytesMax: wholeNumber(
      "bytesMax",
      { min: 1024, max: 1_099_511_627_776, initial: 16_777_216 },
      "bytes of them; where neither memory nor disk has room, what comes is lost and counted",
    ),
    diskBytesMax: wholeNumber(
      "diskBytesMax",
      { min: 0, max: 1_099_511_627_776, initial: 1_073_741_824 },
      "bytes of events that wait on disk; 0: none",
    ),
    batchCountMax: wholeNumber("batchCountMax", { min: 1, max: 100_000, initial: 500 }, "events that are sent at once"),
    batchBytesMax: wholeNumber("batchBytesMax", { min: 1, max: 1_073_741_824, initial: 1_048_576 }, "bytes of them"),
    lingerMs: wholeNumber("lingerMs", { min: 0, max: 60_000, initial: 50 }, "how long an event waits for others"),
    spillMs: wholeNumber(
      "spillMs",
      { min: 0, max: 3_600_000, initial: 1000 },
      "what has waited longer is written to disk: a crash loses no more than the events of that time; 0: written as it comes",
    ),
    deadlineMs: wholeNumber("deadlineMs", { min: 10, max: 600_000, initial: 10_000 }, "no answer by then is a failure"),
    retryMsMax: wholeNumber(
      "retryMsMax",
      { min: 10, max: 3_600_000, initial: 30_000 },
      "longest pause between attempts; the first is 200 ms, each next one twice as long",
    ),
  })
  .prefault({});

const urlError = "http:// or https://, without user name, password and #";

function isServiceUrl(words: string): boolean {
  if (!URL.canParse(words) || words.includes("#")) return false;
  const { protocol, username, password } = new URL(words);
  return (protocol === "http:" || protocol === "https:") && username + password === "";
}

const headerError =
  "names of headers, such as x-realm, but none that says how a message is sent, and values on one line";
const HEADER_NAME =
  /^(?!(?:host|connection|content-length|content-type|transfer-encoding|expect|upgrade)$)[a-z0-9!#$%&'*+.^_`|~-]+$/i;

const webhook = z.strictObject({
  name: outletName,
  url: z.string({ error: urlError }).refine(isServiceUrl, { error: urlError }).meta({ description: "where to" }),
  events: wantedEvents,
  filters: wantedTopics(),
  payload: z
    .enum(["utf8", "base64", "none"], { error: "utf8, base64 or none" })
    .default("utf8")
    .meta({ description: "how a message's payload is written; utf8: bytes that are none become U+FFFD" }),
  headers: z
    .record(
      z.string().regex(HEADER_NAME, { error: headerError }),
      z.string().regex(/^[\x20-\x7e]*$/, { error: headerError }),
      {
        error: headerError,
      },
    )
    .default({})
    .meta({ description: "headers besides" }),
  authorization: secret("the header `authorization`, such as Bearer …").optional(),
  secret: secret("known to the broker and the service: a header proves who sends, and when").optional(),
  caFile: text(
    "https; PEM: who may have signed the service's certificate; unset: whom the system trusts",
    "a path",
  ).optional(),
  certFile: text("https; PEM: the broker's own certificate", "a path").optional(),
  keyFile: text("https; PEM: its key", "a path").optional(),
  queue: queueOptions,
});

export const webhookOptions = z.strictObject({
  hooks: z
    .array(webhook, { error: "a list of webhooks" })
    .refine(hasNamesOfItsOwn, { error: nameError })
    .default([])
    .meta({ description: "services that are told of events, in batches by HTTP POST" }),
});
