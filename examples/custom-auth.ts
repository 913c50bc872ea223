/**
 * Who may come in and do what, decided by the application: devices have a key, and speak and listen below their own name.
 *
 *   bun examples/custom-auth.ts
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { Broker, type BrokerOptions } from "mantou";

/** A device's key is made from its name, so that there is no list to keep. */
export function keyOf(device: string, master: string): string {
  return createHmac("sha256", master).update(device).digest("hex");
}

export function startForDevices(master: string, options: BrokerOptions = {}): Promise<Broker> {
  return Broker.start({
    ...options,
    authenticate({ username }, password) {
      if (username === undefined || !password) return false;
      const right = Buffer.from(keyOf(username, master));
      const isRight = password.length === right.length && timingSafeEqual(password, right);
      // The device need not subscribe to its commands: it gets them from the first moment on.
      return isRight && { subscriptions: { [`devices/${username}/commands`]: 1 } };
    },
    authorize({ username }, action, topic) {
      if (topic.startsWith(`devices/${username}/`)) return true;
      return action === "subscribe" && topic.startsWith("public/");
    },
  });
}

if (import.meta.main) {
  const master = process.env["MASTER_KEY"] ?? "only for trying it out";
  const broker = await startForDevices(master, {
    listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:1883" }],
    log: { level: "info" },
  });
  console.log(`${broker.addresses[0]}: user lamp-1, password ${keyOf("lamp-1", master)}`);
  process.once("SIGINT", () => void broker.close());
}
