/** src/mqtt/deliver.ts: a PUBLISH written into a link's buffer, by what must be done to it on the way. */
import type { MessageView } from "#core/message.ts";
import { deliver } from "#mqtt/deliver.ts";
import { generate } from "mqtt-packet";
import { type Client, openClient, publishPacket, viewOf } from "./fixture.ts";
import type { Recorder, Suite } from "./recorder.ts";

const OPS = 1000;
const TOPIC = "site/12/line/device4711/state";
const properties = { contentType: "text/plain", userProperties: { unit: "C", from: "a" } };

export const suite: Suite = {
  about: "PUBLISH into a send buffer (src/mqtt/deliver.ts)",
  async run(recorder) {
    const v4 = openClient({ version: 4 });
    const v5 = openClient({ version: 5 });
    const qos0 = viewOf(publishPacket(TOPIC, 64, 0, 4), 4);
    await againstMqttPacket(recorder, v4, qos0);
    await time(recorder, "as received, QoS 1, 64 B", v4, viewOf(publishPacket(TOPIC, 64, 1, 4), 4), 2);
    await time(recorder, "as received, QoS 0, 1 KiB", v4, viewOf(publishPacket(TOPIC, 1024, 0, 4), 4), 0);
    await time(recorder, "as received, QoS 0, 8 KiB", v4, viewOf(publishPacket(TOPIC, 8192, 0, 4), 4), 0);
    await time(
      recorder,
      "as received, 5.0 with 3 properties",
      v5,
      viewOf(publishPacket(TOPIC, 64, 0, 5, properties), 5),
      0,
    );
    await time(recorder, "encoded, 3.1.1 to 5.0", v5, qos0, 0);
    await time(recorder, "encoded, QoS 1 to 0", v4, viewOf(publishPacket(TOPIC, 64, 1, 4), 4), 0);
    await time(
      recorder,
      "layout kept, QoS 1 to 0, many subscribers",
      v4,
      stamped(viewOf(publishPacket(TOPIC, 64, 1, 4), 4)),
      0,
    );
    const identified = viewOf(publishPacket(TOPIC, 64, 0, 5), 5);
    identified.ids[0] = 7;
    identified.idCount = 1;
    await time(recorder, "encoded, 5.0 with a subscription identifier", v5, identified, 0);
    const aliased = openClient({ version: 5, properties: { topicAliasMaximum: 8 } });
    await time(recorder, "encoded, 5.0 with a topic alias", aliased, viewOf(publishPacket(TOPIC, 64, 0, 5), 5), 0);
  },
};

function stamped(view: MessageView): MessageView {
  view.stamp = 1;
  return view;
}

function bodyFor({ connection, link }: Client, view: MessageView, flags: number): () => number {
  return () => {
    for (let i = 0; i < OPS; i++) deliver(connection, view, flags, flags & 6 ? i + 1 : 0);
    return link.written;
  };
}

async function time(recorder: Recorder, name: string, client: Client, view: MessageView, flags: number): Promise<void> {
  await recorder.time(name, OPS, bodyFor(client, view, flags));
}

async function againstMqttPacket(recorder: Recorder, client: Client, view: MessageView): Promise<void> {
  const payload = view.payload();
  await recorder.compare("as received, QoS 0, 64 B", OPS, {
    mantou: bodyFor(client, view, 0),
    "mqtt-packet, generate": () => {
      let length = 0;
      for (let i = 0; i < OPS; i++) {
        length += generate({ cmd: "publish", topic: TOPIC, payload, qos: 0, dup: false, retain: false }).length;
      }
      return length;
    },
  });
}
