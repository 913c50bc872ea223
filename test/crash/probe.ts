/** A new subscriber of all retained messages, at the end of a run: what it is given is what the broker has. */
import type { Packet } from "#test/support/packets.ts";
import type { Dice } from "#test/simulation/weather.ts";
import { CrashClient, type Ground } from "./client.ts";

/** Replays are paced and follow at once; this is without any of them. */
const QUIET_MS = 300;

export class Probe extends CrashClient {
  isDone = false;
  readonly #values = new Map<string, string>();
  #lastMs = 0;
  #isSubscribed = false;

  constructor(ground: Ground, dice: Dice) {
    super(ground, "probe", 5, dice);
  }

  override live(): Promise<void> {
    return this.look();
  }

  async look(): Promise<void> {
    const connack = await this.join({ isClean: true, expirySec: 0 });
    if (connack === undefined) return this.fault("could not look at the retained messages");
    this.send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "r/#", qos: 0 }] });
    this.#lastMs = performance.now();
    while (this.isOpen && (!this.#isSubscribed || performance.now() < this.#lastMs + QUIET_MS)) {
      await Bun.sleep(10);
      if (performance.now() > this.#lastMs + 10_000) return this.fault("no SUBACK");
    }
    this.log({ what: "retained", values: [...this.#values] });
    this.isDone = true;
    this.cut();
  }

  protected override handle(packet: Packet): void {
    this.#lastMs = performance.now();
    if (packet.type === "suback") this.#isSubscribed = true;
    if (packet.type !== "publish" || !packet.retain) return;
    const [key] = Buffer.from(packet.payload).toString("latin1", 0, 40).split("|", 1);
    this.#values.set(packet.topic, key);
  }
}
