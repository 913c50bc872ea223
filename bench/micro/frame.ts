/** src/mqtt/codec/frame.ts: where packets end in a chunk; and what a connection does around it for the smallest packet. */
import { readFrame } from "#mqtt/codec/frame.ts";
import { parser } from "mqtt-packet";
import { openClient, packet, publishPacket } from "./fixture.ts";
import { type Suite, sized } from "./recorder.ts";

export const suite: Suite = {
  about: "a chunk cut into packets (src/mqtt/codec/frame.ts, Connection.handleData)",
  async run(recorder) {
    const count = sized(recorder, 500);
    const publish = publishPacket("site/12/line/device4711/state", 64, 0, 4);
    const chunk = Buffer.concat(Array.from({ length: count }, () => publish));
    const reader = parser({ protocolVersion: 4 });
    let found = 0;
    reader.on("packet", () => found++);
    await recorder.compare("PUBLISH of 64 B", count, {
      readFrame: () => {
        let cut = 0;
        for (let at = 0; at < chunk.length; cut++) at += readFrame(chunk, at, chunk.length);
        return cut;
      },
      "mqtt-packet, decoding too": () => {
        reader.parse(chunk);
        return found;
      },
    });
    const { connection, link } = openClient({ version: 4 });
    const ping = packet({ cmd: "pingreq" });
    const pings = Buffer.concat(Array.from({ length: count }, () => ping));
    await recorder.time("PINGREQ to PINGRESP", count, () => {
      connection.handleData(pings);
      return link.written;
    });
    const half = chunk.subarray(0, publish.length >> 1);
    const rest = chunk.subarray(publish.length >> 1, publish.length);
    await recorder.time("PUBLISH in two chunks, without subscriber", 100, () => {
      for (let i = 0; i < 100; i++) {
        connection.handleData(half);
        connection.handleData(rest);
      }
      return connection.context.engine.metrics.get("packets.publish.received");
    });
  },
};
