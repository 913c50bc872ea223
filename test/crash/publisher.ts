/**
 * A publisher that keeps to the letter of the specification: packet ids are used again as soon as they are free, what is
 * unacknowledged is sent again in order and under its id when the client is back, and nothing else ever is.
 *
 * Now and then it loses a PUBREC or PUBCOMP that came (it cuts the link before it has looked at it), so that the broker must
 * recognise what it has already answered.
 */
import type { ConnackPacket, Packet, Properties, Version } from "#test/support/packets.ts";
import { prop } from "#test/support/packets.ts";
import type { Dice } from "#test/simulation/weather.ts";
import { CrashClient, type Ground } from "./client.ts";
import type { Message } from "./history.ts";

export interface PublisherPlan {
  readonly id: string;
  readonly version: Version;
  /** Has no session: what is unacknowledged when its link ends is given up. */
  readonly isClean: boolean;
  readonly topics: readonly string[];
  readonly retainedTopics: readonly string[];
  /** One is picked for each message. */
  readonly qosMix: readonly number[];
  /** Most unacknowledged at once. */
  readonly window: number;
  readonly burstMax: number;
  readonly pauseMsMax: number;
  readonly payloadBytesMax: number;
  readonly messagesMax: number;
  /** Percent of turns in which it leaves. */
  readonly leaves: number;
  /** Percent of QoS 2 messages that are sent twice at once: 3.1.1 does not forbid it, and it must change nothing. */
  readonly repeats: number;
  /** Percent of PUBREC and PUBCOMP that are lost on it. */
  readonly losses: number;
}

interface Flight {
  readonly message: Message;
  readonly payload: string;
  readonly packetId: number;
  isReleased: boolean;
}

const EXPIRY_SEC = 86_400;
const BROKER_RECEIVE_MAX = 65_535;

export class Publisher extends CrashClient {
  /** Unacknowledged, in the order of first sending. */
  #flights: Flight[] = [];
  #count = 0;
  #receiveMax = 0;

  constructor(
    ground: Ground,
    private readonly plan: PublisherPlan,
    dice: Dice,
  ) {
    super(ground, plan.id, plan.version, dice);
  }

  get isDone(): boolean {
    return this.#flights.length === 0;
  }

  override async live(): Promise<void> {
    const { ground, dice, plan } = this;
    while (!ground.isOver) {
      if (!this.isOpen) await this.#comeIn();
      else if (!ground.isDraining) await this.#act();
      else if (this.isDone) return this.disconnect();
      await Bun.sleep(ground.isDraining ? 5 : dice.between(0, plan.pauseMsMax));
    }
    this.cut();
  }

  async #comeIn(): Promise<void> {
    const { isClean } = this.plan;
    const connack = await this.join({ isClean, expirySec: isClean ? 0 : EXPIRY_SEC });
    if (connack === undefined) return;
    this.#receiveMax = receiveMaxOf(connack);
    if (!connack.sessionPresent) this.#flights = [];
    for (const flight of this.#flights) this.#sendFlight(flight, true);
  }

