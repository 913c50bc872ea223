/**
 * A subscriber that keeps to the letter of the specification: acknowledgements in order, QoS 2 handed to the application
 * once per packet id until PUBREL, and this memory kept as long as the session is.
 *
 * Its moods: prompt acknowledges at once, lazy a while later, mute not at all on this link.
 */
import type { Packet, PacketOf, Version } from "#test/support/packets.ts";
import type { Dice } from "#test/simulation/weather.ts";
import { CrashClient, type Ground } from "./client.ts";

export interface SubscriberPlan {
  readonly id: string;
  readonly version: Version;
  /** kept: comes back to its session; restless: deletes it now and then; short: lets it expire; none: has no session. */
  readonly session: "kept" | "restless" | "short" | "none";
  readonly filters: readonly { readonly filter: string; readonly qos: number }[];
  readonly receiveMax: number | undefined;
  readonly pauseMsMax: number;
  readonly offlineMsMax: number;
  /** Percent of turns in which it leaves, or drops or makes a subscription. */
  readonly leaves: number;
  readonly changes: number;
  readonly moods: readonly ("prompt" | "lazy" | "mute")[];
}

const EXPIRY_SEC = 86_400;
const SHORT_EXPIRY_SEC = 1;
const LAZY_MS_MAX = 40;

export class Subscriber extends CrashClient {
  /** QoS 2 ids received and not released: what the application has of them. */
  #receipts = new Map<number, string>();
  /** Packet ids that the broker may not use again on this link. */
  readonly #busy = new Set<number>();
  #unacked: PacketOf<"publish">[] = [];
  /** Ids of PUBRELs without their PUBCOMP. */
  #unreleased: number[] = [];
  #mood: "prompt" | "lazy" | "mute" = "prompt";
  /** Filters that were asked for, with what came of it. */
  readonly #held = new Map<string, "asked" | "held" | "dropping">();
  readonly #requests = new Map<number, { readonly filter: string; readonly type: "suback" | "unsuback" }>();
  #lastRequestId = 0;

  constructor(
    ground: Ground,
    private readonly plan: SubscriberPlan,
    dice: Dice,
  ) {
    super(ground, plan.id, plan.version, dice);
  }

  get isDone(): boolean {
    return this.isOpen && this.#unacked.length === 0 && this.#requests.size === 0;
  }

  override async live(): Promise<void> {
    const { ground, dice, plan } = this;
    while (!ground.isOver) {
      if (!this.isOpen) await this.#comeIn();
      else if (!ground.isDraining) await this.#act();
      else this.#settleDown();
      await Bun.sleep(ground.isDraining ? 5 : dice.between(0, plan.pauseMsMax));
    }
    this.cut();
  }

