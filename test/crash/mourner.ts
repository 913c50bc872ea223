/** A client that publishes nothing but its wills: it comes with a new one each time, and goes with or without a word. */
import type { Packet, Version } from "#test/support/packets.ts";
import type { Dice } from "#test/simulation/weather.ts";
import { CrashClient, type Ground } from "./client.ts";

export interface MournerPlan {
  readonly id: string;
  readonly version: Version;
  readonly qos: number;
  /** Picked for each will; 3.1.1 has no delay. */
  readonly delaysSec: readonly number[];
  readonly stayMsMax: number;
  /** When its last link is over it stays away. */
  readonly joinsMax: number;
}

const EXPIRY_SEC = 86_400;

export class Mourner extends CrashClient {
  #count = 0;
  isDone = false;

  constructor(
    ground: Ground,
    private readonly plan: MournerPlan,
    dice: Dice,
  ) {
    super(ground, plan.id, plan.version, dice);
  }

  override async live(): Promise<void> {
    const { ground, dice, plan } = this;
    while (!ground.isDraining && !ground.isOver) {
      if (!this.isOpen && this.#count < plan.joinsMax) await this.#comeIn();
      await Bun.sleep(dice.between(0, plan.stayMsMax));
      if (ground.isDraining || dice.chance(60)) continue;
      if (dice.chance(60)) this.cut();
      else await this.disconnect();
    }
    this.cut(); // the last will is due
    this.isDone = true;
  }

  async #comeIn(): Promise<void> {
    const { dice, plan, version } = this;
    const number = ++this.#count;
    const key = `${this.id}.${number}`;
    const delaySec = version === 5 ? dice.pick(plan.delaysSec) : 0;
    const topic = `w/${this.id}`;
    const { qos } = plan;
    const common = { isRetained: false, isWill: true, isEmpty: false, expirySec: undefined };
    this.ground.history.addMessage({ key, publisher: this.id, number, topic, qos, ...common });
    const will = { key, delaySec, topic, qos, payload: `${key}|` };
    await this.join({ isClean: false, expirySec: EXPIRY_SEC, will });
  }

  protected override handle(packet: Packet): void {
    this.fault(`${packet.type} to a client that did not ask for it`);
  }
}
