/** The broker inside an application: what docs/embedding.md says, with MQTT clients beside it. */
import { afterEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MantouError } from "#base/error.ts";
import { Broker, type BrokerOptions, type LocalMessage } from "#broker/embedded-broker.ts";
import { type Harness, harnessOf, tcpTarget } from "#test/support/harness.ts";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function start(options: BrokerOptions = {}): Promise<Broker> {
  const broker = await Broker.start(options);
  ends.push(() => broker.close());
  return broker;
}

const LISTENER = { name: "tcp", type: "tcp", bind: "127.0.0.1:0" } as const;

/** A broker with a listener, and clients for it. */
async function startOpen(options: BrokerOptions = {}): Promise<{ broker: Broker; harness: Harness }> {
  const broker = await start({ broker: { drainSecMax: 0 }, ...options, listeners: [LISTENER] });
  const harness = harnessOf(tcpTarget(broker.addresses[0]!));
  ends.push(() => harness.stop());
  return { broker, harness };
}

const lines = (messages: readonly LocalMessage[]): string[] =>
  messages.map(({ topic, payload, isRetain }) => `${topic} ${payload.toString()}${isRetain ? " kept" : ""}`);

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof MantouError) return error.code;
    throw error;
  }
  return "none";
}

describe("in one process, without listeners", () => {
  test("a message reaches its handlers before publish returns, retained ones come first", async () => {
    const broker = await start();
    expect(broker.addresses).toEqual([]);
    const all: LocalMessage[] = [];
    const some: LocalMessage[] = [];
    expect(broker.publish("lamp/0", "old", { isRetain: true })).toBe(0);
    broker.subscribe("#", (message) => all.push(message));
    const end = broker.subscribe("lamp/+", (message) => some.push(message));
    expect(broker.publish("lamp/1", "on", { qos: 2 })).toBe(1);
    broker.publish("door/1", Buffer.from([0xff, 0x00]));
    broker.publish("lamp/2");
    expect(lines(some)).toEqual(["lamp/0 old kept", "lamp/1 on", "lamp/2 "]);
    expect(all.map(({ topic, qos }) => [topic, qos])).toEqual([
      ["lamp/0", 0],
      ["lamp/1", 2],
      ["door/1", 0],
      ["lamp/2", 0],
    ]);
    expect([...all[2]!.payload]).toEqual([0xff, 0x00]);
    end();
    end();
    broker.publish("lamp/3", "off");
    expect(some).toHaveLength(3);
    expect(all).toHaveLength(5);
  });

  test("what a handler throws reaches nobody, and the others get their messages", async () => {
    const broker = await start();
    const got: LocalMessage[] = [];
    broker.subscribe("a", () => {
      throw new Error("a handler's own fault");
    });
    broker.subscribe("a", () => Promise.reject(new Error("later")));
    broker.subscribe("a", (message) => got.push(message));
    expect(broker.publish("a", "1")).toBe(1);
    await Promise.resolve();
    expect(broker.publish("a", "2")).toBe(1);
    expect(lines(got)).toEqual(["a 1", "a 2"]);
    expect(broker.metrics()["bugs"]).toBe(0);
  });

  test("a handler may publish, subscribe, end subscriptions and close", async () => {
    const broker = await start();
    const got: string[] = [];
    const ended = broker.subscribe("ended", () => got.push("ended"));
    broker.subscribe("ask", ({ payload }) => {
      broker.publish("answer", payload);
      broker.subscribe("late/#", ({ topic }) => got.push(topic));
      ended();
    });
    broker.subscribe("answer", ({ payload }) => got.push(`answer ${payload.toString()}`));
    broker.publish("ask", "42");
    while (got.length === 0) await Bun.sleep(1);
    broker.publish("ended", "");
    broker.publish("late/1", "");
    expect(got).toEqual(["answer 42", "late/1"]);
    const closed = Promise.withResolvers<void>();
    broker.subscribe("bye", () => void broker.close().then(closed.resolve));
    broker.publish("bye");
    await closed.promise;
    expect(codeOf(() => broker.publish("a"))).toBe("closed");
    expect(codeOf(() => broker.subscribe("a", () => {}))).toBe("closed");
  });

  test("what is wrong is said at once", async () => {
    const broker = await start({ mqtt: { packetBytesMax: "1KiB", qosMax: 1, retain: false } });
    for (const topic of ["", "a/#", "+", "a\u0000"]) expect(codeOf(() => broker.publish(topic))).toBe("topic_invalid");
    for (const filter of ["", "a/#/b", "$share/g", "a+"])
      expect(codeOf(() => broker.subscribe(filter, () => {}))).toBe("filter_invalid");
    expect(codeOf(() => broker.publish("a", "x".repeat(1024)))).toBe("payload_too_large");
    expect(codeOf(() => broker.publish("a", "x", { qos: 2 }))).toBe("qos_invalid");
    expect(codeOf(() => broker.publish("a", "x", { isRetain: true }))).toBe("retain_invalid");
    await expect(broker.publishSafely("#")).rejects.toThrow("allowed: a topic name");
  });

  test("options are the configuration's, and so are their faults", async () => {
    const wrong = { mqtt: { qosmax: 1 }, session: { outboxCountMax: -1 }, workers: 4 } as BrokerOptions;
    const fault = await Broker.start(wrong).catch((error: unknown) => error);
    expect(fault).toBeInstanceOf(MantouError);
    const { code, message } = fault as MantouError;
    expect(code).toBe("config_invalid");
    expect(message).toContain('did you mean "qosMax"');
    expect(message).toContain("session.outboxCountMax");
    expect(message).toContain("workers: found 4");
  });
});