  async #comeIn(): Promise<void> {
    const { dice, plan, version } = this;
    const { session, receiveMax } = plan;
    const isClean = session === "none" || (session === "restless" && !this.ground.isDraining && dice.chance(15));
    const expirySec = session === "none" ? 0 : session === "short" ? SHORT_EXPIRY_SEC : EXPIRY_SEC;
    // 3.1.1 has no session that lasts and was asked to be clean: Clean Session 1, then 0.
    const connack = await this.join({ isClean, expirySec, receiveMax: version === 5 ? receiveMax : undefined });
    if (connack === undefined) return;
    if (!connack.sessionPresent) {
      this.#receipts.clear();
      this.#held.clear();
    }
    this.#mood = this.ground.isDraining ? "prompt" : dice.pick(plan.moods);
    for (const { filter } of plan.filters) {
      const state = this.#held.get(filter);
      const isWanted = state === "asked" || (state === undefined && (!connack.sessionPresent || dice.chance(50)));
      if (isWanted) this.#subscribe(filter);
      else if (state === "dropping") this.#unsubscribe(filter);
    }
  }

  async #act(): Promise<void> {
    const { dice, plan } = this;
    if (dice.chance(plan.changes)) this.#change();
    if (!dice.chance(plan.leaves)) return;
    const how = dice.below(10);
    if (how < 4) this.cut();
    else if (how < 8) await this.disconnect();
    else return this.#comeIn(); // over the link that it has
    await Bun.sleep(dice.between(0, plan.offlineMsMax));
  }

  #settleDown(): void {
    this.#mood = "prompt";
    this.#acknowledge();
  }

  #change(): void {
    const { filter } = this.dice.pick(this.plan.filters);
    const state = this.#held.get(filter);
    if (state === undefined) this.#subscribe(filter);
    else if (state === "held") this.#unsubscribe(filter);
  }

  #subscribe(filter: string): void {
    const { qos } = this.plan.filters.find((each) => each.filter === filter)!;
    const packetId = this.#request(filter, "suback");
    this.#held.set(filter, "asked");
    this.log({ what: "subscribe", filter, qos });
    this.send({ type: "subscribe", packetId, subscriptions: [{ filter, qos }] });
  }

  #unsubscribe(filter: string): void {
    const packetId = this.#request(filter, "unsuback");
    this.#held.set(filter, "dropping");
    this.log({ what: "unsubscribe", filter });
    this.send({ type: "unsubscribe", packetId, filters: [filter] });
  }

  #request(filter: string, type: "suback" | "unsuback"): number {
    this.#lastRequestId = (this.#lastRequestId % 65_535) + 1;
    this.#requests.set(this.#lastRequestId, { filter, type });
    return this.#lastRequestId;
  }

  protected override handle(packet: Packet): void {
    if (packet.type === "publish") return this.#handlePublish(packet);
    if (packet.type === "pubrel") return this.#handlePubrel(packet.packetId);
    if (packet.type !== "suback" && packet.type !== "unsuback") {
      return this.fault(`${packet.type} to a client that did not ask for it`);
    }
    const { type, packetId, reasonCodes } = packet;
    const request = this.#requests.get(packetId);
    if (request?.type !== type) return this.fault(`${type} of packet id ${packetId}, which is not in use`);
    this.#requests.delete(packetId);
    const { filter } = request;
    const code = reasonCodes?.[0] ?? 0;
    if (code >= 0x80 && !this.ground.isFailing)
      this.fault(`${type} of ${filter} with reason code 0x${code.toString(16)}`);
    if (type === "suback") {
      this.log({ what: type, filter, code });
      if (code < 0x80) this.#held.set(filter, "held");
    } else if (code < 0x80) {
      this.log({ what: type, filter });
      this.#held.delete(filter);
    }
  }

  #handlePublish(packet: PacketOf<"publish">): void {
    const { qos, packetId = 0, dup: isDup, retain: isRetained, payload } = packet;
    const key = keyOf(payload);
    const before = qos === 2 ? this.#receipts.get(packetId) : undefined;
    this.log({ what: "received", key, qos, isRetained, isDup, packetId, isNew: before === undefined });
    if (qos === 0) return;
    if (this.#busy.has(packetId)) this.fault(`PUBLISH ${key} under packet id ${packetId}, which is in use`);
    if (before !== undefined && before !== key)
      this.fault(`${key} under packet id ${packetId} of ${before}, not yet released`);
    if (before !== undefined && !isDup) this.fault(`${key} again under packet id ${packetId} without DUP`);
    if (qos === 2 && before === undefined) this.#receipts.set(packetId, key);
    this.#busy.add(packetId);
    this.#unacked.push(packet);
    if (this.#mood === "prompt") this.#acknowledge();
    else if (this.#mood === "lazy" && this.#unacked.length === 1) this.#acknowledgeLater();
  }

  #acknowledgeLater(): void {
    const { linkNumber } = this;
    setTimeout(
      () => {
        if (this.isOpen && this.linkNumber === linkNumber) this.#acknowledge();
      },
      this.dice.between(1, LAZY_MS_MAX),
    );
  }

  #acknowledge(): void {
    for (const { qos, packetId = 0 } of this.#unacked) {
      const by = qos === 1 ? "puback" : "pubrec";
      if (qos === 1) this.#busy.delete(packetId);
      this.log({ what: "acknowledged", packetId, by });
      this.send({ type: by, packetId });
    }
    this.#unacked = [];
    for (const packetId of this.#unreleased.splice(0)) this.#handlePubrel(packetId);
  }

  #handlePubrel(packetId: number): void {
    if (this.#mood === "mute") return void this.#unreleased.push(packetId);
    this.#receipts.delete(packetId);
    this.#busy.delete(packetId);
    this.log({ what: "acknowledged", packetId, by: "pubcomp" });
    this.send({ type: "pubcomp", packetId });
  }

  protected override handleClean(): void {
    this.#receipts.clear();
  }

  protected override handleLeft(): void {
    this.#unacked = [];
    this.#unreleased = [];
    this.#busy.clear();
    this.#requests.clear();
  }
}

/** A payload is `KEY|` and filling; an empty one has no key. */
function keyOf(payload: Uint8Array): string {
  const text = Buffer.from(payload.buffer, payload.byteOffset, Math.min(payload.length, 40)).toString("latin1");
  return text.split("|", 1)[0];
}
