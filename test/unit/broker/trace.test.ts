import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tracer } from "#broker/trace.ts";
import type { TraceEvent } from "#broker/trace-event.ts";
import type { TraceRequest } from "#broker/trace-run.ts";
import { MqttContext } from "#mqtt/context.ts";
import { Connection } from "#mqtt/connection.ts";
import { MemoryLink } from "#test/support/memory-link.ts";
import { encodePacket, type PacketInput, type Version } from "#test/support/packets.ts";
import { TestBroker } from "#test/support/test-broker.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "mantou-trace-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

class Setup {
  nowMs = 1_000_000;
  readonly bugs: unknown[] = [];
  readonly broker = new TestBroker();
  readonly context = new MqttContext(this.broker.engine);
  readonly tracer = new Tracer(this.context, {
    dir: join(dir, "trace"),
    nowMs: () => this.nowMs,
    onBug: (error) => void this.bugs.push(error),
  });

  private traceCount = 0;

  /** Starts a trace and returns what takes its events. */
  follow(request: TraceRequest): () => TraceEvent[] {
    const { name } = this.tracer.start({ name: `trace-${this.traceCount++}`, ...request });
    return () => this.tracer.read(name)!;
  }

  client(clientId: string, version: Version = 5): (packet: PacketInput) => void {
    const link = new MemoryLink();
    const connection = new Connection(this.context, link, "tcp");
    const send = (packet: PacketInput): void => connection.handleData(Buffer.from(encodePacket(packet, version)));
    send({ type: "connect", clientId, cleanStart: true });
    return send;
  }
}

const words = (events: readonly TraceEvent[]): string[] =>
  events.map(({ direction, clientId, type, topic }) => [direction, clientId, type, topic].filter(Boolean).join(" "));

describe("what is followed", () => {
  test("a client: both ways, from CONNECT to its end", () => {
    const setup = new Setup();
    const events = setup.follow({ kind: "client", value: "a", payload: "text" });
    const other = setup.client("b");
    const send = setup.client("a");
    send({ type: "subscribe", packetId: 1, subscriptions: [{ filter: "t", qos: 1 }] });
    other({ type: "publish", topic: "t", qos: 1, packetId: 5, payload: "hi" });
    send({ type: "puback", packetId: 1 });
    send({ type: "pingreq" });
    send({ type: "disconnect" });
    const told = events();
    expect(words(told)).toEqual([
      "in a CONNECT",
      "out a CONNACK",
      "note a connected",
      "in a SUBSCRIBE",
      "out a SUBACK",
      "out a PUBLISH t",
      "in a PUBACK",
      "in a PINGREQ",
      "out a PINGRESP",
      "in a DISCONNECT",
      "note a disconnected",
    ]);
    expect(told[5]).toMatchObject({ fields: { packetId: 1, qos: 1 }, payload: { bytes: 2, text: "hi" } });
    expect(setup.bugs).toEqual([]);
  });

  test("a topic: who publishes, subscribes and gets it, and what is dropped", () => {
    const setup = new Setup();
    const events = setup.follow({ kind: "topic", value: "a/#" });
    const [from, to] = [setup.client("from"), setup.client("to")];
    to({ type: "subscribe", packetId: 1, subscriptions: ["x", "$share/g/a/+"].map((filter) => ({ filter, qos: 0 })) });
    from({ type: "publish", topic: "x", payload: "no" });
    from({ type: "publish", topic: "a/1", payload: "yes" });
    from({ type: "publish", topic: "a/b/c", payload: "nobody" });
    from({ type: "unsubscribe", packetId: 2, filters: ["b"] });
    const told = events();
    expect(words(told)).toEqual([
      "in to SUBSCRIBE",
      "in from PUBLISH a/1",
      "out to PUBLISH a/1",
      "in from PUBLISH a/b/c",
      "note from dropped a/b/c",
    ]);
    expect(told[4]!.fields).toEqual({ reason: "no_subscriber", publisher: "from", qos: 0 });
    expect(told[1]!.payload).toEqual({ bytes: 3 });
  });

  test("a topic that an alias stands for", () => {
    const setup = new Setup();
    const from = setup.client("from");
    from({ type: "publish", topic: "a/1", properties: [["topicAlias", 3]], payload: "" });
    const events = setup.follow({ kind: "topic", value: "a/+" });
    from({ type: "publish", topic: "", properties: [["topicAlias", 3]], payload: "" });
    const told = events();
    expect(words(told).slice(0, 1)).toEqual(["in from PUBLISH a/1"]);
    expect(told[0]!.fields["topicAlias"]).toBe(3);
  });

  test("an address, or a block of them", () => {
    const setup = new Setup();
    const one = setup.follow({ kind: "address", value: "127.0.0.0/8" });
    const other = setup.follow({ kind: "address", value: "192.0.2.1" });
    setup.client("a");
    expect(words(one())).toEqual(["in a CONNECT", "out a CONNACK", "note a connected"]);
    expect(other()).toEqual([]);
  });

  test("each trace shows payloads as it was asked to, cut where it was asked to", () => {
    const setup = new Setup();
    const hex = setup.follow({ kind: "topic", value: "t", payload: "hex", payloadBytesMax: 3 });
    const text = setup.follow({ kind: "topic", value: "t", payload: "text" });
    setup.client("a")({ type: "publish", topic: "t", payload: "äbc" });
    expect(hex()[0]!.payload).toEqual({ bytes: 4, hex: "c3a462" });
    expect(text()[0]!.payload).toEqual({ bytes: 4, text: "äbc" });
  });
});

