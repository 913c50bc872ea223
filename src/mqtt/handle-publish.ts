/** PUBLISH from a client: stop 4 of the way of a PUBLISH. Nothing is allocated unless the client uses aliases. */
import type { Engine } from "#core/engine.ts";
import { expiryAt, type MessageView } from "#core/message.ts";
import { Metric } from "#core/metrics.ts";
import { ALLOW, ALLOW_KEPT, DENY, PENDING, type Verdict } from "#core/ports.ts";
import { isTopicName } from "#core/topic.ts";
import { PUBACK, PUBREC } from "./codec/frame.ts";
import { decodePublish, isTopicUtf8, published } from "./codec/publish.ts";
import {
  MALFORMED_PACKET,
  NO_MATCHING_SUBSCRIBERS,
  NOT_AUTHORIZED,
  PROTOCOL_ERROR,
  QOS_NOT_SUPPORTED,
  QUOTA_EXCEEDED,
  RECEIVE_MAXIMUM_EXCEEDED,
  RETAIN_NOT_SUPPORTED,
  SUCCESS,
  TOPIC_ALIAS_INVALID,
  TOPIC_NAME_INVALID,
} from "./codec/reason-code.ts";
import type { Connection } from "./connection.ts";
import { HANDLE_AGAIN } from "./connection-state.ts";
import { askPublishHooks, GOES_ON, TAKEN } from "./hook-wait.ts";
import { guardPublish } from "./pacing.ts";
import { InboundAliases } from "./topic-alias.ts";

const PUBLISH_RECEIVED = Metric["packets.publish.received"];
const MESSAGES_RECEIVED = [
  Metric["messages.qos0.received"],
  Metric["messages.qos1.received"],
  Metric["messages.qos2.received"],
];

/** The packet in [start, end), its fixed header ending at `body`. Returns 0, a reason code, or HANDLE_AGAIN. */
export function handlePublish(connection: Connection, bytes: Buffer, start: number, body: number, end: number): number {
  const { engine, incoming: view } = connection.context;
  const { isV5 } = connection;
  let fault = decodePublish(bytes, start, body, end, isV5, view);
  if (fault !== 0) return fault;
  const { mqtt } = engine.limits;
  if (view.qos > mqtt.qosMax) return QOS_NOT_SUPPORTED; // [MQTT-3.2.2-11]
  if (view.isRetain && !mqtt.retain) return RETAIN_NOT_SUPPORTED; // [MQTT-3.2.2-14]
  if (published.alias > 0) fault = resolveAlias(connection, view);
  if (fault !== 0) return fault;
  if (!engine.findTopic(view) && !isTopicName(view.bytes, view.topicStart, view.topicEnd, mqtt)) {
    if (view.topicStart === view.topicEnd) return isV5 ? PROTOCOL_ERROR : MALFORMED_PACKET;
    return isTopicUtf8(view) ? TOPIC_NAME_INVALID : MALFORMED_PACKET; // [MQTT-3.3.2-1]
  }
  view.publisher = connection.session;
  view.publisherKey = engine.sessions.keyOf(connection.session);
  if (published.expirySec >= 0) view.expiryAtSec = expiryAt(engine.lifeFromSec, published.expirySec);
  const { counts } = engine.metrics;
  if (!engine.access.isOpen) {
    const verdict = judge(connection, view);
    if (verdict === PENDING) return waitForVerdict(connection);
    if (verdict === DENY) return refuse(connection, view, "not_authorized", NOT_AUTHORIZED);
  }
  const { qos } = view;
  let outcome: number = GOES_ON;
  const { messagePublishLater } = engine.hooks;
  if ((messagePublishLater.isUsed && messagePublishLater.concerns(view)) || connection.rare?.judged) {
    outcome = askPublishHooks(connection, view);
    if (outcome === HANDLE_AGAIN) return HANDLE_AGAIN;
    if (outcome >= 0x80) return refuse(connection, view, "stopped_by_hook", outcome);
  }
  counts[PUBLISH_RECEIVED]++;
  counts[MESSAGES_RECEIVED[qos]]++;
  if (connection.context.isGuarded && guardPublish(connection, view)) return 0;
  if (qos === 0) {
    publish(engine, view, outcome);
    return 0;
  }
  return publishAcked(connection, view, qos, outcome);
}

/** A client that publishes to the same topic again is asked about once a second. */
function judge(connection: Connection, view: MessageView): Verdict {
  const { access, cache, hooks } = connection.context.engine;
  const { rare } = connection;
  if (hooks.messagePublishLater.isUsed && hooks.messagePublishLater.isBelow(view)) return judgeBelow(connection, view);
  const stamp = view.slot < 0 ? 0 : cache.stamp[view.slot];
  if (rare !== null && rare.allowedStamp === stamp && stamp !== 0 && rare.allowedEpoch === access.epoch) return ALLOW;
  view.topicStamp = stamp;
  const verdict = access.authorizePublish(connection.info(), view);
  if (verdict !== ALLOW_KEPT) return verdict;
  const { extras } = connection;
  extras.allowedStamp = stamp;
  extras.allowedEpoch = access.epoch ?? -1;
  return ALLOW;
}

