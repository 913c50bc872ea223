/**
 * A message as it lies on disk:
 *
 *   | head length u32 | head: JSON | properties | payload |       little-endian
 */
import fastJson from "fast-json-stringify";
import type { MessageCopy } from "#plugins/plugin.ts";

interface Head {
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly expiryStart: number;
  readonly propertiesBytes: number;
  readonly publisher?: string | undefined;
}

const writeHead = fastJson({
  type: "object",
  properties: {
    topic: { type: "string" },
    qos: { type: "integer" },
    retain: { type: "boolean" },
    expiryStart: { type: "integer" },
    propertiesBytes: { type: "integer" },
    publisher: { type: "string" },
  },
});

export function encodeMessage(message: MessageCopy): Uint8Array {
  const { topic, qos, isRetain: retain, expiryStart, properties, payload, publisher } = message;
  const fields: Head = { topic, qos, retain, expiryStart, propertiesBytes: properties.length, publisher };
  const head = Buffer.from(writeHead(fields));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.length);
  return Buffer.concat([length, head, properties, payload]);
}

/** The message's bytes are those of `body`. Undefined for what is none. */
export function decodeMessage(body: Uint8Array): MessageCopy | undefined {
  try {
    const bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
    const headEnd = 4 + bytes.readUInt32LE(0);
    const { topic, qos, retain, expiryStart, propertiesBytes, publisher } = JSON.parse(
      bytes.toString("utf8", 4, headEnd),
    ) as Head;
    const payloadStart = headEnd + propertiesBytes;
    const properties = bytes.subarray(headEnd, payloadStart);
    return { topic, payload: bytes.subarray(payloadStart), qos, isRetain: retain, properties, expiryStart, publisher };
  } catch {
    return undefined;
  }
}
