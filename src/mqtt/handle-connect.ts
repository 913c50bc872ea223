/**
 * CONNECT and AUTH: who is there, may they come in, which session is theirs.
 *
 *   decode ─► checks ─► access.authenticate ⇄ AUTH … ─► engine.open (claim) ─► commit ─► CONNACK ─► attach
 *
 * Each arrow may take time; meanwhile the connection is held. Refusals are CONNACK with the reason, then close.
 */
import { isTopicName } from "#core/topic.ts";
import {
  ALLOW,
  type AuthenticateOutcome,
  type AuthenticateRequest,
  type ClientInfo,
  type GrantedSubscription,
  PENDING,
  type Verdict,
} from "#core/ports.ts";
import type { Opened } from "#core/engine.ts";
import { NEVER } from "#core/message.ts";
import { type ConnectPacket, decodeConnect, encodeConnack } from "./codec/connect.ts";
import { decodeAuth, encodeAuth } from "./codec/disconnect.ts";
import type { Properties } from "./codec/properties.ts";
import {
  CLIENT_IDENTIFIER_NOT_VALID,
  CONNECTION_RATE_EXCEEDED,
  CONTINUE_AUTHENTICATION,
  NOT_AUTHORIZED,
  PROTOCOL_ERROR,
  QOS_NOT_SUPPORTED,
  QUOTA_EXCEEDED,
  REAUTHENTICATE,
  RETAIN_NOT_SUPPORTED,
  returnCode3,
  SERVER_BUSY,
  SUCCESS,
  TOPIC_NAME_INVALID,
} from "./codec/reason-code.ts";
import type { Connection } from "./connection.ts";
import { type Client, snapshotOf } from "./connection-extras.ts";
import { AUTHENTICATING, CLOSED, MOVED, OPEN, OPENING } from "./connection-state.ts";
import { askConnectHooks, detailsOf } from "./hook-wait.ts";
import { startKeepAlive } from "./keep-alive.ts";
import { OutboundAliases } from "./topic-alias.ts";

/** What CONNECT said, as long as it is needed. */
export interface Login {
  readonly packet: ConnectPacket;
  /** As sent, or assigned. */
  readonly clientId: Buffer;
  readonly isIdAssigned: boolean;
  /** The exchange under way, or undefined between re-authentications. */
  request: Request | undefined;
}

export function handleConnect(connection: Connection, bytes: Buffer, body: number, end: number): number {
  const { engine } = connection.context;
  engine.metrics.add("packets.connect");
  const packet = decodeConnect(bytes, body, end);
  connection.version = packet.version;
  if ("reasonCode" in packet) return refuseFault(connection, packet.reasonCode, packet.version === 0);
  connection.packetBytesMax = packet.properties.maximumPacketSize ?? connection.packetBytesMax;
  const { identity } = connection.link;
  const given = identity?.clientId === undefined ? packet.clientId : Buffer.from(identity.clientId);
  const { extras } = connection;
  extras.isBridge = packet.isBridge;
  extras.username = identity?.username ?? packet.username;
  extras.login = { packet, clientId: given, isIdAssigned: false, request: undefined };
  if (connection.context.isBusy) {
    engine.metrics.add("connections.refused.busy");
    return refuse(connection, SERVER_BUSY, {}, false);
  }
  const fault = faultOf(connection, packet, given);
  if (fault !== 0) return refuseFault(connection, fault, false);
  if (given.length === 0) {
    const clientId = Buffer.from(connection.context.makeClientId());
    extras.login = { packet, clientId, isIdAssigned: true, request: undefined };
  } else {
    const place = connection.context.place(connection, given);
    if (place !== 0) return place === MOVED ? MOVED : refuse(connection, place, {}, false);
  }
  connection.state = AUTHENTICATING;
  askConnectHooks(connection, packet, (reasonCode) => {
    if (reasonCode === 0) authenticate(connection, packet.properties, false);
    else refuse(connection, reasonCode, {}, false);
  });
  return 0;
}

/** Reason not even to ask for the credentials, or 0. */
function faultOf(connection: Connection, packet: ConnectPacket, clientId: Buffer): number {
  const { limits } = connection.context.engine;
  const { will, version } = packet;
  if (clientId.length > limits.mqtt.clientIdBytesMax) return CLIENT_IDENTIFIER_NOT_VALID;
  const needsId = version === 3 || (version === 4 && !packet.isCleanStart);
  if (clientId.length === 0 && needsId) return CLIENT_IDENTIFIER_NOT_VALID; // [MQTT3-3.1.3-8]
  if (!will) return 0;
  if (!isTopicName(will.topic, 0, will.topic.length, limits.mqtt)) return TOPIC_NAME_INVALID;
  if (will.view.qos > limits.mqtt.qosMax) return QOS_NOT_SUPPORTED; // [MQTT-3.2.2-12]
  return will.view.isRetain && !limits.mqtt.retain ? RETAIN_NOT_SUPPORTED : 0; // [MQTT-3.2.2-13]
}

