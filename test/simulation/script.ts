/** What the clients of a run do: drawn anew in each step. */
import { type ConnectInput, type Message, NEVER, type SubscribeWish } from "./model.ts";
import type { SimClient } from "./sim-client.ts";
import type { World } from "./world.ts";

export const topics = ["a", "a/b", "a/b/c", "b/x", "b/y", "/lead", "$x/1", "s/a", "s/b"];
const filters = ["a", "a/b", "a/b/c", "b/x", "b/y", "/lead", "$x/1", "a/#", "a/+", "+/x", "b/+", "/+", "+/b/c", "$x/#"];
/** Not for those who work for a share group: who gets what would be ambiguous. */
const observing = ["#", "s/#", "s/+", "s/a"];

export class Script {
  constructor(private readonly world: World) {}

  act(client: SimClient): void {
    const { dice, weather } = this.world;
    if (client.link === null) {
      if (dice.chance(20)) this.connect(client);
      return;
    }
    client.ping();
    if (dice.chance(60)) client.flush(dice.chance(70) ? Infinity : dice.between(1, 3));
    if (dice.chance(weather.breaks)) return this.breakOff(client);
    if (!client.isConnected || client.isMute) return;
    if (dice.chance(weather.acts)) this.actConnected(client);
  }

  private actConnected(client: SimClient): void {
    const { dice } = this.world;
    const what = dice.below(100);
    if (what < 62) this.publish(client);
    else if (what < 82) this.subscribe(client);
    else if (what < 92) this.unsubscribe(client);
    else if (what < 96) this.disconnect(client);
    else if (what < 98) client.isMute = client.keepAliveSec > 0;
    else this.connect(client); // over the present connection, which is left as it is
  }

  /** Cut off, or a new connection while the broker still has the old one. */
  private breakOff(client: SimClient): void {
    this.world.cut(client);
    if (this.world.dice.chance(40)) this.connect(client);
  }

  connect(client: SimClient): void {
    const { dice, weather } = this.world;
    this.world.cut(client);
    const isCleanStart = dice.chance(25) || client.needsCleanStart;
    const isV5 = client.version === 5;
    const v5Expiry = dice.pick([0, 1, 3, 30, NEVER, NEVER]);
    const isLimited = isV5 && dice.chance(20);
    const will = weather.hasWills && dice.chance(40) ? this.will(client) : undefined;
    this.world.open(client, {
      type: "connect",
      clientId: client.id,
      isCleanStart,
      keepAliveSec: dice.pick([0, 2, 5, 60]),
      expirySec: isV5 ? v5Expiry : isCleanStart ? 0 : NEVER,
      receiveMax: isV5 && dice.chance(60) ? dice.between(1, 20) : undefined,
      packetBytesMax: isLimited ? dice.pick([90, 150, 400]) : undefined,
      aliasMax: isV5 ? dice.pick([0, 0, 2, 10]) : 0,
      will,
    });
  }

  /** A connection for the end of the run: nothing special, session kept unless `isEnding`. */
  comeBack(client: SimClient, isEnding: boolean): void {
    const isCleanStart = isEnding || client.needsCleanStart;
    const expirySec = isCleanStart ? 0 : NEVER;
    const plain = { receiveMax: undefined, packetBytesMax: undefined, aliasMax: 0, will: undefined };
    this.world.open(client, {
      type: "connect",
      clientId: client.id,
      isCleanStart,
      keepAliveSec: 60,
      expirySec,
      ...plain,
    });
  }

  private will(client: SimClient): ConnectInput["will"] {
    const { dice } = this.world;
    const message = this.makeMessage(client, dice.below(3), true);
    return { message, delaySec: client.version === 5 ? dice.pick([0, 0, 1, 3, 10]) : 0 };
  }

  private makeMessage(client: SimClient, qos: number, isWill: boolean): Message {
    const { dice } = this.world;
    const isRetain = dice.chance(18);
    const topic = dice.pick(topics);
    // A message without payload carries no number: nothing else may tell two of a topic apart, nor who it was for.
    const isClear = isRetain && !isWill && !topic.startsWith("s/") && dice.chance(25);
    const size = isClear ? -1 : dice.below(400) === 0 ? 40_000 : dice.pick([8, 8, 20, 60, 200, 1000]);
    const isV5 = client.version === 5;
    const part = {
      topic,
      qos: isClear && this.world.weather.queueQos0 ? 0 : qos,
      isRetain,
      isWill,
      expirySec: isV5 && !isClear && dice.chance(15) ? dice.between(1, 6) : undefined,
      hasUserProperty: isV5 && !isClear && dice.chance(30),
      publisher: client.id,
      version: client.version,
    };
    return this.world.makeMessage(part, size);
  }

  private publish(client: SimClient): void {
    const { dice } = this.world;
    for (let left = dice.pick([1, 1, 2, 6]); left > 0; left--) {
      const qos = dice.below(3);
      if (!client.canPublish(qos)) return;
      client.publish(this.makeMessage(client, qos, false), client.version === 5 && dice.chance(30));
    }
  }

  private subscribe(client: SimClient): void {
    const { dice } = this.world;
    const wishes = new Map<string, SubscribeWish>();
    for (let left = dice.pick([1, 1, 2, 3]); left > 0; left--) {
      const list = client.share || dice.chance(70) ? filters : observing;
      const filter = client.share && dice.chance(50) ? client.share : dice.pick(list);
      const isV5 = client.version === 5;
      wishes.set(filter, {
        filter,
        qos: dice.below(3),
        noLocal: isV5 && filter !== client.share && dice.chance(20),
        retainAsPublished: isV5 && dice.chance(30),
        retainHandling: isV5 ? dice.pick([0, 0, 1, 2]) : 0,
      });
    }
    client.subscribe([...wishes.values()], client.version === 5 && dice.chance(40) ? dice.between(1, 300) : 0);
  }

  private unsubscribe(client: SimClient): void {
    const { dice } = this.world;
    const known = [...client.filters];
    if (known.length === 0) return;
    client.unsubscribe([dice.pick(known)]);
  }

  private disconnect(client: SimClient): void {
    const { dice } = this.world;
    const isV5 = client.version === 5;
    const reasonCode = isV5 && dice.chance(30) ? 4 : 0;
    client.send({ type: "disconnect", reasonCode, expirySec: undefined });
    const { link } = client;
    client.leave();
    link!.cut(dice.chance(85) ? link!.upBytes : dice.below(link!.upBytes + 1));
  }
}
