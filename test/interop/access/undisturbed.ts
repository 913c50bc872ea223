/** A broker whose backend's server hangs: clients that are in go on, those that come wait, and get their answer afterwards. */
import { expect } from "bun:test";
import { startBroker } from "#test/support/broker-process.ts";
import { Peer } from "#test/interop/mqtt-js-client.ts";

const COMING = 40;
const ROUND_TRIPS = 50;
/** No more topics than the broker remembers answers for. */
const TOPICS = 8;

/** `backend` is an entry of `access.authenticate` with the name `it`, that knows `soak0`, … with the password `plain`, and judges topics unless told. */
export async function expectUndisturbed(
  backend: object,
  server: { freeze(): void; thaw(): void },
  judgesTopics = true,
): Promise<void> {
  // A machine with much else to do.
  const sets = ["broker.lagMsMax=600000", `access.authenticate=[${JSON.stringify(backend)}]`];
  if (judgesTopics) sets.push('access.authorize=[{"type":"same","as":"it"}]');
  const broker = await startBroker(["--listen", "tcp://127.0.0.1:0", ...sets.flatMap((set) => ["--set", set])]);
  const connect = (at: number): Promise<Peer> =>
    Peer.connect(broker.url, "5.0", { username: `soak${at}`, password: "plain", connectTimeout: 120_000 });
  try {
    await using peer = await connect(0);
    const topics = Array.from({ length: TOPICS }, (_, at) => `open/soak0/${at}`);
    const exchange = async (): Promise<void> => {
      for (let trip = 0; trip < ROUND_TRIPS; trip++) {
        await peer.publish(topics[trip % TOPICS], `${trip}`, { qos: 1 });
        expect((await peer.next()).payload).toBe(`${trip}`);
      }
    };
    await peer.subscribe("open/soak0/#", 1);
    await exchange();
    server.freeze();
    let answeredCount = 0;
    const coming = Array.from({ length: COMING }, (_, at) => connect(at + 1).finally(() => answeredCount++));
    await exchange();
    expect(answeredCount).toBe(0);
    server.thaw();
    for (const late of await Promise.all(coming)) await late.end();
  } finally {
    server.thaw();
    await broker.stop();
  }
  expect(broker.output()).not.toContain("a bug:");
}