/** A CONNECT that breaks the protocol, or asks for what there is not: reported as well. */
function refuseFault(connection: Connection, reasonCode: number, isMute: boolean): 0 {
  connection.context.reporter.fault(connection, reasonCode, Buffer.alloc(0));
  return refuse(connection, reasonCode, {}, isMute);
}

/** CONNACK with the reason, then close; a client whose protocol is unknown gets no answer. */
function refuse(connection: Connection, reasonCode: number, properties: Properties, isMute: boolean): 0 {
  connection.context.engine.metrics.add("connections.refused.connect");
  // 3.x has few return codes: a malformed CONNECT, and what no code fits, is closed without. [MQTT3-3.1.4-1] [MQTT3-3.2.2-6]
  if (!isMute && (connection.isV5 || returnCode3(reasonCode) >= 0)) {
    connection.context.engine.metrics.add("packets.connack");
    const full = encodeConnack(connection.version, false, reasonCode, properties); // [MQTT-3.2.2-6]
    const isTooLarge = full.length > connection.packetBytesMax;
    connection.send(isTooLarge ? encodeConnack(connection.version, false, reasonCode, {}) : full); // [MQTT-3.2.2-19]
  }
  const { clientRefused } = connection.context.engine.hooks;
  const login = connection.rare?.login;
  if (login && clientRefused.isUsed) clientRefused.run(connection.info(), detailsOf(login.packet, reasonCode));
  connection.close(reasonCode); // [MQTT-3.2.2-7]
  return 0;
}

/** An exchange with the access backends; `complete` is its answer. */
class Request implements AuthenticateRequest {
  readonly client: ClientInfo;
  readonly password: Buffer | undefined;
  readonly method: string | undefined;
  data: Buffer | undefined;
  state: unknown = undefined;
  /** The client has been asked for another step. */
  isAsking = false;

  constructor(
    private readonly connection: Connection,
    readonly isReauthentication: boolean,
    properties: Properties,
  ) {
    const { packet } = loginOf(connection);
    this.client = connection.info();
    this.password = packet.password;
    this.method = packet.properties.authenticationMethod;
    this.data = properties.authenticationData;
  }

  complete(outcome: AuthenticateOutcome): void {
    const { connection } = this;
    if (connection.state === CLOSED) return;
    if (outcome.username !== undefined && !this.isReauthentication) this.rename(outcome.username);
    this.isAsking = outcome.reasonCode === CONTINUE_AUTHENTICATION;
    if (this.isReauthentication) finishReauthentication(connection, this, outcome);
    else finishAuthentication(connection, this, outcome);
  }

  /** Access says who it is: hooks, rules and bans know the client by this name from now on. */
  private rename(username: string): void {
    this.connection.extras.username = username;
    (this.client as Client).username = username; // the connection keeps none of its own before it is open
  }
}

function authenticate(connection: Connection, properties: Properties, isReauthentication: boolean): void {
  const request = new Request(connection, isReauthentication, properties);
  loginOf(connection).request = request;
  if (!isReauthentication) connection.hold();
  connection.context.engine.access.authenticate(request);
}

function finishAuthentication(connection: Connection, request: Request, outcome: AuthenticateOutcome): void {
  if (outcome.reasonCode === CONTINUE_AUTHENTICATION) {
    sendAuth(connection, CONTINUE_AUTHENTICATION, request, outcome); // [MQTT-4.12.0-2]
  } else if (outcome.reasonCode >= 0x80) {
    const { reasonString, serverReference } = outcome;
    refuse(connection, outcome.reasonCode, given({ reasonString, serverReference }), false); // [MQTT-3.1.4-2]
  } else if (!takeOfRate(connection)) {
    connection.context.engine.metrics.add("connections.refused.client_rate");
    refuse(connection, CONNECTION_RATE_EXCEEDED, {}, false);
  } else {
    authorizeWill(connection, request, (isAllowed) => {
      if (isAllowed) return open(connection, request, outcome); // the hold goes on until CONNACK
      refuse(connection, NOT_AUTHORIZED, {}, false);
      connection.unhold();
    });
    return;
  }
  connection.unhold();
}

/** Asked of those who are who they say: a stranger must not use up another client's connections. */
function takeOfRate(connection: Connection): boolean {
  const { rare, context } = connection;
  if (!rare?.clientRate) return true;
  return rare.clientRate.take(loginOf(connection).clientId.toString("latin1"), context.engine.nowMs);
}

