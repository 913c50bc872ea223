/** The 5.0 properties of a message, decoded for a plugin. */
import type { HookMessage } from "#core/hook-message.ts";
import {
  CONTENT_TYPE,
  CORRELATION_DATA,
  MESSAGE_EXPIRY,
  PAYLOAD_FORMAT,
  type Properties,
  readProperties,
  RESPONSE_TOPIC,
  USER_PROPERTY,
} from "#mqtt/codec/properties.ts";
import { varintLength, writeVarint } from "#mqtt/codec/frame.ts";
import { Reader } from "#mqtt/codec/reader.ts";

const PASSED_ON = [PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, USER_PROPERTY];

export type MessageProperties = Pick<
  Properties,
  "payloadFormatIndicator" | "messageExpirySec" | "contentType" | "responseTopic" | "correlationData" | "userProperties"
>;

/** What the publisher said besides topic and payload; nothing for 3.x. The expiry is as it was published. */
export function propertiesOf(message: HookMessage): MessageProperties {
  const bytes = message.propertyBytes;
  if (bytes.length === 0) return {};
  const head = varintLength(bytes.length);
  const list = Buffer.allocUnsafe(head + bytes.length);
  writeVarint(list, 0, bytes.length);
  bytes.copy(list, head);
  return readProperties(new Reader(list, 0, list.length), PASSED_ON);
}
