/** Whether a filter matches a topic, by asking the broker's own engine. */
import { TestBroker } from "./test-broker.ts";

export function matches(filter: string, topic: string): boolean {
  const broker = new TestBroker();
  broker.subscribe(broker.open("a"), filter);
  return broker.publish(topic, "x") > 0;
}