/** A will is a PUBLISH that is said now and sent later. */
function authorizeWill(connection: Connection, request: Request, done: (isAllowed: boolean) => void): void {
  const { access } = connection.context.engine;
  const { will } = loginOf(connection).packet;
  if (!will || access.isOpen) return done(true);
  const verdict = access.authorizePublish(request.client, will.view);
  if (verdict !== PENDING) return done(verdict === ALLOW);
  access.whenDecided(request.client, (decided) => {
    if (connection.state !== CLOSED) done(decided === ALLOW);
  });
}

function finishReauthentication(connection: Connection, request: Request, outcome: AuthenticateOutcome): void {
  const { reasonCode } = outcome;
  if (reasonCode >= 0x80) return connection.fail(reasonCode);
  if (reasonCode !== CONTINUE_AUTHENTICATION) loginOf(connection).request = undefined;
  sendAuth(connection, reasonCode === CONTINUE_AUTHENTICATION ? reasonCode : SUCCESS, request, outcome);
}

function sendAuth(connection: Connection, reasonCode: number, request: Request, outcome: AuthenticateOutcome): void {
  connection.context.engine.metrics.add("packets.auth.sent");
  const { method: authenticationMethod } = request; // [MQTT-4.12.0-5]
  const { data: authenticationData, reasonString } = outcome;
  const needed = encodeAuth(reasonCode, given({ authenticationMethod, authenticationData }));
  const full = encodeAuth(reasonCode, given({ authenticationMethod, authenticationData, reasonString }));
  const isWanted = loginOf(connection).packet.properties.requestProblemInformation !== 0; // [MQTT-3.1.2-29]
  connection.send(isWanted && full.length <= connection.packetBytesMax ? full : needed); // [MQTT-3.15.2-2]
}

export function handleAuth(connection: Connection, bytes: Buffer, body: number, end: number): number {
  const login = connection.rare?.login;
  connection.context.engine.metrics.add("packets.auth.received");
  if (!connection.isV5) return PROTOCOL_ERROR;
  const packet = decodeAuth(bytes, body, end);
  if (typeof packet === "number") return packet;
  const method = login?.packet.properties.authenticationMethod;
  if (method === undefined || packet.properties.authenticationMethod !== method) return PROTOCOL_ERROR; // [MQTT-4.12.0-5] [MQTT-4.12.0-7] [MQTT-4.12.1-1]
  const request = login!.request;
  if (packet.reasonCode === REAUTHENTICATE) {
    if (connection.state !== OPEN || request) return PROTOCOL_ERROR;
    authenticate(connection, packet.properties, true); // [MQTT-4.12.1-2]
    return 0;
  }
  if (packet.reasonCode !== CONTINUE_AUTHENTICATION || !request?.isAsking) return PROTOCOL_ERROR; // [MQTT-4.12.0-3]
  request.isAsking = false;
  request.data = packet.properties.authenticationData;
  if (!request.isReauthentication) connection.hold();
  connection.context.engine.access.authenticate(request);
  return 0;
}

function open(connection: Connection, request: Request, outcome: AuthenticateOutcome): void {
  const { packet, clientId } = loginOf(connection);
  const { engine } = connection.context;
  connection.state = OPENING;
  const will = packet.will;
  const expirySec = packet.version === 5 ? (packet.properties.sessionExpirySec ?? 0) : packet.isCleanStart ? 0 : NEVER;
  const wish = { clientId, isCleanStart: packet.isCleanStart, expirySec, will };
  engine.open(wish, connection, (opened) => {
    if (opened.session < 0) {
      if (connection.state !== CLOSED) refuse(connection, QUOTA_EXCEEDED, {}, false);
      return;
    }
    if (connection.state === CLOSED) return engine.detach(opened.session);
    connection.session = opened.session;
    const goOn = (): void => connection.afterCommit(() => accept(connection, opened, request, outcome));
    const { subscriptions = [] } = outcome;
    if (subscriptions.length === 0) return goOn();
    connection.afterCommit(() => {}); // CONNACK waits for the session too
    subscribeGranted(connection, request.client, subscriptions, goOn);
  });
}

/** What access says that the client is subscribed to: judged as if it had asked for it itself. */
function subscribeGranted(
  connection: Connection,
  client: ClientInfo,
  subscriptions: readonly GrantedSubscription[],
  done: () => void,
): void {
  const { engine } = connection.context;
  const judged = (verdicts: readonly Verdict[]): void => {
    if (connection.state === CLOSED) return;
    const allowed = subscriptions.filter((_, i) => verdicts[i] === ALLOW);
    const items = allowed.map(({ filter, qos }) => ({ filter, options: qos, id: 0 }));
    engine.subscribe(connection.session, items, () => {
      if (connection.state !== CLOSED) done();
    });
  };
  if (engine.access.isOpen) return judged(subscriptions.map(() => ALLOW));
  engine.access.authorizeSubscribe(
    client,
    subscriptions.map(({ filter }) => filter),
    judged,
  );
}

