/** An application that speaks MQTT, as others know it: it heats when a room is too cold. thermostat.test.ts tests it. */
import { connectAsync, type MqttClient } from "mqtt";

interface Room {
  temperature: number;
  target: number;
  heater: "" | "on" | "off";
}

/** Watches `rooms/ROOM/temperature` and `rooms/ROOM/target`, and says `on` or `off` to `rooms/ROOM/heater`. */
export async function startThermostat(url: string): Promise<MqttClient> {
  const client = await connectAsync(url, { clientId: "thermostat" });
  const rooms = new Map<string, Room>();
  client.on("message", (topic, payload) => {
    const [, name = "", what] = topic.split("/");
    const value = Number.parseFloat(payload.toString());
    if (Number.isNaN(value)) return;
    const room = rooms.get(name) ?? { temperature: NaN, target: NaN, heater: "" };
    rooms.set(name, room);
    room[what === "target" ? "target" : "temperature"] = value;
    const { temperature, target, heater } = room;
    if (Number.isNaN(temperature + target)) return;
    room.heater = temperature < target ? "on" : "off";
    if (room.heater !== heater) client.publish(`rooms/${name}/heater`, room.heater, { qos: 1, retain: true });
  });
  await client.subscribeAsync(["rooms/+/temperature", "rooms/+/target"], { qos: 1 });
  return client;
}
