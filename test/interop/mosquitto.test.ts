/** mosquitto_pub, mosquitto_sub and mosquitto_rr in all three protocol versions. */
import { expect } from "bun:test";
import { brokerOfFile, missing, unique } from "./fixture.ts";
import { publish, publishStdin, request, Subscriber, type Target } from "./mosquitto-clients.ts";
import { PassTable, type Version, versions } from "./pass-table.ts";

const LARGE_BYTES = 900 * 1024;
const allQos = [0, 1, 2] as const;

const broker = brokerOfFile();
const table = new PassTable("mosquitto_pub, _sub, _rr");
const absent = missing(["mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "stdbuf"]);

function each(feature: string, body: (target: Target) => Promise<void>, only: readonly Version[] = versions): void {
  for (const version of only) {
    if (absent === undefined) table.test(version, feature, () => body({ port: broker().port, version }));
    else table.skip(version, feature, absent);
  }
}

each("QoS 0, 1 and 2, both ways", async (target) => {
  const topic = unique("qos");
  for (const granted of allQos) {
    await using subscriber = await Subscriber.start(target, `${topic}/#`, ["-q", `${granted}`]);
    for (const sent of allQos) {
      await publish(target, `${topic}/${sent}`, "m", ["-q", `${sent}`]);
      expect(await subscriber.next()).toBe(`${topic}/${sent} ${Math.min(sent, granted)} 0 m`);
    }
  }
});

each("many messages on one connection, in order", async (target) => {
  const topic = unique("lines");
  const lines = Array.from({ length: 500 }, (_, i) => `line ${i}`);
  await using subscriber = await Subscriber.start(target, topic, ["-q", "2"], "%p");
  await publishStdin(target, topic, lines.map((line) => `${line}\n`).join(""), ["-q", "2", "-l"]);
  expect(await subscriber.messages.take(lines.length)).toEqual(lines);
});

each("payload of 900 KiB", async (target) => {
  const topic = unique("large");
  await using subscriber = await Subscriber.start(target, topic, ["-q", "2"], "%q %p");
  const payload = "0123456789abcdef".repeat(LARGE_BYTES / 16);
  for (const qos of allQos) {
    await publishStdin(target, topic, payload, ["-q", `${qos}`, "-s"]);
    expect(await subscriber.next()).toBe(`${qos} ${payload}`);
  }
});

each("retained", async (target) => {
  const topic = unique("retained");
  await publish(target, `${topic}/a`, "kept", ["-q", "1", "-r"]);
  await using first = await Subscriber.start(target, `${topic}/#`, ["-q", "2"]);
  expect(await first.next()).toBe(`${topic}/a 1 1 kept`);
  await publish(target, `${topic}/a`, "newer", ["-q", "2", "-r"]);
  expect(await first.next()).toBe(`${topic}/a 2 0 newer`);
  await publish(target, `${topic}/a`, "", ["-r"]);
  await using last = await Subscriber.start(target, `${topic}/#`, ["-q", "2"]);
  await publish(target, `${topic}/b`, "live");
  expect(await last.next()).toBe(`${topic}/b 0 0 live`);
});

each("will", async (target) => {
  const topic = unique("will");
  await using watcher = await Subscriber.start(target, `${topic}/#`, ["-q", "2"]);
  const will = (name: string) => ["--will-topic", `${topic}/${name}`, "--will-payload", "gone", "--will-qos", "1"];
  await using polite = await Subscriber.start(target, "other", will("polite"));
  await polite.stop();
  // mosquitto_sub 5.0 leaves with reason code 0x04, Disconnect with Will Message.
  if (target.version === "5.0") expect(await watcher.next()).toBe(`${topic}/polite 1 0 gone`);
  await using dying = await Subscriber.start(target, "other", will("dying"));
  await dying.kill();
  expect(await watcher.next()).toBe(`${topic}/dying 1 0 gone`);
});

each("persistent session with offline messages", async (target) => {
  const topic = unique("offline");
  const session = ["-c", "-i", unique("mosq"), "-q", "2"];
  const first = await Subscriber.start(target, topic, session);
  await first.kill();
  for (const qos of [1, 2]) await publish(target, topic, `m${qos}`, ["-q", `${qos}`]);
  await using again = await Subscriber.start(target, topic, session);
  expect(await again.messages.take(2)).toEqual([`${topic} 1 0 m1`, `${topic} 2 0 m2`]);
});

each("shared subscription", async (target) => {
  const topic = unique("shared");
  await using a = await Subscriber.start(target, `$share/group/${topic}`, ["-q", "1"], "%p");
  await using b = await Subscriber.start(target, `$share/group/${topic}`, ["-q", "1"], "%p");
  for (const payload of ["0", "1", "2", "3"]) await publish(target, topic, payload, ["-q", "1"]);
  const shares = [await a.messages.take(2), await b.messages.take(2)];
  expect(shares.flat().toSorted()).toEqual(["0", "1", "2", "3"]);
});

each(
  "properties of a message (-D)",
  async (target) => {
    const topic = unique("properties");
    const property = (...words: string[]) => ["-D", "publish", ...words];
    const properties = [
      ...property("user-property", "k", "v1"),
      ...property("user-property", "k", "v2"),
      ...property("content-type", "text/plain"),
      ...property("response-topic", "answers"),
      ...property("correlation-data", "17"),
      ...property("message-expiry-interval", "3600"),
      ...property("payload-format-indicator", "1"),
    ];
    const format = "%C|%R|%D|%E|%F|%P|%p";
    const words = ["-q", "1", "-D", "subscribe", "subscription-identifier", "42"];
    await using subscriber = await Subscriber.start(target, topic, words, `${format}|%S`);
    await publish(target, topic, "m", properties);
    expect(await subscriber.next()).toBe("text/plain|answers|17|3600|1|k:v1 k:v2|m|42");
  },
  ["5.0"],
);

each(
  "topic alias (-D)",
  async (target) => {
    const topic = unique("alias");
    await using subscriber = await Subscriber.start(target, topic, ["-q", "1"]);
    await publish(target, topic, "m", ["-q", "1", "-D", "publish", "topic-alias", "3"]);
    expect(await subscriber.next()).toBe(`${topic} 1 0 m`);
  },
  ["5.0"],
);

each(
  "request and response (mosquitto_rr)",
  async (target) => {
    const topic = unique("request");
    const correlated = target.version === "5.0";
    const responder = await Subscriber.start(
      target,
      topic,
      ["-q", "1"],
      correlated ? "%p %R %D" : `%p ${topic}/answer 17`,
    );
    const correlation = correlated ? ["-D", "publish", "correlation-data", "17"] : [];
    const answer = request(target, [topic, `${topic}/answer`], ["-q", "1", "-m", "question", ...correlation]);
    const [question, to, data] = (await responder.next()).split(" ");
    expect({ question, to, data }).toEqual({ question: "question", to: `${topic}/answer`, data: "17" });
    await publish(target, String(to), "the answer", ["-q", "1", ...correlation]);
    expect(await answer).toBe("the answer\n");
    await responder.stop();
  },
  ["3.1.1", "5.0"],
);
