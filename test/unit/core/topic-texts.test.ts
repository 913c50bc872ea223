// The texts of topics that hooks see, and the cache's slot that a message keeps over them, while topics push each other out and subscriptions change.
import { expect, test } from "bun:test";
import fc from "fast-check";
import { makeLimits } from "#core/limits.ts";
import { check } from "#test/support/fuzz.ts";
import { rounds } from "#test/support/level.ts";
import { TestBroker, viewOf } from "#test/support/test-broker.ts";

/** More than twice what the cache holds. */
const TOPICS = 700;
const topicOf = (number: number): string => (number % 10 === 0 ? `${number}/${"long".repeat(80)}` : `t/${number}/é`);

const step = fc.record({
  topic: fc.nat(11), // few, so that they are in the cache
  /** What the hook does besides reading. */
  hook: fc.constantFrom("nothing", "publish", "publish", "publish", "subscribe", "unsubscribe", "wildcard", "rename"),
  other: fc.oneof(fc.nat(11), fc.nat(TOPICS - 1)),
  readsFirst: fc.boolean(),
});

test("a hook sees the topic of its message, and who subscribed gets it, whatever the hook does meanwhile", () => {
  check(
    fc.property(fc.array(step, { minLength: 1, maxLength: 20 }), fc.nat(20), (steps, first) => {
      const broker = new TestBroker({ limits: { ...makeLimits(), cache: { matchCountMax: 256 } } });
      const { engine } = broker;
      const sink = broker.open("s");
      const wanted = new Set<string>();
      let isWild = false;
      const isWanted = (topic: string): boolean => wanted.has(topic) || (isWild && topic.startsWith("t/"));
      const subscribe = (topic: string): void => {
        broker.subscribe(sink, topic);
        wanted.add(topic);
      };
      for (let number = first; number < first + 50; number++) subscribe(topicOf(number % TOPICS));
      const send = (topic: string): void => {
        const view = viewOf(topic, topic);
        engine.findTopic(view); // as a connection does
        engine.publish(view);
      };
      let at = steps[0]!;
      let isNested = false;
      const expected: string[] = [];
      engine.hooks.messagePublish.add((message) => {
        if (isNested) {
          if (message.topic !== message.payload.toString()) throw new Error(`${message.topic} for ${message.payload}`);
          return;
        }
        const topic = topicOf(at.topic);
        const other = topicOf(at.other);
        if (at.readsFirst) expect(message.topic).toBe(topic);
        if (at.hook === "publish") {
          isNested = true;
          // Each twice: then it pushes out what is there.
          for (let i = 0; i < 600; i++) {
            const sent = topicOf((at.other + (i >> 1)) % TOPICS);
            send(sent);
            if (isWanted(sent)) expected.push(sent);
          }
          isNested = false;
        } else if (at.hook === "subscribe") subscribe(other);
        else if (at.hook === "unsubscribe") {
          broker.unsubscribe(sink, other);
          wanted.delete(other);
        } else if (at.hook === "wildcard") {
          if (isWild) broker.unsubscribe(sink, "t/#");
          else broker.subscribe(sink, "t/#");
          isWild = !isWild;
        }
        expect(message.topic).toBe(topic);
        if (at.hook === "rename") message.topic = other;
        const final = at.hook === "rename" ? other : topic;
        if (isWanted(final)) expected.push(topic);
      });
      for (const each of [...steps, ...steps]) {
        at = each;
        send(topicOf(each.topic));
      }
      expect(sink.take()).toEqual(expected);
    }),
    rounds(15, 200, 2000),
  );
});
