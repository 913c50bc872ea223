import { describe, expect, test } from "bun:test";
import { parsePlan } from "#bench/load/options.ts";
import { encodePublish, type PublishFrame } from "#bench/load/packet.ts";
import type { Command } from "#bench/load/plan.ts";
import { Publisher } from "#bench/load/publisher.ts";
import { Schedule } from "#bench/load/schedule.ts";
import { NUMBER_AT, readTime, readUint32, TIME_AT } from "#bench/load/stamp.ts";
import { Tally } from "#bench/load/tally.ts";
import { readFrame } from "#mqtt/codec/frame.ts";

/** A link that keeps what is written, and can be full. */
class FakeLink {
  buffer = Buffer.alloc(0);
  isBlocked = false;
  private limit = 0;
  private written: Buffer[] = [];

  get pendingBytes(): number {
    return this.limit;
  }
  reserve(size: number): number {
    const larger = Buffer.alloc(Math.max(this.buffer.length, this.limit + size));
    this.buffer.copy(larger, 0, 0, this.limit);
    this.buffer = larger;
    return this.limit;
  }
  commit(end: number): void {
    this.limit = end;
  }
  flush(): boolean {
    this.written.push(Buffer.from(this.buffer.subarray(0, this.limit)));
    this.limit = 0;
    return true;
  }

  /** The PUBLISH packets written since the last call. */
  take(isV5 = false) {
    this.flush();
    const bytes = Buffer.concat(this.written);
    this.written = [];
    const packets: { qos: number; topic: string; id: number; number: number; timeNs: number; length: number }[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = readFrame(bytes, at, bytes.length);
      const packet = bytes.subarray(at, at + length);
      const body = length > 129 ? 3 : 2;
      const qos = (packet[0]! >> 1) & 3;
      const topicEnd = body + 2 + packet.readUInt16BE(body);
      const propertiesAt = topicEnd + (qos > 0 ? 2 : 0);
      const payload = isV5 ? propertiesAt + 1 + packet[propertiesAt]! : propertiesAt;
      packets.push({
        qos,
        topic: packet.toString("utf8", body + 2, topicEnd),
        id: qos > 0 ? packet.readUInt16BE(topicEnd) : 0,
        number: readUint32(packet, payload + NUMBER_AT),
        timeNs: readTime(packet, payload + TIME_AT),
        length,
      });
      at += length;
    }
    return packets;
  }
}

function bed(line: string, index = 0, limits = { receiveMax: 65_535, alias: 0 }) {
  const [command, ...args] = line.split(" ");
  const plan = parsePlan(command as Command, args)!;
  const tally = new Tally();
  const frames = (topic: string, alias: number): (PublishFrame | undefined)[] =>
    [0, 1, 2].map((qos) =>
      plan.qosCycle.includes(qos) ? encodePublish(plan, { topic, qos, alias, run: 9, publisher: index }) : undefined,
    );
  const publisher = new Publisher({
    plan,
    index,
    tally,
    frames: frames("a/b", limits.alias),
    aliasFrames: limits.alias > 0 ? frames("", limits.alias) : undefined,
    receiveMax: limits.receiveMax,
  });
  const link = new FakeLink();
  return { plan, tally, publisher, link };
}

