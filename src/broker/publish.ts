/** Publishing for those who are no MQTT client: checked, routed, and answered when what it stands for is on disk. */
import { MantouError } from "#base/error.ts";
import type { Engine } from "#core/engine.ts";
import { type MessageCopy, viewOfCopy } from "#core/hook-message.ts";
import { MessageView } from "#core/message.ts";
import { isTopicName } from "#core/topic.ts";
import type { Commits } from "./commits.ts";

export interface PublishWish {
  readonly topic: string;
  readonly payload: string | Uint8Array;
  readonly qos: number;
  readonly isRetain: boolean;
}

/** With its padding or without. A character that is left over has not the bits of a byte. */
function isBase64(text: string): boolean {
  return /^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.replace(/=+$/, "").length % 4 !== 1;
}

/** Bytes of a payload that came as text. Throws MantouError `payload_invalid` for what is no base64, whose bytes would be guessed. */
export function payloadOf(text: string, encoding: "utf8" | "base64"): Buffer {
  if (encoding === "base64" && !isBase64(text))
    throw new MantouError("payload_invalid", "payload: found something else, allowed: base64");
  return Buffer.from(text, encoding);
}

/**
 * The message as the engine takes it, in bytes of its own. Throws MantouError `topic_invalid`, `qos_invalid`, `retain_invalid`,
 * `payload_too_large`. `view` is filled and returned.
 */
export function viewOf(
  engine: Engine,
  { topic, payload, qos, isRetain }: PublishWish,
  view = new MessageView(),
): MessageView {
  const { mqtt } = engine.limits;
  const topicBytes = Buffer.byteLength(topic);
  const payloadBytes = typeof payload === "string" ? Buffer.byteLength(payload) : payload.length;
  if (qos > mqtt.qosMax) throw new MantouError("qos_invalid", `qos: found ${qos}, allowed: at most ${mqtt.qosMax}`);
  if (isRetain && !mqtt.retain) throw new MantouError("retain_invalid", "retain: found true, allowed: false");
  if (topicBytes + payloadBytes > mqtt.packetBytesMax)
    throw new MantouError(
      "payload_too_large",
      `payload: found ${payloadBytes} bytes, allowed: ${mqtt.packetBytesMax} with the topic`,
    );
  const bytes = Buffer.allocUnsafe(topicBytes + payloadBytes);
  bytes.write(topic, 0);
  if (typeof payload === "string") bytes.write(payload, topicBytes);
  else bytes.set(payload, topicBytes);
  view.reset(bytes, topicBytes);
  view.qos = qos;
  view.isRetain = isRetain;
  if (!engine.findTopic(view) && !isTopicName(bytes, 0, topicBytes, mqtt)) {
    const allowed = `a topic name of 1 to ${mqtt.topicBytesMax} bytes and at most ${mqtt.topicLevelsMax} levels, without + and #`;
    throw new MantouError("topic_invalid", `topic: found ${JSON.stringify(topic.slice(0, 100))}, allowed: ${allowed}`);
  }
  return view;
}

/** Rejects as `viewOf` throws and as `publishView` rejects. */
export async function publishMessage(parts: PublishParts, wish: PublishWish): Promise<{ reachedCount: number }> {
  return publishView(parts, viewOf(parts.engine, wish));
}

export interface PublishParts {
  readonly engine: Engine;
  readonly commits: Commits;
}

/**
 * Resolves when the message is safe. Rejects with MantouError `store_full` when it cannot be kept, `publish_refused` when a hook does not take it,
 * and as `Commits.wait` does.
 */
export async function publishView(
  { engine, commits }: PublishParts,
  view: MessageView,
): Promise<{ reachedCount: number }> {
  if (!(await passesHooks(engine, view))) return { reachedCount: 0 };
  if (engine.isRefused(view)) {
    engine.dropUnrouted("store_full", view);
    throw storeFull();
  }
  const mustWait = view.qos > 0 || view.isRetain; // a hook may change the view
  const reachedCount = engine.publish(view);
  if (mustWait) await commits.wait();
  return { reachedCount };
}

function storeFull(): MantouError {
  return new MantouError("store_full", "the store cannot write now, and the message would have to be kept");
}

/** Those that take their time. False when one of them has kept or stopped the message. */
async function passesHooks({ hooks, delivery }: Engine, view: MessageView): Promise<boolean> {
  const point = hooks.messagePublishLater;
  if (!point.isUsed || !point.concerns(view)) return true;
  const message = delivery.describe(view);
  message.own();
  const goesOn = await new Promise<boolean>((resolve) => point.run(message, resolve));
  if (goesOn) message.apply(view);
  else if (message.reasonCode >= 0x80)
    throw new MantouError("publish_refused", `a module refuses it (reason code 0x${message.reasonCode.toString(16)})`);
  else if (!message.isTaken) delivery.drop("stopped_by_hook", view.publisher, view);
  return goesOn;
}

/** What was kept goes its way after all, past the hooks that take their time. Rejects as `publishView`; after `store_full` it may be tried again. */
export async function republish({ engine, commits }: PublishParts, copy: MessageCopy): Promise<number> {
  await new Promise<void>((resolve) => engine.store.whenReady(resolve));
  const view = viewOfCopy(copy, engine.sessions, engine.lifeFromSec);
  if (engine.isRefused(view)) throw storeFull();
  const reached = engine.publish(view);
  await commits.wait();
  return reached;
}
