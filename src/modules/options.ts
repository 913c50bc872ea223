/**
 * The options of the modules, as zod schemas: the `modules` section of the configuration is made of them. Every leaf's error
 * message is its list of allowed values. They stand apart from the modules, which are loaded only when they are on.
 */
import { wholeNumber, z } from "#plugins/plugin.ts";

function flag(value: boolean, description: string) {
  return z.boolean({ error: "true or false" }).default(value).meta({ description });
}

const qos = (description: string) => wholeNumber("qos", { min: 0, max: 2, initial: 0 }, description);

export const presenceOptions = z.strictObject({
  enabled: flag(true, "tells who comes and goes on $SYS/brokers/NODE/clients/CLIENTID/connected and …/disconnected"),
  qos: qos("of these messages"),
});

export const sysOptions = z.strictObject({
  intervalSec: wholeNumber(
    "intervalSec",
    { min: 0, max: 86_400, initial: 60 },
    "how often the figures below $SYS/brokers/NODE are published; 0: nothing of it",
  ),
});
