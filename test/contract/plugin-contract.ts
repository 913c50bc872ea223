/**
 * What every plugin keeps to, and each module shows: while it runs clients are served as ever and nothing of it fails; when it has
 * ended nothing of it is left; it can be loaded and ended again and again.
 */
import { describe, expect, test } from "bun:test";
import { type BrokerInProcess, startInProcess } from "#test/e2e/broker-in-process.ts";

const QUIET = ["modules.sys.intervalSec=0", "modules.presence.enabled=false"];

/** `set` are flags that give it its options; it must not be on by them alone unless it is a module. */
export function pluginContract(name: string, set: readonly string[]): void {
  describe(`the plugin contract: ${name}`, () => {
    test("serves clients while it runs, and leaves nothing behind, each time it is loaded", async () => {
      await using world = await startInProcess([...QUIET, ...set]);
      const { plugins } = world.broker;
      const isRunning = (): boolean => plugins.list().some((each) => each.name === name && each.state === "running");
      if (isRunning()) await plugins.unload(name);
      const before = leftOvers(world);
      for (let round = 0; round < 3; round++) {
        await plugins.load(name);
        await serve(world, round);
        await plugins.unload(name);
        expect(leftOvers(world)).toEqual(before);
      }
      expect(plugins.list().find((each) => each.name === name)).toMatchObject({ faultCount: 0, state: "stopped" });
      expect(world.engine.metrics.get("bugs")).toBe(0);
    });
  });
}

/** A client of each version does what clients do. */
async function serve({ harness }: BrokerInProcess, round: number): Promise<void> {
  for (const version of [3, 4, 5] as const) {
    const clientId = `c${version}-${round}`;
    const client = await harness.connect({ version, clientId, username: "ann", cleanStart: true });
    await client.subscribe(["x/#", "$share/g/y"], 2);
    for (const qos of [0, 1, 2] as const) {
      await client.publish("x/a", `at ${qos}`, { qos, retain: qos === 1 });
      const message = await client.expect("publish", { topic: "x/a", payload: `at ${qos}` }, 10_000);
      await client.ack(message);
    }
    await client.unsubscribe(["x/#"]);
    await client.publish("x/a", "", { qos: 1, retain: true });
    if (version === 5) client.kill();
    else await client.disconnect();
  }
}

function leftOvers({ engine, broker }: BrokerInProcess): unknown {
  const points = Object.entries(engine.hooks).filter(([, point]) => (point as { isUsed?: boolean }).isUsed === true);
  return {
    hooks: points.map(([point]) => point),
    contributions: broker.plugins.host.contributions().map(({ from }) => from),
    isOpen: broker.access.chain.isOpen,
    retained: engine.retainedIndex.count,
  };
}
