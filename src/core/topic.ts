/** Topic names and filters as bytes: what is allowed, and how shared filters are taken apart. */
import { isMqttUtf8 } from "#base/bytes.ts";

export const SLASH = 0x2f;
export const PLUS = 0x2b;
export const HASH = 0x23;
export const DOLLAR = 0x24;

/** Length and depth that topics and filters may have. */
export interface TopicLimits {
  readonly topicBytesMax: number;
  readonly topicLevelsMax: number;
}

/** True for a well-formed topic name: not empty, no wildcard, UTF-8 without U+0000, within the limits. */
export function isTopicName(bytes: Buffer, start: number, end: number, limits: TopicLimits): boolean {
  if (start === end || end - start > limits.topicBytesMax) return false; // [MQTT-4.7.3-1]
  let levels = 1;
  for (let i = start; i < end; i++) {
    const c = bytes[i];
    if (c === PLUS || c === HASH) return false; // [MQTT-3.3.2-2] [MQTT-4.7.1-1]
    if (c === SLASH) levels++;
  }
  return levels <= limits.topicLevelsMax && isMqttUtf8(bytes, start, end); // [MQTT-4.7.3-2]
}

/** True for a well-formed filter without share prefix. */
export function isTopicFilter(bytes: Buffer, start: number, end: number, limits: TopicLimits): boolean {
  if (start === end || end - start > limits.topicBytesMax) return false; // [MQTT-4.7.3-1]
  let levels = 1;
  for (let i = start; i < end; i++) {
    const c = bytes[i];
    if (c === SLASH) {
      levels++;
    } else if (c === HASH) {
      if (i !== end - 1 || (i > start && bytes[i - 1] !== SLASH)) return false; // [MQTT-4.7.1-1]
    } else if (c === PLUS) {
      if (i > start && bytes[i - 1] !== SLASH) return false; // [MQTT-4.7.1-2]
      if (i < end - 1 && bytes[i + 1] !== SLASH) return false;
    }
  }
  return levels <= limits.topicLevelsMax && isMqttUtf8(bytes, start, end);
}

/** True when a well-formed filter without share prefix covers the topic in [start, end). */
export function isCovered(filter: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (bytes[start] === DOLLAR && (filter[0] === PLUS || filter[0] === HASH)) return false; // [MQTT-4.7.2-1]
  let at = start;
  for (let f = 0; f < filter.length; f++) {
    const c = filter[f];
    if (c === HASH) return true;
    if (c === PLUS) {
      while (at < end && bytes[at] !== SLASH) at++;
    } else if (at === end) {
      return c === SLASH && filter[f + 1] === HASH; // `a/#` covers `a`
    } else if (c !== bytes[at++]) {
      return false;
    }
  }
  return at === end;
}

const sharePrefix = Buffer.from("$share/");
export const queuePrefix: Buffer = Buffer.from("$queue/");

export interface SharedFilter {
  /** Share name; `$queue` for emqttd's form. */
  readonly share: Buffer;
  readonly filter: Buffer;
}

export function isShared(filter: Buffer): boolean {
  return startsWith(filter, sharePrefix) || startsWith(filter, queuePrefix) || filter.equals(bareShare);
}

const bareShare = Buffer.from("$share");

/** Takes `$share/NAME/FILTER` or `$queue/FILTER` apart; undefined when the share name or the filter is missing or malformed. */
export function parseShared(filter: Buffer): SharedFilter | undefined {
  if (startsWith(filter, queuePrefix)) {
    return { share: filter.subarray(0, 6), filter: filter.subarray(queuePrefix.length) };
  }
  const nameStart = sharePrefix.length;
  const nameEnd = filter.indexOf(SLASH, nameStart);
  if (nameEnd <= nameStart) return undefined; // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
  const share = filter.subarray(nameStart, nameEnd);
  if (share.includes(PLUS) || share.includes(HASH)) return undefined; // [MQTT-4.8.2-2]
  return { share, filter: filter.subarray(nameEnd + 1) };
}

function startsWith(bytes: Buffer, prefix: Buffer): boolean {
  return bytes.length >= prefix.length && bytes.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;
}

/** True for a filter that a SUBSCRIBE may have, with or without share prefix. */
export function isFilterText(text: string, limits: TopicLimits): boolean {
  const whole = Buffer.from(text);
  const filter = isShared(whole) ? parseShared(whole)?.filter : whole;
  return filter !== undefined && isTopicFilter(filter, 0, filter.length, limits);
}