describe("with MQTT clients", () => {
  test("messages go both ways, at any QoS, kept ones too", async () => {
    const { broker, harness } = await startOpen();
    const got: LocalMessage[] = [];
    broker.subscribe("up/#", (message) => got.push(message));
    const client = await harness.connect();
    await client.subscribe("down/#", 2);
    for (const qos of [0, 1, 2] as const) {
      await client.publish(`up/${qos}`, `q${qos}`, { qos });
      broker.publish(`down/${qos}`, `q${qos}`, { qos });
      await client.expect("publish", { topic: `down/${qos}`, qos });
    }
    await client.publish("up/kept", "x", { qos: 1, retain: true });
    expect(lines(got)).toEqual(["up/0 q0", "up/1 q1", "up/2 q2", "up/kept x"]);
    const later: LocalMessage[] = [];
    broker.subscribe("up/kept", (message) => later.push(message));
    expect(lines(later)).toEqual(["up/kept x kept"]);
    expect(await broker.publishSafely("down/safe", "x")).toBe(1);
  });

  test("what a handler keeps stays what it was, from a client, from the application, and from what is retained", async () => {
    const { broker, harness } = await startOpen();
    const client = await harness.connect();
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            from: fc.constantFrom("client", "application"),
            payload: fc.uint8Array({ maxLength: 3000 }),
            retain: fc.boolean(),
          }),
          { minLength: 1, maxLength: 20 },
        ),
        async (messages) => {
          const kept: LocalMessage[] = [];
          const end = broker.subscribe("t/#", (message) => message.isRetain || kept.push(message));
          for (const [at, { from, payload, retain }] of messages.entries()) {
            if (from === "client") await client.publish(`t/${at}`, payload, { qos: 1, retain });
            else broker.publish(`t/${at}`, payload, { isRetain: retain });
          }
          const again = new Map<string, LocalMessage>();
          const endAgain = broker.subscribe("t/#", (message) => again.set(message.topic, message));
          for (let i = 0; i < 50; i++) broker.publish("noise", "n".repeat(3000));
          end();
          endAgain();
          expect(kept.map(({ topic, payload }) => [topic, payload.toString("hex")])).toEqual(
            messages.map(({ payload }, at) => [`t/${at}`, Buffer.from(payload).toString("hex")]),
          );
          for (const [at, { payload, retain }] of messages.entries()) {
            if (!retain || payload.length === 0) continue;
            expect(again.get(`t/${at}`)!.payload.toString("hex")).toBe(Buffer.from(payload).toString("hex"));
          }
          for (const at of messages.keys()) broker.publish(`t/${at}`, "", { isRetain: true });
        },
      ),
      { numRuns: 30 },
    );
  }, 30_000);

  test("functions decide who comes in and who does what, at once or later", async () => {
    const asked: string[] = [];
    const { broker, harness } = await startOpen({
      authenticate: async ({ username }, password) => {
        if (username === "broken") throw new Error("a function's own fault");
        if (password?.toString() !== "secret") return false;
        return { username: `user-${username}`, subscriptions: { "inbox/%u": 1, "other/#": 0 } };
      },
      authorize: ({ username }, action, topic) => {
        asked.push(`${username} ${action} ${topic}`);
        if (topic === "broken") throw new Error("a function's own fault");
        return topic.startsWith("inbox/")
          ? topic === `inbox/${username}`
          : topic === "slow" && Bun.sleep(5).then(() => true);
      },
    });
    const rejected = async (username: string | undefined, password: string, code: number): Promise<void> => {
      const client = await harness.open(5);
      expect((await client.connect({ ...(username !== undefined && { username }), password })).reasonCode).toBe(code);
    };
    await rejected("alice", "wrong", 0x86);
    await rejected(undefined, "", 0x86);
    await rejected("broken", "secret", 0x88);
    const client = await harness.connect({ username: "alice", password: "secret" });
    expect(broker.publish("inbox/user-alice", "hello", { qos: 1 })).toBe(1);
    await client.expect("publish", { topic: "inbox/user-alice", qos: 1 });
    expect(asked.splice(0, 2)).toEqual(["user-alice subscribe inbox/user-alice", "user-alice subscribe other/#"]);
    expect(await client.publish("slow", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0x10 }]);
    expect(await client.publish("inbox/bob", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0x87 }]);
    expect(await client.publish("broken", "x", { qos: 1 })).toMatchObject([{ reasonCode: 0x87 }]);
    expect((await client.subscribe(["inbox/user-alice", "inbox/+"], 1)).reasonCodes).toEqual([1, 0x87]);
  });

  test("whom a function does not know, configured backends may", async () => {
    const { harness } = await startOpen({
      authenticate: ({ clientId }) => (clientId === "known" ? true : undefined),
      access: { authenticate: [{ type: "address", allow: ["10.0.0.0/8"] }] },
    } as BrokerOptions);
    await harness.connect({ clientId: "known" });
    expect((await (await harness.open()).connect({ clientId: "other" })).reasonCode).toBe(0x87);
  });
});

