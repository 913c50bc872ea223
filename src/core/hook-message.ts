/**
 * A message as hooks see it. Reading costs, so nothing is read before somebody asks: topic and payload are made of the view's
 * bytes at the first access, and are the hook's own from then on. After the hooks have run the view is gone: what has been
 * read stays, what has not been is an error.
 *
 * In `message.publish` it may be changed. A message that nobody changed goes on as it came, frame and all.
 */
import { equalBytes } from "#base/bytes.ts";
import type { Delivery } from "./delivery.ts";
import type { Hooks } from "./hooks.ts";
import type { Limits } from "./limits.ts";
import { expiryAt, MessageView } from "./message.ts";
import type { ClientInfo } from "./ports.ts";
import type { SessionTable } from "./session-table.ts";
import type { TopicTexts } from "./topic-texts.ts";
import { isTopicName } from "./topic.ts";

/** A message that can be kept and published later: `viewOfCopy`. */
export interface MessageCopy {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly isRetain: boolean;
  /** 5.0 properties as they stand in a packet, without their length; empty for none. */
  readonly properties: Buffer;
  /** Where in `properties` the four bytes of Message Expiry Interval stand; −1 without. */
  readonly expiryStart: number;
  /** Client id; undefined for the broker itself. */
  readonly publisher: string | undefined;
}

/** Expiry begins now. The topic must be a valid topic name. */
export function viewOfCopy(copy: MessageCopy, sessions: SessionTable, lifeFromSec: number): MessageView {
  const { topic, payload, properties, expiryStart, publisher } = copy;
  const topicBytes = Buffer.from(topic);
  const view = new MessageView();
  view.reset(Buffer.concat([topicBytes, properties, payload]), topicBytes.length);
  view.propertiesEnd = view.payloadStart = topicBytes.length + properties.length;
  view.qos = copy.qos;
  view.isRetain = copy.isRetain;
  view.isV5 = properties.length > 0;
  if (expiryStart >= 0) {
    view.expiryStart = topicBytes.length + expiryStart;
    view.expiryAtSec = expiryAt(lifeFromSec, properties.readUInt32BE(expiryStart));
  }
  const session = publisher === undefined ? -1 : sessions.find(Buffer.from(publisher));
  if (session >= 0) {
    view.publisher = session;
    view.publisherKey = sessions.keyOf(session);
  }
  return view;
}

interface HookMessageParts {
  readonly limits: Limits;
  readonly sessions: SessionTable;
  readonly topicTexts: TopicTexts;
}

export class HookMessage {
  private view: MessageView | null;
  private ownTopic: string | undefined = undefined;
  /** A hook has set it, to something else perhaps. */
  private isTopicSet = false;
  private ownPayload: Buffer | undefined = undefined;
  private ownProperties: Buffer | undefined = undefined;
  private ownExpiryStart = -1;
  private ownPublisher: { readonly clientId: string | undefined; readonly client: ClientInfo | undefined } | null =
    null;
  private ownQos: number;
  isRetain: boolean;
  /** Set it when answering false: somebody keeps the message, so that it is not dropped. */
  isTaken = false;
  /**
   * Set it to a reason code of PUBACK, 0x80 or above, when answering false where the client waits: it is refused with that (3.x, QoS 1 and 2:
   * the connection ends).
   */
  reasonCode = 0;
  private readonly publisherNumber: number;
  private readonly topicStamp: number;

  constructor(
    view: MessageView,
    private readonly parts: HookMessageParts,
  ) {
    this.view = view;
    this.ownQos = view.qos;
    this.isRetain = view.isRetain;
    this.publisherNumber = view.publisher;
    this.topicStamp = parts.topicTexts.stampOf(view);
  }

  get topic(): string {
    return (this.ownTopic ??= this.parts.topicTexts.textOf(this.source, this.topicStamp));
  }

  /** @throws when it is no topic name, or too long. */
  set topic(topic: string) {
    const bytes = Buffer.from(topic);
    if (!isTopicName(bytes, 0, bytes.length, this.parts.limits.mqtt))
      throw new Error(`${topic.slice(0, 100)} is no topic name`);
    this.ownTopic = topic;
    this.isTopicSet = true;
  }

  get payload(): Buffer {
    return (this.ownPayload ??= this.source.payload());
  }

  /** @throws when it would not fit into the largest packet. */
  set payload(payload: Uint8Array | string) {
    const { packetBytesMax } = this.parts.limits.mqtt;
    const bytes = Buffer.isBuffer(payload) ? payload : Buffer.from(payload as Uint8Array);
    if (bytes.length > packetBytesMax) throw new Error(`a payload of more than ${packetBytesMax} bytes`);
    this.ownPayload = bytes;
  }

