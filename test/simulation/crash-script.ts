/** What the clients of a crash run do: drawn anew in each step. */
import type { CrashLedger } from "./crash-ledger.ts";
import type { CrashWeather } from "./crash-weather.ts";
import { type ConnectInput, type Message, NEVER, type SubscribeWish } from "./model.ts";
import type { SimClient } from "./sim-client.ts";
import type { Dice } from "./weather.ts";

/** The world in which clients act. */
export interface Stage {
  readonly dice: Dice;
  readonly weather: Pick<CrashWeather, "acts" | "breaks" | "hasWills">;
  readonly ledger: CrashLedger;
  readonly stepNo: number;
  /** Somebody answers a CONNECT of the client. */
  canConnect(client: SimClient): boolean;
  open(client: SimClient, input: ConnectInput): void;
  cut(client: SimClient): void;
  leave(client: SimClient): void;
  makeMessage(part: Omit<Message, "no" | "payload" | "routedCount">, size: number): Message;
}

const topics = ["a", "a/b", "b/x", "b/y", "c/1", "s/a", "s/b"];
const filters = ["a", "a/b", "b/x", "b/y", "c/1", "a/#", "+/x", "b/+", "c/#", "r/#"];
/** Not for those who work for a share group: who gets what would be ambiguous. */
const observing = ["#", "s/#", "s/+", "s/a"];

export class CrashScript {
  /** A CONNECT of each was not answered, and its session may be another by now: it asks for a new one. */
  private readonly doubtful = new Set<SimClient>();
  private readonly awayUntil = new Map<SimClient, number>();

  constructor(
    private readonly world: Stage,
    /** Retained topics that all publish to. */
    private readonly hasCommonTopics = false,
  ) {}

  act(client: SimClient): void {
    const { dice, weather, stepNo } = this.world;
    if (client.link === null) {
      const isAway = (this.awayUntil.get(client) ?? 0) > stepNo;
      if (this.world.canConnect(client) && !isAway && dice.chance(20)) this.connect(client);
      return;
    }
    if (client.isMute && dice.chance(5)) client.isMute = false;
    if (dice.chance(60)) client.flush(dice.chance(70) ? Infinity : dice.between(1, 3));
    if (dice.chance(weather.breaks)) return this.breakOff(client);
    if (!client.isConnected || client.isMute) return;
    this.doubtful.delete(client);
    if (dice.chance(weather.acts)) this.actConnected(client);
  }

  private actConnected(client: SimClient): void {
    const { dice } = this.world;
    const what = dice.below(100);
    if (what < 60) this.publish(client);
    else if (what < 80) this.subscribe(client);
    else if (what < 86) this.unsubscribe(client);
    else if (what < 93) this.disconnect(client);
    else if (what < 97) client.isMute = true;
    else this.connect(client); // over the present connection, which is left as it is
  }

  private breakOff(client: SimClient): void {
    const { dice } = this.world;
    this.world.cut(client);
    if (dice.chance(30)) this.connect(client);
    else this.stayAway(client);
  }

  private stayAway(client: SimClient): void {
    const { dice, stepNo } = this.world;
    this.awayUntil.set(client, stepNo + dice.pick([0, 0, 10, 60, 150]));
  }

  private connect(client: SimClient): void {
    const { dice, weather, ledger } = this.world;
    this.world.cut(client);
    const { presence } = ledger.clients.get(client.id)!;
    const isCleanStart = dice.chance(8) || client.needsCleanStart || this.doubtful.has(client);
    if (presence !== "kept") this.doubtful.add(client);
    const isV5 = client.version === 5;
    const v5Expiry = dice.pick([0, 4, 20, NEVER, NEVER, NEVER, NEVER, NEVER, NEVER]);
    this.world.open(client, {
      type: "connect",
      clientId: client.id,
      isCleanStart,
      keepAliveSec: 0,
      expirySec: client.share ? NEVER : isV5 ? v5Expiry : isCleanStart ? 0 : NEVER,
      receiveMax: isV5 && dice.chance(60) ? dice.between(1, 20) : undefined,
      packetBytesMax: undefined,
      aliasMax: isV5 ? dice.pick([0, 0, 5]) : 0,
      will: weather.hasWills && dice.chance(60) ? this.will(client) : undefined,
    });
  }

