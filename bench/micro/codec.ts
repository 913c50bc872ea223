/**
 * src/mqtt/codec: each packet type decoded and encoded, against mqtt-packet.
 *
 * The two do not do the same: mqtt-packet makes an object with strings and a copy of the payload, our PUBLISH and
 * acknowledgements are read in place. That difference is what is shown. PUBLISH is encoded by src/mqtt/deliver.ts.
 */
import { MessageView } from "#core/message.ts";
import { acked, decodeAck, encodeAck } from "#mqtt/codec/ack.ts";
import { decodeConnect, encodeConnack } from "#mqtt/codec/connect.ts";
import { decodeDisconnect, encodeDisconnect } from "#mqtt/codec/disconnect.ts";
import { PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, UNSUBACK } from "#mqtt/codec/frame.ts";
import { decodePublish } from "#mqtt/codec/publish.ts";
import { decodeSubscribe, decodeUnsubscribe, encodeSuback } from "#mqtt/codec/subscribe.ts";
import { generate, type IConnectPacket, type Packet, parser } from "mqtt-packet";
import { bodyOf, packet, publishPacket } from "./fixture.ts";
import type { Body, Recorder, Suite } from "./recorder.ts";

const OPS = 200;
const COPIES = 16;
const TOPIC = "site/12/line/device4711/state";

export const suite: Suite = {
  about: "packets decoded and encoded (src/mqtt/codec), against mqtt-packet",
  async run(recorder) {
    await publishes(recorder);
    await acks(recorder);
    await connects(recorder);
    await subscribes(recorder);
    await disconnects(recorder);
  },
};

/** The same packet several times in a chunk, so that reading it cannot be moved out of the loop. */
function copies(bytes: Buffer): Buffer {
  return Buffer.concat(Array.from({ length: COPIES }, () => bytes));
}

/** mqtt-packet reading the same packet. */
function theirs(bytes: Buffer, version: number): Body {
  const reader = parser({ protocolVersion: version });
  let count = 0;
  reader.on("packet", (found) => (count += found.cmd.length));
  reader.on("error", (error) => {
    throw error;
  });
  return () => {
    for (let i = 0; i < OPS; i++) reader.parse(bytes);
    return count;
  };
}

function generated(fields: Packet, version: number): Body {
  return () => {
    let length = 0;
    for (let i = 0; i < OPS; i++) length += generate(fields, { protocolVersion: version }).length;
    return length;
  };
}

async function publishes(recorder: Recorder): Promise<void> {
  const properties = { messageExpiryInterval: 60, contentType: "text/plain", userProperties: { unit: "C", from: "a" } };
  const forms = [
    ["QoS 0, 3.1.1", 4, publishPacket(TOPIC, 64, 0, 4)],
    ["QoS 1, 3.1.1", 4, publishPacket(TOPIC, 64, 1, 4)],
    ["QoS 0, 5.0 without properties", 5, publishPacket(TOPIC, 64, 0, 5)],
    ["QoS 1, 5.0 with 4 properties", 5, publishPacket(TOPIC, 64, 1, 5, properties)],
  ] as const;
  for (const [name, version, bytes] of forms) {
    const view = new MessageView();
    const size = bytes.length;
    const chunk = copies(bytes);
    const body = bodyOf(bytes);
    const ours: Body = () => {
      let sum = 0;
      for (let i = 0, at = 0; i < OPS; i++, at = (i % COPIES) * size) {
        sum += decodePublish(chunk, at, at + body, at + size, version === 5, view) + view.payloadStart;
      }
      return sum;
    };
    await recorder.compare(`PUBLISH decode, ${name}`, OPS, { mantou: ours, "mqtt-packet": theirs(bytes, version) });
  }
}

async function acks(recorder: Recorder): Promise<void> {
  const bytes = packet({ cmd: "puback", messageId: 7 });
  const reasoned = packet({ cmd: "puback", messageId: 7, reasonCode: 16, properties: { reasonString: "nobody" } }, 5);
  const plainChunk = copies(bytes);
  const reasonedChunk = copies(reasoned);
  await recorder.compare("PUBACK decode, 3.1.1", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0, at = 0; i < OPS; i++, at = (i % COPIES) * 4) {
        sum += decodeAck(plainChunk, at + 2, at + 4, false) + acked.packetId;
      }
      return sum;
    },
    "mqtt-packet": theirs(bytes, 4),
  });
  await recorder.compare("PUBACK decode, 5.0 with a reason", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0, at = 0; i < OPS; i++, at = (i % COPIES) * reasoned.length) {
        sum += decodeAck(reasonedChunk, at + 2, at + reasoned.length, true) + acked.packetId;
      }
      return sum;
    },
    "mqtt-packet": theirs(reasoned, 5),
  });
  const out = Buffer.alloc(64);
  const types = [
    ["puback", PUBACK],
    ["pubrec", PUBREC],
    ["pubrel", PUBREL],
    ["pubcomp", PUBCOMP],
  ] as const;
  for (const [cmd, type] of types) {
    await recorder.compare(`${cmd.toUpperCase()} encode`, OPS, {
      mantou: () => {
        let end = 0;
        for (let i = 0; i < OPS; i++) end += encodeAck(out, i & 31, type, i + 1, 0);
        return end;
      },
      "mqtt-packet": generated({ cmd, messageId: 7 }, 4),
    });
  }
}

