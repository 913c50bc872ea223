// A worker that is started again is as the others are: what operators have changed holds in it too, whatever the file says by now.

import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "#bench/compare/free-port.ts";
import { socketControl } from "#admin/socket-control.ts";
import { type BrokerProcess, plainConfig, startBroker } from "#test/support/broker-process.ts";
import { type Harness, harnessOf, tcpTarget } from "#test/support/harness.ts";

const TIMEOUT_MS = 120_000;
/** Some belong to either worker. */
const CLIENT_IDS = Array.from({ length: 8 }, (_, at) => `client-${at}`);

async function until(isTrue: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!(await isTrue())) {
    if (performance.now() > deadlineMs) throw new Error(`not within 30 s: ${what}`);
    await Bun.sleep(20);
  }
}

/** One after the other, each until it is back. */
async function killWorkers(broker: BrokerProcess): Promise<void> {
  const { pid } = broker;
  const count = (): number => broker.output().match(/the worker is back/g)?.length ?? 0;
  for (const worker of readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ")) {
    const before = count();
    process.kill(Number(worker), "SIGKILL");
    await until(() => count() > before, "the worker is back").catch((e) => {
      console.log(broker.output());
      throw e;
    });
  }
}

/** What a subscription to three levels is answered, and the greatest QoS, by client. */
async function seenBy(at: Harness): Promise<unknown[]> {
  const seen: unknown[] = [];
  for (const clientId of CLIENT_IDS) {
    const client = await at.connect({ version: 5, clientId });
    const { reasonCodes } = await client.subscribe("a/b/c", 2);
    await client.publish("t", clientId, { qos: 1 });
    seen.push(reasonCodes[0]);
    client.kill();
  }
  return [...new Set(seen)];
}

test(
  "what was changed while the broker runs holds in a worker that is started again",
  async () => {
    const ports = [freePort(), freePort()];
    const listeners = ports.map((port, at) => ({ name: `l${at}`, type: "tcp", bind: `127.0.0.1:${port}` }));
    const yaml = (more: object): string => plainConfig({ listeners, workers: 2, ...more });
    await using broker = await startBroker(["--config", "m.yaml"], { files: { "m.yaml": yaml({}) } });
    const file = join(broker.cwd, "m.yaml");
    const control = socketControl(join(broker.cwd, "data/admin.sock"));
    const at = harnessOf(tcpTarget(broker.url));
    const stateOf = async (name: string) =>
      (await control("plugins.list", {})).find((each) => each.name === name)?.state;
    const isOpen = async () => (await control("listeners.list", {})).map((each) => each.isOpen);

    expect(await seenBy(at)).toEqual([2]);
    await control("config.set", { values: { "mqtt.topicLevelsMax": 2 } });
    await control("listeners.stop", { name: "l1" });
    await control("plugins.unload", { name: "presence" });
    await control("plugins.load", { name: "local" });
    await control("traces.start", { kind: "topic", value: "t", file: "log" });
    await control("traces.start", { kind: "topic", value: "gone", file: "gone" });
    await control("traces.stop", { name: "topic gone" });
    writeFileSync(file, "this: is no configuration");
    await killWorkers(broker);

    const trace = join(broker.cwd, "data/trace/log");
    writeFileSync(trace, "");
    await until(async () => (await control("traces.list", {})).length === 1, "the trace goes on");
    await until(async () => {
      expect(await seenBy(at)).toEqual([0x8f]);
      const text = readFileSync(trace, "utf8");
      return CLIENT_IDS.every((clientId) => text.includes(clientId));
    }, "both workers write the trace");
    expect(await isOpen()).toEqual([true, false]);
    await expect(harnessOf(tcpTarget(`tcp://127.0.0.1:${ports[1]}`)).connect()).rejects.toThrow();
    expect([await stateOf("presence"), await stateOf("local")]).toEqual(["stopped", "running"]);
    await expect(control("config.reload", {})).rejects.toThrow("this: found an unknown key");

    // Reading the file again undoes requests; a key that needs a restart waits for the broker's.
    writeFileSync(file, yaml({ mqtt: { qosMax: 1, topicLevelsMax: 128 }, modules: { local: { enabled: true } } }));
    expect(await control("config.reload", {})).toMatchObject({ waiting: ["mqtt.qosMax"], failed: [] });
    writeFileSync(file, "this: is no configuration");
    await killWorkers(broker);
    expect(await seenBy(at)).toEqual([2]);
    expect(await isOpen()).toEqual([true, true]);
    expect([await stateOf("presence"), await stateOf("local")]).toEqual(["stopped", "running"]);
    await at.stop();
    await broker.stop();
  },
  TIMEOUT_MS,
);