  async #act(): Promise<void> {
    const { dice, plan } = this;
    if (dice.chance(plan.leaves)) {
      if (dice.chance(50)) this.cut();
      else await this.disconnect();
      if (dice.chance(50)) await Bun.sleep(dice.between(0, 60));
      return;
    }
    for (let left = dice.between(1, plan.burstMax); left > 0; left--) this.#publish();
  }

  #publish(): void {
    const { dice, plan } = this;
    const isFull = this.#flights.length >= Math.min(plan.window, this.#receiveMax);
    const qos = dice.pick(plan.qosMix);
    if ((isFull && qos > 0) || this.#count >= plan.messagesMax || !this.isOpen) return;
    const number = ++this.#count;
    const isRetained = plan.retainedTopics.length > 0 && dice.chance(20);
    const message: Message = {
      key: `${this.id}.${number}`,
      publisher: this.id,
      number,
      topic: dice.pick(isRetained ? plan.retainedTopics : plan.topics),
      qos,
      isRetained,
      isWill: false,
      isEmpty: isRetained && dice.chance(15),
      expirySec: this.version === 5 && dice.chance(8) ? dice.pick([1, 3600]) : undefined,
    };
    const payload = message.isEmpty ? "" : `${message.key}|`.padEnd(dice.between(0, plan.payloadBytesMax), ".");
    this.ground.history.addMessage(message);
    const flight = { message, payload, packetId: qos > 0 ? this.#freeId() : 0, isReleased: false };
    if (qos > 0) this.#flights.push(flight);
    this.#sendFlight(flight, false);
    if (qos === 2 && this.version === 4 && dice.chance(plan.repeats)) this.#sendFlight(flight, true);
  }

  #freeId(): number {
    const used = new Set(this.#flights.map(({ packetId }) => packetId));
    let id = 1;
    while (used.has(id)) id++;
    return id;
  }

  #sendFlight({ message, payload, packetId, isReleased }: Flight, isDup: boolean): void {
    const { key, topic, qos, isRetained: retain, expirySec } = message;
    if (isReleased) {
      this.log({ what: "pubrel", key });
      return this.send({ type: "pubrel", packetId });
    }
    this.log({ what: "publish", key, packetId, isDup });
    const properties: Properties = expirySec === undefined ? [] : [["messageExpiryIntervalSec", expirySec]];
    const head = { type: "publish", qos, retain, dup: isDup, topic, payload } as const;
    const fields = this.version === 5 ? { ...head, properties } : head;
    this.send(qos > 0 ? { ...fields, packetId } : fields);
  }

  protected override handle(packet: Packet): void {
    if (packet.type !== "puback" && packet.type !== "pubrec" && packet.type !== "pubcomp") {
      return this.fault(`${packet.type} to a client that did not ask for it`);
    }
    const { type, packetId } = packet;
    const index = this.#flights.findIndex((flight) => flight.packetId === packetId);
    const flight = this.#flights[index];
    if (flight === undefined) return this.fault(`${type} of packet id ${packetId}, which is not in use`);
    const { message } = flight;
    const { key } = message;
    const code = packet.reasonCode ?? 0;
    if (type === "puback" && message.qos === 1) {
      this.#checkOrder(flight, type);
      this.log({ what: "puback", key, code });
      this.#flights.splice(index, 1);
    } else if (type === "pubrec" && flight.isReleased && this.plan.repeats > 0) {
      return; // the second answer to what was sent twice
    } else if (type === "pubrec" && message.qos === 2 && !flight.isReleased) {
      this.#checkOrder(flight, type);
      this.#handlePubrec(flight, index, code);
    } else if (type === "pubcomp" && flight.isReleased) {
      const isLost = this.dice.chance(this.plan.losses);
      this.log({ what: "pubcomp", key });
      if (isLost) this.cut();
      else this.#flights.splice(index, 1);
    } else {
      this.fault(`${type} of packet id ${packetId}, which is a QoS ${message.qos} message`);
    }
    if (code >= 0x80 && type !== "pubcomp" && !this.ground.isFailing)
      this.fault(`${type} of ${key} with reason code 0x${code.toString(16)}`);
  }

  #handlePubrec(flight: Flight, index: number, code: number): void {
    const { key } = flight.message;
    const isIgnored = code < 0x80 && this.dice.chance(this.plan.losses);
    this.log({ what: "pubrec", key, code, isIgnored });
    if (isIgnored) return this.cut();
    if (code >= 0x80) {
      this.#flights.splice(index, 1);
      return;
    }
    flight.isReleased = true;
    this.#sendFlight(flight, false);
  }

  /** Acknowledgements of a kind come in the order of the messages (MQTT 5.0 §4.6, 3.1.1 §4.6). */
  #checkOrder(flight: Flight, type: "puback" | "pubrec"): void {
    const { qos } = flight.message;
    const first = this.#flights.find((other) => other.message.qos === qos && !other.isReleased);
    if (first !== flight) this.fault(`${type} of ${flight.message.key} before that of ${first?.message.key}`);
  }

  protected override handleLeft(): void {
    if (this.plan.isClean) this.#flights = [];
  }
}

function receiveMaxOf(connack: ConnackPacket): number {
  const value = prop(connack, "receiveMaximum");
  return typeof value === "number" ? value : BROKER_RECEIVE_MAX;
}