describe("while nobody traces", () => {
  test("there is no tap and no hook, before and after", () => {
    const { context, tracer, broker } = new Setup();
    const { clientConnected, clientDisconnected, clientDenied } = broker.engine.hooks;
    const isUsed = () => [
      context.tap !== null,
      ...[clientConnected, clientDisconnected, clientDenied].map((h) => h.isUsed),
    ];
    expect(isUsed()).toEqual([false, false, false, false]);
    const first = tracer.start({ kind: "client", value: "a" });
    const second = tracer.start({ kind: "topic", value: "#" });
    expect(tracer.stop(first.name)).toBe(true);
    expect(tracer.stop(first.name)).toBe(false);
    expect(isUsed()).toEqual([true, true, true, true]);
    tracer.stop(second.name);
    expect(isUsed()).toEqual([false, false, false, false]);
  });
});

describe("to a file", () => {
  test("one line an event, which no client can forge, and which only the owner reads", () => {
    const setup = new Setup();
    const { name, file } = setup.tracer.start({ kind: "client", value: "a\nb", file: "x.log", payload: "text" });
    setup.client("a\nb")({ type: "publish", topic: "t", payload: "p\u001b[2J\n" });
    setup.tracer.stop(name);
    expect(file).toBe(join(dir, "trace", "x.log"));
    const lines = readFileSync(file!, "utf8").trimEnd().split("\n");
    expect(lines).toHaveLength(6);
    expect(lines[0]).toMatch(
      /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} -> "a\\nb" 127\.0\.0\.1 CONNECT \d+B version=5 clientId="a\\nb" /,
    );
    expect(lines[3]).toContain('-> "a\\nb" 127.0.0.1 PUBLISH');
    expect(lines[3]).toEndWith(' topic=t qos=0 payload(6)="p\\u001b[2J\\n"');
    expect(lines[5]).toContain(" ended reason=stopped eventCount=5 lostCount=0");
    expect(statSync(file!).mode & 0o777).toBe(0o600);
  });

  test("a name with a path, or one that is taken, is refused", () => {
    const { tracer } = new Setup();
    for (const file of ["../x", "/etc/x", "a/b", ".x", "", "x\0y"]) {
      expect(() => tracer.start({ kind: "client", value: "a", file })).toThrow(
        /^trace: file: found .*, allowed: the name of a file/,
      );
    }
    tracer.start({ kind: "client", value: "a", file: "x" });
    expect(() => tracer.start({ kind: "client", value: "a", file: "y" })).toThrow("already_existed");
    expect(() => tracer.start({ kind: "client", value: "b", file: "x" })).toThrow("already_existed");
    expect(tracer.list()).toHaveLength(1);
  });

  test("it ends when it has written as much as it may", () => {
    const setup = new Setup();
    const { file } = setup.tracer.start({ kind: "client", value: "a", file: "x", bytesMax: 500 });
    const send = setup.client("a");
    for (let i = 0; i < 100; i++) send({ type: "pingreq" });
    expect(setup.tracer.list()).toEqual([]);
    const text = readFileSync(file!, "utf8");
    expect(text.length).toBeLessThan(900);
    expect(text).toContain('ended reason="it has written as much as it may"');
  });
});