  /** A connection for the end of the run: nothing special, session kept unless `isEnding`. */
  comeBack(client: SimClient, isEnding: boolean): void {
    const isDoubtful = client.needsCleanStart || this.doubtful.has(client);
    const isCleanStart = isEnding || isDoubtful;
    this.world.open(client, {
      type: "connect",
      clientId: client.id,
      isCleanStart,
      keepAliveSec: 0,
      expirySec: isEnding || (client.version === 4 && isCleanStart) ? 0 : NEVER,
      receiveMax: undefined,
      packetBytesMax: undefined,
      aliasMax: 0,
      will: undefined,
    });
  }

  private will(client: SimClient): ConnectInput["will"] {
    const { dice } = this.world;
    const message = this.makeMessage(client, dice.pick(topics.slice(0, 5)), dice.below(3), true);
    return { message, delaySec: client.version === 5 ? dice.pick([0, 0, 1, 3, 6]) : 0 };
  }

  makeMessage(client: SimClient, topic: string, qos: number, isWill: boolean): Message {
    const { dice } = this.world;
    const size = dice.below(300) === 0 ? 20_000 : dice.pick([8, 8, 20, 60, 200, 1000]);
    const expirySec = client.version === 5 && !isWill && dice.chance(6) ? dice.between(1, 6) : undefined;
    const part = { topic, qos, isRetain: false, isWill, expirySec, hasUserProperty: false };
    return this.world.makeMessage({ ...part, publisher: client.id, version: client.version }, size);
  }

  private publish(client: SimClient): void {
    const { dice } = this.world;
    for (let left = dice.pick([1, 1, 2, 6, 12]); left > 0; left--) {
      const isRetained = dice.chance(8);
      const lowest = this.hasCommonTopics ? 0 : 1;
      const qos = isRetained ? dice.between(lowest, 2) : dice.pick([0, 1, 1, 2, 2]);
      if (!client.canPublish(qos)) return;
      const message = isRetained ? this.retained(client, qos) : this.makeMessage(client, dice.pick(topics), qos, false);
      client.publish(message, client.version === 5 && dice.chance(20));
    }
  }

  /** On a topic of its own, or of all, and always at the same QoS: so its values come in order, whatever is sent again. */
  private retained(client: SimClient, qos: number): Message {
    const { dice } = this.world;
    const owner = this.hasCommonTopics && dice.chance(60) ? "all" : client.id;
    const topic = `r/${owner}/${qos}/${dice.below(2)}`;
    const isShort = this.hasCommonTopics && client.version === 5 && dice.chance(10);
    const expirySec = isShort ? dice.between(1, 4) : undefined;
    const part = { topic, qos, isRetain: true, isWill: false, expirySec, hasUserProperty: false };
    const size = dice.chance(25) ? -1 : dice.pick([8, 100]);
    return this.world.makeMessage({ ...part, publisher: client.id, version: client.version }, size);
  }

  private subscribe(client: SimClient): void {
    const { dice } = this.world;
    const wishes = new Map<string, SubscribeWish>();
    for (let left = dice.pick([1, 1, 2, 3]); left > 0; left--) {
      const list = client.share || dice.chance(70) ? filters : observing;
      const filter = client.share && dice.chance(60) ? client.share : dice.pick(list);
      // At QoS 0 a member may be given what then is lost on its way.
      const qos = filter === client.share ? dice.between(1, 2) : dice.pick([0, 1, 1, 2, 2, 2]);
      wishes.set(filter, { filter, qos, noLocal: false, retainAsPublished: false, retainHandling: dice.pick([0, 2]) });
    }
    client.subscribe([...wishes.values()], client.version === 5 && dice.chance(40) ? dice.between(1, 300) : 0);
  }

  private unsubscribe(client: SimClient): void {
    const known = [...client.filters];
    if (known.length > 0) client.unsubscribe([this.world.dice.pick(known)]);
  }

  private disconnect(client: SimClient): void {
    const { dice, ledger } = this.world;
    const isV5 = client.version === 5;
    const isEnding = isV5 && ledger.links.get(client.link!.model)!.expirySec > 0 && dice.chance(15);
    if (isEnding) client.needsCleanStart = true; // whether it was heard, nobody knows
    client.send({
      type: "disconnect",
      reasonCode: isV5 && dice.chance(30) ? 4 : 0,
      expirySec: isEnding ? 0 : undefined,
    });
    const { link } = client;
    this.world.leave(client);
    link!.cut(dice.chance(85) ? link!.upBytes : dice.below(link!.upBytes + 1));
    this.stayAway(client);
  }
}
