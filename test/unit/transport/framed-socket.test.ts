import { describe, expect, test } from "bun:test";
import { Random } from "#base/random.ts";
import { Metrics } from "#core/metrics.ts";
import { FramedSocket } from "#transport/framed-socket.ts";
import { frame } from "./clients.ts";

/** A socket that takes as much as it likes. */
class MoodySocket {
  readonly taken: Buffer[] = [];
  isShutDown = false;

  constructor(private readonly appetite: () => number) {}

  write(bytes: Buffer, start = 0, size: number = bytes.length): number {
    const length = Math.min(size, this.appetite());
    this.taken.push(Buffer.from(bytes.subarray(start, start + length)));
    return length;
  }

  shutdown(): void {
    this.isShutDown = true;
  }
}

/** Frames without mask: first byte and payload of each. */
function readFrames(bytes: Buffer): [first: number, payload: Buffer][] {
  const frames: [number, Buffer][] = [];
  for (let at = 0; at < bytes.length;) {
    const short = bytes[at + 1]!;
    const head = short === 127 ? 10 : short === 126 ? 4 : 2;
    const size =
      short === 127 ? Number(bytes.readBigUInt64BE(at + 2)) : short === 126 ? bytes.readUInt16BE(at + 2) : short;
    frames.push([bytes[at]!, bytes.subarray(at + head, at + head + size)]);
    at += head + size;
  }
  return frames;
}

function open(socket: MoodySocket) {
  const heard = { data: [] as Buffer[], drained: 0, ended: 0 };
  const framed = new FramedSocket(socket as never, new Metrics());
  framed.link = {
    handleData: (chunk: Buffer) => void heard.data.push(chunk),
    handleDrain: () => heard.drained++,
    end: () => heard.ended++,
  } as never;
  return { framed, heard };
}

describe("what the kernel takes in bits", () => {
  test("leaves whole frames, with pongs between them", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = new Random(seed);
      const socket = new MoodySocket(() =>
        random.below(4) === 0 ? 0 : random.below(random.below(3) === 0 ? 200_000 : 6),
      );
      const { framed } = open(socket);
      const { framed: neighbour } = open(new MoodySocket(() => Infinity));
      const sent: Buffer[] = [];
      let pingCount = 0;
      for (let i = 0; i < 12; i++) {
        const bytes = Buffer.from(
          Array.from({ length: 1 + random.below(random.below(4) === 0 ? 3000 : 30) }, () => random.below(256)),
        );
        sent.push(bytes);
        for (let at = 0; at < bytes.length;) {
          if (random.below(8) === 0) framed.handleData(frame(Buffer.from([++pingCount]), 0x89));
          at += framed.write(bytes, at, bytes.length - at);
          neighbour.write(Buffer.alloc(300, 0xee), 0, 300); // they share what a frame is put together in
          framed.handleDrain();
        }
      }
      for (let i = 0; i < 50; i++) framed.handleDrain();
      const frames = readFrames(Buffer.concat(socket.taken));
      const data = frames.filter(([first]) => first === 0x82).map(([, payload]) => payload);
      const pongs = frames.filter(([first]) => first === 0x8a).map(([, payload]) => payload[0]!);
      expect({ seed, bytes: Buffer.concat(data) }).toEqual({ seed, bytes: Buffer.concat(sent) });
      expect(frames.length).toBe(data.length + pongs.length);
      if (pingCount > 0) expect(pongs.at(-1)).toBe(pingCount); // the last one is answered
    }
  });

  test("an idle one writes nothing, a large one in frames of 64 KiB", () => {
    const socket = new MoodySocket(() => Infinity);
    const { framed } = open(socket);
    framed.handleDrain();
    expect(socket.taken).toEqual([]);
    expect(framed.write(Buffer.alloc(150_000), 0, 150_000)).toBe(150_000);
    expect(readFrames(Buffer.concat(socket.taken)).map(([, { length }]) => length)).toEqual([65_536, 65_536, 18_928]);
  });
});

test("the end is a Close frame with the reason, then the end of the stream", () => {
  const socket = new MoodySocket(() => Infinity);
  const { framed, heard } = open(socket);
  framed.handleData(frame(Buffer.from("x"), 0x81));
  framed.handleData(frame(Buffer.from("x"), 0x81));
  expect(heard).toMatchObject({ data: [], ended: 1 });
  framed.shutdown();
  expect(readFrames(Buffer.concat(socket.taken))).toEqual([[0x88, Buffer.from([1003 >> 8, 1003 & 255])]]);
  expect(socket.isShutDown).toBe(true);
});