describe("brokers in one process", () => {
  test("know nothing of each other, and leave nothing behind", async () => {
    const [one, two] = [await startOpen(), await startOpen()];
    const got: string[][] = [[], []];
    one.broker.subscribe("#", ({ topic }) => got[0]!.push(topic));
    two.broker.subscribe("#", ({ topic }) => got[1]!.push(topic));
    await (await one.harness.connect({ clientId: "same" })).publish("from-one", "", { qos: 1 });
    await (await two.harness.connect({ clientId: "same" })).publish("from-two", "", { qos: 1 });
    expect(got).toEqual([["from-one"], ["from-two"]]);
    const [address] = one.broker.addresses;
    await Promise.all([one.broker.close(), one.broker.close()]);
    const again = await start({ listeners: [{ ...LISTENER, bind: address!.replace("tcp://", "") }] });
    expect(again.addresses).toEqual([address!]);
    two.broker.publish("still-there");
    expect(got[1]).toEqual(["from-two", "still-there"]);
  });

  test("one that cannot open its listener opens nothing", async () => {
    const { broker } = await startOpen();
    const bind = broker.addresses[0]!.replace("tcp://", "");
    const free = { ...LISTENER, name: "free" };
    const options: BrokerOptions = { listeners: [free, { ...LISTENER, bind }] };
    await expect(Broker.start(options)).rejects.toMatchObject({ code: "listen_failed" });
  });

  test("keep what they are asked to keep", async () => {
    const data = mkdtempSync(join(tmpdir(), "mantou-embedded-"));
    ends.push(() => rmSync(data, { recursive: true }));
    const first = await Broker.start({ node: { data } });
    expect(await first.publishSafely("kept", "x", { isRetain: true })).toBe(0);
    await expect(Broker.start({ node: { data } })).rejects.toBeInstanceOf(MantouError);
    await first.close();
    const second = await start({ node: { data } });
    const { promise, resolve } = Promise.withResolvers<LocalMessage>();
    second.subscribe("kept", resolve);
    expect(lines([await promise])).toEqual(["kept x kept"]);
  });

  test("let the process end by itself once they are closed", async () => {
    const script = `
      import { Broker } from "./src/index.ts";
      const broker = await Broker.start({ listeners: [{ name: "tcp", type: "tcp", bind: "127.0.0.1:0" }] });
      broker.subscribe("a", ({ payload }) => console.log(payload.toString()));
      broker.publish("a", "heard");
      await broker.close();`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "pipe", timeout: 20_000 });
    expect(await child.exited).toBe(0);
    expect(await child.stdout.text()).toBe("heard\n");
    expect(await child.stderr.text()).toBe("");
  }, 30_000);

  test("warn of open doors only where no function stands in them", async () => {
    const script = `
      import { Broker } from "./src/index.ts";
      const log = { level: "warn", format: "json" };
      const { authenticate, authorize } = { authenticate: () => true, authorize: () => true };
      for (const options of [{}, { authenticate }, { authorize }, { authenticate, authorize }]) {
        await (await Broker.start({ ...options, log })).close();
        console.log("---");
      }`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", timeout: 20_000 });
    const warnings = (await child.stdout.text())
      .split("---")
      .map((part) => part.match(/anonymous clients|no access rules/g));
    expect(warnings).toEqual([["anonymous clients", "no access rules"], null, ["anonymous clients"], null, null]);
  }, 30_000);
});
