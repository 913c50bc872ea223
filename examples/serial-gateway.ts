/**
 * A gateway between a serial line and MQTT: lines `temperature=21.5` become messages, and commands become lines.
 *
 *   serial line ─► boiler/temperature (retained) ─► MQTT clients
 *   serial line ◄─ boiler/set/valve               ◄─
 *
 *   bun examples/serial-gateway.ts /dev/ttyUSB0       (set its speed before: stty -F /dev/ttyUSB0 115200 raw)
 *   bun examples/serial-gateway.ts                    stdin and stdout take the line's place
 */
import { Broker, type BrokerOptions } from "mantou";

export interface SerialLine {
  readonly input: ReadableStream<Uint8Array>;
  write(text: string): unknown;
}

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const LINE_LENGTH_MAX = 1024;

/** Resolves when the line has ended; the broker is closed then. */
export async function runGateway(
  line: SerialLine,
  options: BrokerOptions,
  ready: (broker: Broker) => void = () => {},
): Promise<void> {
  await using broker = await Broker.start(options);
  broker.subscribe("boiler/set/+", ({ topic, payload }) => {
    const name = topic.split("/").at(-1)!;
    const value = payload.toString();
    // What comes from the network must not become a second line.
    if (NAME.test(name) && !/[\r\n]/.test(value)) line.write(`${name}=${value}\n`);
  });
  ready(broker);
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of line.input) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/\r?\n/);
    rest = lines.pop()!.slice(-LINE_LENGTH_MAX); // a device that never ends its line fills no memory
    for (const [name = "", value] of lines.map((text) => text.split("=", 2)))
      if (NAME.test(name) && value !== undefined) broker.publish(`boiler/${name}`, value, { isRetain: true });
  }
}

if (import.meta.main) {
  const [device] = process.argv.slice(2);
  const line: SerialLine = device
    ? { input: Bun.file(device).stream(), write: (text) => Bun.write(Bun.file(device), text) }
    : { input: Bun.stdin.stream(), write: (text) => process.stdout.write(text) };
  await runGateway(line, { listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:1883" }] }, ({ addresses }) =>
    console.error(`MQTT on ${addresses[0]}`),
  );
}