describe("a closed loop", () => {
  test("publishes as much as is credited, and numbers it", () => {
    const { publisher, link } = bed("pair --pubs 2 --outstanding 20");
    publisher.pump(link, 123);
    expect(link.take().map(({ number, timeNs }) => [number, timeNs])).toEqual(
      Array.from({ length: 10 }, (_, i) => [i, 123]),
    );
    publisher.pump(link, 124);
    expect(link.take()).toEqual([]);
    publisher.credit(3);
    publisher.pump(link, 5e9);
    expect(link.take().map(({ number, timeNs }) => [number, timeNs])).toEqual([
      [10, 5e9],
      [11, 5e9],
      [12, 5e9],
    ]);
  });

  test("counts copies, and always lets one message out", () => {
    const { publisher, link } = bed("fanout --subs 30 --outstanding 90");
    publisher.pump(link, 1);
    expect(link.take()).toHaveLength(3);
    publisher.credit(29);
    publisher.pump(link, 1);
    expect(link.take()).toHaveLength(0);
    publisher.credit(1);
    publisher.pump(link, 1);
    expect(link.take()).toHaveLength(1);
    const narrow = bed("fanout --subs 30 --outstanding 5");
    narrow.publisher.pump(narrow.link, 1);
    expect(narrow.link.take()).toHaveLength(1);
  });

  test("QoS 1 and 2 take packet ids, from 1, and stop at the window or Receive Maximum", () => {
    const { publisher, link } = bed("pair --pubs 1 --qos 1 --window 4");
    publisher.pump(link, 1);
    expect(link.take().map(({ id }) => id)).toEqual([1, 2, 3, 4]);
    expect(publisher.handleAck(4, 3, 0, 2)).toBe(false);
    publisher.pump(link, 2);
    expect(link.take().map(({ id }) => id)).toEqual([3]);
    const small = bed("pair --pubs 1 --qos 2 -V 5", 0, { receiveMax: 2, alias: 0 });
    small.publisher.pump(small.link, 1);
    expect(small.link.take(true)).toHaveLength(2);
  });

  test("QoS 2 needs PUBREC and then PUBCOMP; anything else is a stray", () => {
    const { publisher, tally } = (() => {
      const made = bed("pair --pubs 1 --qos 2 --window 2");
      made.publisher.pump(made.link, 1);
      return made;
    })();
    expect(publisher.handleAck(7, 1, 0, 2)).toBe(false);
    expect(publisher.handleAck(4, 1, 0, 2)).toBe(false);
    expect(publisher.handleAck(5, 9, 0, 2)).toBe(false);
    expect(tally.counts.strayAcks).toBe(3);
    expect(publisher.handleAck(5, 1, 0, 2)).toBe(true);
    expect(publisher.unackedCount).toBe(2);
    expect(publisher.handleAck(7, 1, 0, 2)).toBe(false);
    expect(publisher.handleAck(5, 2, 0x87, 2)).toBe(false);
    expect([publisher.unackedCount, tally.counts.nacks, tally.counts.strayAcks]).toEqual([0, 1, 3]);
  });

  test("a mix keeps its cycle, and each QoS its own numbers", () => {
    const { publisher, link } = bed("pair --pubs 1 --qos 0:2,2:1 --outstanding 6");
    publisher.pump(link, 1);
    const packets = link.take();
    expect(packets.map(({ qos }) => qos).toSorted()).toEqual([0, 0, 0, 0, 2, 2]);
    expect(packets.filter(({ qos }) => qos === 2).map(({ number }) => number)).toEqual([0, 1]);
    expect(packets.filter(({ qos }) => qos === 0).map(({ number }) => number)).toEqual([0, 1, 2, 3]);
  });

  test("only the first message carries the topic when it has an alias", () => {
    const { publisher, link } = bed("pair --pubs 1 -V 5 --topic-alias --outstanding 4", 0, { receiveMax: 9, alias: 1 });
    publisher.pump(link, 1);
    expect(link.take(true).map(({ topic, number }) => [topic, number])).toEqual([
      ["a/b", 0],
      ["", 1],
      ["", 2],
      ["", 3],
    ]);
  });

  test("large batches are written in parts, and a full link stops it", () => {
    const { publisher, link } = bed("pair --pubs 1 --size 8192 --outstanding 100");
    publisher.pump(link, 1);
    expect(link.take().map(({ number }) => number)).toEqual(Array.from({ length: 100 }, (_, i) => i));
    publisher.credit(100);
    link.isBlocked = true;
    publisher.pump(link, 1);
    expect(publisher.sent).toBe(100);
  });
});

test("a limit is shared out exactly", () => {
  const sent = [0, 1, 2].map((index) => {
    const { publisher, link } = bed("pair --pubs 3 --limit 11", index);
    publisher.pump(link, 1);
    return [publisher.sent, publisher.isDone];
  });
  expect(sent).toEqual([
    [4, true],
    [4, true],
    [3, true],
  ]);
});

test("paced: what is due goes out with its due time, also when it must wait for a packet id", () => {
  const { publisher, link, tally } = bed("pair --pubs 2 --qos 1 --window 2 --rate 1000", 1);
  publisher.schedule = new Schedule(0, 1e6, 2, [1]);
  tally.open(0);
  publisher.pump(link, 9e5);
  expect(link.take()).toEqual([]);
  publisher.pump(link, 7.5e6);
  expect(link.take().map(({ timeNs }) => timeNs)).toEqual([1e6, 3e6]);
  expect(publisher.behindCount(7.5e6)).toBe(2);
  publisher.handleAck(4, 1, 0, 8e6);
  publisher.pump(link, 8e6);
  expect(link.take().map(({ timeNs }) => timeNs)).toEqual([5e6]);
  expect(tally.ack.max).toBe(7e6);
  expect(tally.lateness.max).toBe(6.5e6);
});