function publish(engine: Engine, view: MessageView, outcome: number): number {
  if (outcome === GOES_ON) return engine.publish(view);
  if (outcome === TAKEN) engine.begin();
  else engine.dropUnrouted("stopped_by_hook", view);
  engine.router.isWanted = true; // by somebody perhaps
  return 0;
}

/** QoS 1 and 2: `qos` is what the client published with, whatever hooks have made of it. */
function publishAcked(connection: Connection, view: MessageView, qos: number, outcome: number): number {
  const { engine } = connection.context;
  const { packetId } = published;
  if (qos === 2) {
    const receipts = engine.sessions.receiptsFor(connection.session);
    if (receipts.has(packetId)) {
      engine.awaitAll();
      connection.acknowledge(PUBREC, packetId, SUCCESS); // known: not routed again [MQTT-4.3.3-10]
      return 0;
    }
    if (receipts.count >= engine.limits.mqtt.receiveMax) return RECEIVE_MAXIMUM_EXCEEDED; // [MQTT-3.3.4-7]
  }
  const unacked = connection.rare?.unackedCount ?? 0;
  if (unacked >= engine.limits.mqtt.receiveMax) return RECEIVE_MAXIMUM_EXCEEDED;
  if (!engine.store.isWritable && engine.isRefused(view)) return refuse(connection, view, "store_full", QUOTA_EXCEEDED);
  const reached = publish(engine, view, outcome);
  if (qos === 2) engine.addReceipt(connection.session, packetId);
  const isUnwanted = reached === 0 && !engine.router.isWanted && engine.fabric.forwarding === null;
  const reason = isUnwanted ? NO_MATCHING_SUBSCRIBERS : SUCCESS;
  connection.acknowledge(qos === 1 ? PUBACK : PUBREC, packetId, reason); // [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8]
  return 0;
}

/** Puts the aliased topic before the rest of the message. */
function resolveAlias(connection: Connection, view: MessageView): number {
  if (published.alias > connection.context.engine.limits.mqtt.topicAliasMax) return TOPIC_ALIAS_INVALID; // [MQTT-3.3.2-9]
  const aliases = (connection.extras.inboundAliases ??= new InboundAliases());
  if (view.topicStart !== view.topicEnd) {
    aliases.set(published.alias, view.bytes, view.topicStart, view.topicEnd); // [MQTT-3.3.2-12]
    return 0;
  }
  const topic = aliases.get(published.alias);
  if (!topic) return PROTOCOL_ERROR;
  const rest = view.propertiesStart;
  const shift = topic.length - rest;
  view.bytes = Buffer.concat([topic, view.bytes.subarray(rest, view.payloadEnd)]);
  view.topicStart = 0;
  view.topicEnd = topic.length;
  if (view.expiryStart >= 0) view.expiryStart += shift;
  view.propertiesStart += shift;
  view.propertiesEnd += shift;
  view.payloadStart += shift;
  view.payloadEnd += shift;
  return 0;
}

function judgeBelow(connection: Connection, view: MessageView): Verdict {
  const { access, hooks } = connection.context.engine;
  const verdict = hooks.messagePublishLater.judged(view, () => access.authorizePublish(connection.info(), view));
  return verdict === ALLOW_KEPT ? ALLOW : verdict;
}

/** The answer is being asked for: the packet waits, and is then handled again with the answer at hand. */
function waitForVerdict(connection: Connection): number {
  connection.hold();
  connection.context.engine.access.whenDecided(connection.info(), () => connection.unhold());
  return HANDLE_AGAIN;
}

/** Not allowed, or not possible now: told in the acknowledgement where the version can, and dropped. */
function refuse(
  connection: Connection,
  view: MessageView,
  reason: "not_authorized" | "store_full" | "stopped_by_hook",
  reasonCode: number,
): number {
  const { engine } = connection.context;
  engine.dropUnrouted(reason, view);
  // 3.x has no reason in its acknowledgements: none that is false, so the connection ends.
  const isEnding = reason === "not_authorized" ? engine.access.deniedPublish === "disconnect" : view.qos > 0;
  if (!connection.isV5 && isEnding) {
    connection.fail(reasonCode);
    return 0;
  }
  if (view.qos === 0) return 0;
  connection.acknowledge(view.qos === 1 ? PUBACK : PUBREC, published.packetId, reasonCode);
  return 0;
}
