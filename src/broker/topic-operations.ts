/** Operations on topics: what is subscribed to, what is retained, and publishing. */
import { z } from "zod";
import { MantouError } from "#base/error.ts";
import type { Engine } from "#core/engine.ts";
import { MessageView, NEVER } from "#core/message.ts";
import { isCovered, isTopicFilter } from "#core/topic.ts";
import { type ControlParts, done, notFound, operation, pageOf, pageParams, walk } from "./operation.ts";
import { payloadOf, publishMessage } from "./publish.ts";

const SUBSCRIBERS_COUNTED = 1000;
const PREVIEW_BYTES = 256;
const BULK_COUNT_MAX = 1000;

const topicRow = z.object({
  filter: z.string().meta({ description: "topic name or filter that somebody is subscribed to" }),
  node: z.string().meta({ description: "where" }),
  subscriberCount: z.int().meta({ description: `counted up to ${SUBSCRIBERS_COUNTED}; a share group is one` }),
});

const encoding = z.enum(["utf8", "base64"]);

const retainedRow = z.object({
  topic: z.string(),
  qos: z.int(),
  payloadBytes: z.int(),
  preview: z.string().meta({ description: `the first ${PREVIEW_BYTES} bytes, as UTF-8` }),
  expiresAtSec: z.int().optional().meta({ description: "wall clock" }),
});

const message = z.object({
  topic: z.string().min(1).max(65_535).meta({ description: "topic name, without wildcards" }),
  payload: z.string().default(""),
  payloadEncoding: encoding.default("utf8").meta({ description: "of `payload`" }),
  qos: z.int().min(0).max(2).default(0),
  isRetain: z.boolean().default(false),
});

const published = z.object({
  reachedCount: z.int().meta({ description: "sessions that it was delivered to or queued for in this process" }),
});

export const topicOperations = {
  "topics.list": operation({
    about: "topics and filters with subscribers, and where they are: emqttd's routes",
    spread: "walk",
    params: z.object({ filterContains: z.string().optional(), ...pageParams }),
    result: pageOf(topicRow),
    run: ({ engine: { index }, config }, params) =>
      walk(
        params,
        () => index.placeHigh,
        (place) => {
          const first = index.firstAt(place);
          if (first < 0) return undefined;
          const filter = index.filterOf(first).toString();
          if (params.filterContains !== undefined && !filter.includes(params.filterContains)) return undefined;
          const subscriberCount = index.countFrom(first, SUBSCRIBERS_COUNTED);
          return subscriberCount === 0 ? undefined : { filter, node: config.node, subscriberCount };
        },
      ),
  }),
  "retained.list": operation({
    about: "topics with a retained message, which all processes have",
    spread: "one",
    params: z.object({
      filter: z.string().optional().meta({ description: "only topics that this filter matches" }),
      topicContains: z.string().optional(),
      ...pageParams,
    }),
    result: pageOf(retainedRow),
    run({ engine }, params) {
      const { retainedIndex } = engine;
      const isMeant = matcherOf(engine, params.filter);
      return walk(
        params,
        () => retainedIndex.high,
        (node) => {
          if (!retainedIndex.holds(node)) return undefined;
          const topic = retainedIndex.topicOf(node);
          if (!isMeant(topic) || (params.topicContains !== undefined && !topic.includes(params.topicContains)))
            return undefined;
          return describeRetained(engine, node, topic);
        },
      );
    },
  }),
  "retained.read": operation({
    about: "the retained message of a topic",
    spread: "one",
    params: z.object({ topic: z.string().min(1) }),
    result: retainedRow.extend({ payload: z.string(), payloadEncoding: encoding }),
    run({ engine }, { topic }) {
      const node = findRetained(engine, topic);
      if (node < 0) throw notFound("topic", topic);
      const view = new MessageView();
      engine.retainedIndex.load(node, view);
      const payload = view.payload();
      const text = payload.toString();
      const isText = Buffer.from(text).equals(payload);
      const form = isText
        ? { payload: text, payloadEncoding: "utf8" as const }
        : { payload: payload.toString("base64"), payloadEncoding: "base64" as const };
      return { ...describeRetained(engine, node, topic), ...form };
    },
  }),
  "retained.delete": operation({
    about: "forgets the retained message of a topic; subscribers are told nothing",
    spread: "all",
    params: z.object({ topic: z.string().min(1) }),
    result: done,
    merge: (answers) => ({ count: Math.max(...answers.map(({ count }) => count)) }),
    async run({ engine, commits }, { topic }) {
      if (!engine.keeper.forget(Buffer.from(topic))) return { count: 0 };
      await commits.wait();
      return { count: 1 };
    },
  }),
  publish: operation({
    about: "publishes a message on behalf of the broker; access is not asked",
    spread: "one",
    params: message,
    result: published,
    run: (parts, wish) => publishOne(parts, wish),
  }),
  "publish.bulk": operation({
    about: "publishes messages in order; each is answered by itself",
    spread: "one",
    params: z.object({ messages: z.array(message).min(1).max(BULK_COUNT_MAX) }),
    result: z.object({ results: z.array(z.union([published, z.object({ error: z.string(), message: z.string() })])) }),
    async run(parts, { messages }) {
      const answers = messages.map((wish) =>
        publishOne(parts, wish).catch((error: unknown) => {
          if (error instanceof MantouError) return { error: error.code, message: error.message };
          throw error;
        }),
      );
      return { results: await Promise.all(answers) };
    },
  }),
};

async function publishOne(parts: ControlParts, wish: z.output<typeof message>): Promise<z.output<typeof published>> {
  const { payloadEncoding, payload, topic, qos, isRetain } = wish;
  return publishMessage(parts, { topic, payload: payloadOf(payload, payloadEncoding), qos, isRetain });
}

function findRetained({ retainedIndex }: Engine, topic: string): number {
  const bytes = Buffer.from(topic);
  return retainedIndex.find(bytes, 0, bytes.length);
}

function describeRetained({ retainedIndex }: Engine, node: number, topic: string): z.output<typeof retainedRow> {
  const view = new MessageView();
  retainedIndex.load(node, view);
  const payloadBytes = view.payloadEnd - view.payloadStart;
  const previewEnd = view.payloadStart + Math.min(payloadBytes, PREVIEW_BYTES);
  return {
    topic,
    qos: view.qos,
    payloadBytes,
    preview: view.bytes.toString("utf8", view.payloadStart, previewEnd),
    ...(view.expiryAtSec !== NEVER && { expiresAtSec: view.expiryAtSec }),
  };
}

/** Whether a filter matches a topic (MQTT 5.0 §4.7). Throws MantouError `filter_invalid`. */
function matcherOf({ limits }: Engine, filter: string | undefined): (topic: string) => boolean {
  if (filter === undefined) return () => true;
  const bytes = Buffer.from(filter);
  if (!isTopicFilter(bytes, 0, bytes.length, limits.mqtt))
    throw new MantouError("filter_invalid", `filter: found ${JSON.stringify(filter)}, allowed: a topic filter`);
  return (topic) => {
    const name = Buffer.from(topic);
    return isCovered(bytes, name, 0, name.length);
  };
}