async function connects(recorder: Recorder): Promise<void> {
  const base = { cmd: "connect", protocolId: "MQTT", clean: true, clientId: "device-4711", keepalive: 60 } as const;
  const will = { topic: "site/12/gone", payload: Buffer.from("4711"), qos: 1 as const, retain: false };
  const forms: [string, IConnectPacket][] = [
    ["3.1.1", { ...base, protocolVersion: 4 }],
    [
      "3.1.1 with will and password",
      { ...base, protocolVersion: 4, will, username: "ann", password: Buffer.from("secret") },
    ],
    [
      "5.0 with 3 properties",
      {
        ...base,
        protocolVersion: 5,
        properties: { sessionExpiryInterval: 60, receiveMaximum: 20, topicAliasMaximum: 8 },
      },
    ],
  ];
  for (const [name, fields] of forms) {
    const version = fields.protocolVersion ?? 4;
    const bytes = packet(fields, version);
    const body = bodyOf(bytes);
    await recorder.compare(`CONNECT decode, ${name}`, OPS, {
      mantou: () => {
        let sum = 0;
        for (let i = 0; i < OPS; i++) sum += decodeConnect(bytes, body, bytes.length).version;
        return sum;
      },
      "mqtt-packet": theirs(bytes, version),
    });
  }
  const properties = { receiveMaximum: 1024, maximumPacketSize: 1 << 20, topicAliasMaximum: 32 };
  await recorder.compare("CONNACK encode, 3.1.1", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) sum += encodeConnack(4, false, 0, {}).length;
      return sum;
    },
    "mqtt-packet": generated({ cmd: "connack", returnCode: 0, sessionPresent: false }, 4),
  });
  await recorder.compare("CONNACK encode, 5.0 with 3 properties", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) {
        sum += encodeConnack(5, false, 0, {
          receiveMaximum: 1024,
          maximumPacketSize: 1 << 20,
          topicAliasMaximum: 32,
        }).length;
      }
      return sum;
    },
    "mqtt-packet": generated({ cmd: "connack", reasonCode: 0, sessionPresent: false, properties }, 5),
  });
}

async function subscribes(recorder: Recorder): Promise<void> {
  const subscriptions = [0, 1, 2].map((i) => ({ topic: `site/${i}/+/state`, qos: 1 as const }));
  for (const version of [4, 5]) {
    const bytes = packet({ cmd: "subscribe", messageId: 9, subscriptions }, version);
    const isV5 = version === 5;
    await recorder.compare(`SUBSCRIBE decode, ${isV5 ? "5.0" : "3.1.1"}, 3 filters`, OPS, {
      mantou: () => {
        let sum = 0;
        for (let i = 0; i < OPS; i++) if (typeof decodeSubscribe(bytes, 2, bytes.length, isV5) === "object") sum++;
        return sum;
      },
      "mqtt-packet": theirs(bytes, version),
    });
  }
  const gone = packet({ cmd: "unsubscribe", messageId: 9, unsubscriptions: subscriptions.map(({ topic }) => topic) });
  await recorder.compare("UNSUBSCRIBE decode, 3.1.1, 3 filters", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) if (typeof decodeUnsubscribe(gone, 2, gone.length, false) === "object") sum++;
      return sum;
    },
    "mqtt-packet": theirs(gone, 4),
  });
  const codes = Uint8Array.of(1, 1, 1);
  await recorder.compare("SUBACK encode, 3.1.1, 3 codes", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) sum += encodeSuback(SUBACK, 9, codes, 4).length;
      return sum;
    },
    "mqtt-packet": generated({ cmd: "suback", messageId: 9, granted: [1, 1, 1] }, 4),
  });
  await recorder.compare("UNSUBACK encode, 5.0, 3 codes", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) sum += encodeSuback(UNSUBACK, 9, codes, 5).length;
      return sum;
    },
    "mqtt-packet": generated({ cmd: "unsuback", messageId: 9, granted: [0, 0, 0] }, 5),
  });
}

async function disconnects(recorder: Recorder): Promise<void> {
  const bytes = packet({ cmd: "disconnect", reasonCode: 4, properties: { sessionExpiryInterval: 9 } }, 5);
  await recorder.compare("DISCONNECT decode, 5.0", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) if (typeof decodeDisconnect(bytes, 2, bytes.length, true) === "object") sum++;
      return sum;
    },
    "mqtt-packet": theirs(bytes, 5),
  });
  await recorder.compare("DISCONNECT encode, 5.0", OPS, {
    mantou: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) sum += encodeDisconnect(0x8e).length;
      return sum;
    },
    "mqtt-packet": generated({ cmd: "disconnect", reasonCode: 0x8e }, 5),
  });
}
