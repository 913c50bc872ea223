/**
 * The options of the modules, as zod schemas: the `modules` section of the configuration is made of them. Every leaf's error
 * message is its list of allowed values. They stand apart from the modules, which are loaded only when they are on.
 */
import type * as re2js from "re2js";
import { isTopicFilter, wholeNumber, z } from "#plugins/plugin.ts";

export const filterError = "a topic filter, such as site/+/state";

export function text(description: string, error: string) {
  return z.string({ error }).min(1, { error }).meta({ description });
}

function filter(description: string) {
  return z.string({ error: filterError }).refine(isTopicFilter, { error: filterError }).meta({ description });
}

function filters(description: string) {
  return z
    .array(z.string({ error: filterError }).refine(isTopicFilter, { error: filterError }), {
      error: "a list of topic filters",
    })
    .default([])
    .meta({ description });
}

function flag(value: boolean, description: string) {
  return z.boolean({ error: "true or false" }).default(value).meta({ description });
}

const qos = (description: string) => wholeNumber("qos", { min: 0, max: 2, initial: 0 }, description);

export const presenceOptions = z.strictObject({
  enabled: flag(true, "tells who comes and goes on $SYS/brokers/NODE/clients/CLIENTID/connected and …/disconnected"),
  qos: qos("of these messages"),
});

export const sysOptions = z.strictObject({
  intervalSec: wholeNumber(
    "intervalSec",
    { min: 0, max: 86_400, initial: 60 },
    "how often the figures below $SYS/brokers/NODE are published; 0: nothing of it",
  ),
});

const listedSubscription = z.strictObject({
  filter: text("$c and %c stand for the client id, $u and %u for the user name", filterError),
  qos: qos("of the subscription"),
});

export const autoSubscribeOptions = z.strictObject({
  enabled: flag(false, "on also with an empty list, for what `mantou ctl static-subscriptions` lists for a client id"),
  subscriptions: z
    .array(listedSubscription, { error: "a list of subscriptions" })
    .default([])
    .meta({ description: "what every client is subscribed to when it connects" }),
});

const patternError = "a regular expression as RE2 reads it";

/** Why RE2 does not read it. It is loaded when there is a pattern. */
function patternFault(pattern: string): string | undefined {
  try {
    (require("re2js") as typeof re2js).RE2JS.compile(pattern);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

const rewriteStep = z.strictObject({
  pattern: text("regular expression (RE2) that is looked for in the topic", patternError).superRefine(
    (pattern, { addIssue }) => {
      const fault = patternFault(pattern);
      if (fault !== undefined) addIssue({ code: "custom", message: `${patternError} (${fault})` });
    },
  ),
  to: text("the new topic; $1 to $9 stand for the groups of the pattern", "a topic"),
});

export const rewriteOptions = z.strictObject({
  rules: z
    .array(
      z.strictObject({
        filter: filter("topics and filters that the rule is for; the first rule that fits is taken"),
        steps: z
          .array(rewriteStep, { error: "a list of patterns" })
          .min(1, { error: "at least one pattern" })
          .meta({ description: "the first pattern that is found makes the new topic" }),
      }),
      { error: "a list of rules" },
    )
    .default([])
    .meta({ description: "topics of PUBLISH, SUBSCRIBE and UNSUBSCRIBE that become others" }),
});

export const exclusiveOptions = z.strictObject({
  enabled: flag(false, "a subscription to $exclusive/FILTER is for one client at a time"),
});

export const localOptions = z.strictObject({
  enabled: flag(false, "a subscription to $local/FILTER is one to FILTER that other machines do not hear of"),
});

export const topicMetricsOptions = z.strictObject({
  filters: filters("topics whose messages are counted, each filter by itself"),
});

export const retainedPolicyOptions = z.strictObject({
  rules: z
    .array(
      z.strictObject({
        filter: filter("topics that the rule is for; the first rule that fits is taken"),
        isKept: flag(true, "false: a message for these topics is delivered and not kept"),
        payloadBytesMax: wholeNumber(
          "payloadBytesMax",
          { min: 0, max: 268_435_455, initial: 268_435_455 },
          "a larger one is not kept",
        ),
        expirySec: wholeNumber(
          "expirySec",
          { min: 0, max: 4_294_967_294, initial: 0 },
          "how long one is kept that says nothing itself; 0: as retained.expirySec says",
        ),
      }),
      { error: "a list of rules" },
    )
    .default([])
    .meta({ description: "which retained messages are kept, and how long" }),
});

export const auditOptions = z.strictObject({
  filters: filters("topics whose messages are written down when they are published"),
  clients: flag(false, "who comes and goes is written down, too"),
  payload: flag(false, "the payload is written as well, in base64"),
  file: text("where to, one JSON object a line", "path of a file").default("./log/audit.jsonl"),
  fileBytesMax: wholeNumber(
    "fileBytesMax",
    { min: 4096, max: 1_099_511_627_776, initial: 33_554_432 },
    "at this size a new file is begun",
  ),
  fileCountMax: wholeNumber(
    "fileCountMax",
    { min: 1, max: 10_000, initial: 10 },
    "files that are kept; the oldest is removed",
  ),
});

export const delayedOptions = z.strictObject({
  enabled: flag(false, "a message to $delayed/SECONDS/TOPIC is published to TOPIC so many seconds later"),
  secMax: wholeNumber(
    "secMax",
    { min: 1, max: 4_294_967_295, initial: 4_294_967 },
    "longest delay; a message that asks for more is refused (Topic Name invalid)",
  ),
  countMax: wholeNumber(
    "countMax",
    { min: 0, max: 1_000_000_000, initial: 1_000_000 },
    "messages that wait; one more is refused (Quota exceeded)",
  ),
  bytesMax: wholeNumber(
    "bytesMax",
    { min: 0, max: 1_099_511_627_776, initial: 1_073_741_824 },
    "bytes of messages that wait; one more is refused (Quota exceeded)",
  ),
});