describe("limits", () => {
  test("so many at once, and none whose numbers or target make no sense", () => {
    const { tracer } = new Setup();
    const bad: [TraceRequest, string][] = [
      [{ kind: "topic", value: "a/#/b" }, "trace: topic"],
      [{ kind: "topic", value: "$share/g/a" }, "trace: topic"],
      [{ kind: "client", value: "" }, "trace: client"],
      [{ kind: "address", value: "all" }, "trace: address"],
      [{ kind: "client", value: "a", secMax: 0 }, "trace: secMax: found 0, allowed: a whole number from 1 to 86400"],
      [{ kind: "client", value: "a", payloadBytesMax: 1.5 }, "trace: payloadBytesMax"],
    ];
    for (const [request, says] of bad) expect(() => tracer.start(request)).toThrow(says);
    for (let i = 0; i < 8; i++) tracer.start({ kind: "client", value: `${i}` });
    expect(() => tracer.start({ kind: "client", value: "a" })).toThrow("8 traces are running");
  });

  test("events a second: the rest is counted and told in the trace", () => {
    const setup = new Setup();
    const events = setup.follow({ kind: "client", value: "a", eventsPerSecMax: 10 });
    const send = setup.client("a");
    for (let i = 0; i < 100; i++) send({ type: "pingreq" });
    expect(events()).toHaveLength(10);
    setup.nowMs += 1000;
    setup.tracer.tick();
    const [lost] = events();
    expect(lost).toMatchObject({ type: "lost", fields: { eventCount: 193 } });
    send({ type: "pingreq" });
    expect(words(events())).toEqual(["in a PINGREQ", "out a PINGRESP"]);
    for (let i = 0; i < 20; i++) send({ type: "pingreq" });
    setup.nowMs += 1000; // and no tick: a flood that goes on tells of itself
    send({ type: "pingreq" });
    expect(words(events()).slice(-3)).toEqual(["note lost", "in a PINGREQ", "out a PINGRESP"]);
    expect(setup.tracer.list()[0]).toMatchObject({ eventCount: 22, lostCount: 225 });
  });

  test("events that nobody reads: the rest is counted, and after a while the trace ends", () => {
    const setup = new Setup();
    const events = setup.follow({ kind: "client", value: "a", eventsPerSecMax: 10_000 });
    const send = setup.client("a");
    for (let i = 0; i < 2000; i++) send({ type: "pingreq" });
    expect(events()).toHaveLength(2000);
    expect(setup.tracer.list()[0]).toMatchObject({ eventCount: 4003, lostCount: 2003 });
    setup.nowMs += 29_999;
    setup.tracer.tick();
    expect(setup.tracer.list()).toHaveLength(1);
    setup.nowMs += 1;
    setup.tracer.tick();
    expect(setup.tracer.list()).toEqual([]);
  });

  test("time; what was told last can still be read, once", () => {
    const setup = new Setup();
    const events = setup.follow({ kind: "client", value: "a", secMax: 5 });
    setup.nowMs += 4999;
    setup.tracer.tick();
    expect(setup.tracer.list()).toHaveLength(1);
    setup.nowMs += 1;
    setup.tracer.tick();
    expect(setup.tracer.list()).toEqual([]);
    expect(setup.context.tap).toBeNull();
    expect(words(events())).toEqual(["note ended"]);
    expect(events()).toBeUndefined();
  });
});

test("a bug of the tracer ends all traces, and no client notices", () => {
  const setup = new Setup();
  setup.tracer.start({ kind: "client", value: "a" });
  const send = setup.client("a");
  setup.tracer["knownOf"] = () => {
    throw new Error("planted");
  };
  send({ type: "publish", topic: "t", qos: 1, packetId: 1, payload: "" });
  expect(setup.bugs).toHaveLength(1);
  expect(setup.broker.engine.metrics.get("messages.qos1.received")).toBe(1);
  expect(setup.context.tap).toBeNull();
});