/** CONNACK, then whatever waited on either side. */
function accept(connection: Connection, opened: Opened, request: Request, outcome: AuthenticateOutcome): void {
  const { engine } = connection.context;
  const login = loginOf(connection);
  const { packet } = login;
  const keepAliveSec = keepAliveOf(connection, packet);
  connection.silenceMaxMs = keepAliveSec * 1500;
  connection.windowMax = Math.min(packet.properties.receiveMaximum ?? 65_535, engine.limits.session.inflightCountMax);
  if (connection.isV5) setAliases(connection, packet);
  engine.metrics.add("packets.connack");
  const properties = connection.isV5 ? connackProperties(connection, login, request, outcome) : {};
  connection.send(encodeConnack(connection.version, opened.isPresent, SUCCESS, properties)); // [MQTT-3.1.4-5]
  if (connection.state === CLOSED) return; // it was larger than the client takes
  connection.state = OPEN;
  connection.isWritable = true;
  startKeepAlive(connection);
  connection.context.noteOpen(connection.number, packet.isCleanStart);
  if (engine.hooks.clientConnected.isUsed) engine.hooks.clientConnected.run(request.client, detailsOf(packet, SUCCESS));
  forgetLogin(connection, request);
  engine.attach(opened.session);
  connection.unhold();
}

function loginOf(connection: Connection): Login {
  return connection.rare!.login!;
}

/** Keeps of the login what is needed later. */
function forgetLogin(connection: Connection, request: Request): void {
  const { extras } = connection;
  const { engine } = connection.context;
  if (request.method === undefined) extras.login = null;
  else extras.login!.request = undefined;
  const isAsked = !engine.access.isOpen || engine.hooks.isAddressKept;
  if (isAsked) extras.client = snapshotOf(request.client);
  if (
    !isAsked &&
    !extras.login &&
    !extras.isBridge &&
    extras.username === undefined &&
    !extras.held &&
    !extras.gate &&
    !extras.pacer
  ) {
    connection.rare = null;
  }
}

function setAliases(connection: Connection, packet: ConnectPacket): void {
  const { topicAliasMax } = connection.context.engine.limits.mqtt;
  const outbound = Math.min(packet.properties.topicAliasMaximum ?? 0, topicAliasMax);
  if (outbound > 0) connection.aliases = new OutboundAliases(outbound); // [MQTT-3.1.2-26] [MQTT-3.1.2-27]
}

/** What is enforced: the client's wish, or the broker's maximum. */
function keepAliveOf(connection: Connection, packet: ConnectPacket): number {
  const { keepAliveSecMax } = connection.context.engine.limits.mqtt;
  const isTooLong = packet.keepAliveSec === 0 || packet.keepAliveSec > keepAliveSecMax;
  return keepAliveSecMax < 65_535 && isTooLong ? keepAliveSecMax : packet.keepAliveSec;
}

function connackProperties(
  connection: Connection,
  login: Login,
  request: Request,
  outcome: AuthenticateOutcome,
): Properties {
  const { engine, responseInformation } = connection.context;
  const { mqtt } = engine.limits;
  const { packet } = login;
  const wantedSec = packet.properties.sessionExpirySec ?? 0;
  const grantedSec = engine.sessions.expirySec[connection.session];
  const keepAliveSec = keepAliveOf(connection, packet);
  const wantsInformation = packet.properties.requestResponseInformation === 1 && responseInformation !== ""; // [MQTT-3.1.2-28]
  return given({
    sessionExpirySec: wantedSec === grantedSec ? undefined : grantedSec,
    receiveMaximum: mqtt.receiveMax === 65_535 ? undefined : mqtt.receiveMax,
    maximumQos: mqtt.qosMax === 2 ? undefined : mqtt.qosMax, // [MQTT-3.2.2-9]
    retainAvailable: mqtt.retain ? undefined : 0,
    maximumPacketSize: mqtt.packetBytesMax,
    assignedClientIdentifier: login.isIdAssigned ? login.clientId.toString() : undefined, // [MQTT-3.1.3-7] [MQTT-3.2.2-16]
    topicAliasMaximum: mqtt.topicAliasMax === 0 ? undefined : mqtt.topicAliasMax,
    serverKeepAliveSec: keepAliveSec === packet.keepAliveSec ? undefined : keepAliveSec, // [MQTT-3.2.2-21]
    responseInformation: wantsInformation ? responseInformation : undefined,
    authenticationMethod: request.method, // [MQTT-4.12.0-5]
    authenticationData: outcome.data,
  });
}

/** The same without what is undefined. */
function given(properties: { [K in keyof Properties]: Properties[K] | undefined }): Properties {
  const out: Record<string, unknown> = {};
  for (const name in properties) {
    const value = properties[name as keyof Properties];
    if (value !== undefined) out[name] = value;
  }
  return out as Properties;
}