  /** Of the payload, whether or not it has been read. */
  get payloadBytes(): number {
    return this.ownPayload?.length ?? this.source.payloadEnd - this.source.payloadStart;
  }

  get qos(): 0 | 1 | 2 {
    return this.ownQos as 0 | 1 | 2;
  }

  set qos(qos: 0 | 1 | 2) {
    if (!Number.isInteger(qos) || qos < 0 || qos > this.parts.limits.mqtt.qosMax) throw new Error(`${qos} is no QoS`);
    this.ownQos = qos;
  }

  /** 5.0 properties that are passed on, as they stand in a packet without their length; a copy. Empty for 3.x. */
  get propertyBytes(): Buffer {
    if (this.ownProperties === undefined) {
      const { bytes, propertiesStart, propertiesEnd, expiryStart } = this.source;
      this.ownProperties = Buffer.from(bytes.subarray(propertiesStart, propertiesEnd));
      if (expiryStart >= 0) this.ownExpiryStart = expiryStart - propertiesStart;
    }
    return this.ownProperties;
  }

  /** Client id of the publisher; undefined for the broker itself, and for a message that waited. */
  get publisher(): string | undefined {
    if (this.ownPublisher) return this.ownPublisher.clientId;
    return this.publisherNumber < 0 ? undefined : this.parts.sessions.clientId(this.publisherNumber);
  }

  /** The publisher, where it is connected. */
  get client(): ClientInfo | undefined {
    if (this.ownPublisher) return this.ownPublisher.client;
    return this.publisherNumber < 0 ? undefined : this.parts.sessions.sinks[this.publisherNumber]?.info?.();
  }

  private get source(): MessageView {
    if (this.view === null) throw new Error("the message is gone: read it while the hook runs");
    return this.view;
  }

  /** What is needed to publish it again. The bytes are shared: neither may change. */
  copy(): MessageCopy {
    const { topic, payload, qos, isRetain, propertyBytes: properties, publisher } = this;
    return { topic, payload, qos, isRetain, properties, expiryStart: this.ownExpiryStart, publisher };
  }

  /** Reads everything, since the hooks will take longer than the view lasts. */
  own(): void {
    this.ownPublisher = { clientId: this.publisher, client: this.client };
    void [this.topic, this.payload, this.propertyBytes];
    this.view = null;
  }

  /** The hooks have run. */
  close(): void {
    this.view = null;
  }

  /** Makes `view` what the message has become. */
  apply(view: MessageView): void {
    const { ownTopic, ownPayload } = this;
    const isSameTopic = !this.isTopicSet || ownTopic === view.topicText();
    const isSamePayload = ownPayload === undefined || isPayloadOf(view, ownPayload); // what was read may have been written to
    const isSameFlags = this.ownQos === view.qos && this.isRetain === view.isRetain;
    // A hook that published may have taken its place in the cache.
    if (!isSameTopic || !this.parts.topicTexts.isHeld(view, this.topicStamp)) view.slot = -1;
    if (isSameTopic && isSamePayload && isSameFlags) return;
    const topic = isSameTopic ? view.bytes.subarray(view.topicStart, view.topicEnd) : Buffer.from(ownTopic!);
    const properties = view.bytes.subarray(view.propertiesStart, view.propertiesEnd);
    if (view.expiryStart >= 0) view.expiryStart += topic.length - view.propertiesStart;
    const payload = isSamePayload ? view.bytes.subarray(view.payloadStart, view.payloadEnd) : ownPayload;
    view.bytes = Buffer.concat([topic, properties, payload]);
    view.frameStart = -1;
    view.topicStart = 0;
    view.topicEnd = view.propertiesStart = topic.length;
    view.propertiesEnd = view.payloadStart = topic.length + properties.length;
    view.payloadEnd = view.bytes.length;
    view.qos = this.ownQos;
    view.isRetain = this.isRetain;
  }
}

/** Up to so many bytes a loop is quicker than a call. */
const SMALL_BYTES = 128;

function isPayloadOf({ bytes, payloadStart, payloadEnd }: MessageView, payload: Buffer): boolean {
  const { length } = payload;
  if (payloadEnd - payloadStart !== length) return false;
  if (length <= SMALL_BYTES) return equalBytes(bytes, payloadStart, payload, 0, length);
  return bytes.compare(payload, 0, length, payloadStart, payloadEnd) === 0;
}

/** Runs `message.publish` over a message; false when it was stopped, which is counted. */
export function runPublishHook(view: MessageView, hooks: Hooks, delivery: Delivery): boolean {
  const message = delivery.describe(view);
  const goesOn = hooks.messagePublish.run(message);
  message.close();
  if (!goesOn) return message.isTaken ? false : delivery.drop("stopped_by_hook", view.publisher, view);
  message.apply(view);
  return true;
}
