// No acknowledgement of a message for an absent receiver leaves before the sync that covers it: seen in the system calls.

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodePacket } from "#test/support/packets.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import { BrokerRun } from "./broker-run.ts";
import { parseTrace, type SystemCall, traceMissing, tracePrefix } from "./system-calls.ts";

const RUN_MS = 60_000;
const MESSAGE_COUNT = 30;
const why = traceMissing();
const folder = mkdtempSync(join(tmpdir(), "mantou-trace-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Told {
  readonly marker: string;
  readonly packetId: number;
  readonly ack: "puback" | "pubrec";
}

/** One publisher, one at a time, for a session whose client is away. */
async function traced(sync: string): Promise<{ calls: SystemCall[]; told: Told[] }> {
  const output = join(folder, `${sync}.trace`);
  const dataDir = join(folder, `${sync}-data`);
  const spec = { dataDir, flags: ["--set", `store.sync=${sync}`], prefix: tracePrefix(output) };
  const broker = new BrokerRun(spec, 0);
  expect(await broker.ready()).toBe(true);
  const harness = harnessOf(tcpTarget(`tcp://127.0.0.1:${broker.port}`));
  const absent = await harness.connect({ version: 4, clientId: "absent", cleanStart: false });
  await absent.subscribe("t", 2);
  await absent.disconnect();
  const publisher = await harness.connect({ version: 4, clientId: "publisher", cleanStart: false });
  const told: Told[] = [];
  for (let i = 1; i <= MESSAGE_COUNT; i++) {
    const marker = `marker-${String(i).padStart(6, "0")}|`;
    const ack = i % 2 === 0 ? "pubrec" : "puback";
    publisher.send({ type: "publish", topic: "t", payload: marker, qos: ack === "puback" ? 1 : 2, packetId: i });
    await publisher.take(ack, i, 10_000);
    told.push({ marker, packetId: i, ack });
  }
  await harness.stop();
  await broker.stop();
  return { calls: parseTrace(readFileSync(output, "utf8")), told };
}

/** What is wrong with the order of the calls for one message, if anything is. */
function faultOf(calls: readonly SystemCall[], { marker, packetId, ack }: Told): string | undefined {
  const answer = Buffer.from(encodePacket({ type: ack, packetId }, 4));
  const received = calls.find(({ name, bytes }) => /^(recvfrom|read)$/.test(name) && bytes.includes(marker));
  if (received === undefined) return `${marker} was not seen to come`;
  const isSent = ({ name, bytes, begun }: SystemCall): boolean =>
    /^(sendto|write|writev|sendmsg)$/.test(name) && begun > received.ended && bytes.includes(answer);
  const sent = calls.find(isSent);
  if (sent === undefined) return `${ack} ${packetId} was not seen to leave`;
  const isWritten = ({ name, bytes }: SystemCall): boolean => /^p?write/.test(name) && bytes.includes(marker);
  const written = calls.filter((call) => isWritten(call) && call.ended < sent.begun);
  const isCovered = written.some((write) =>
    calls.some(
      ({ name, fd, result, begun, ended }) =>
        /^f(data)?sync$/.test(name) && fd === write.fd && result === 0 && begun > write.ended && ended < sent.begun,
    ),
  );
  if (isCovered) return undefined;
  return `${ack} ${packetId} left at line ${sent.begun}, ${written.length} writes of ${marker} before, none of them synced`;
}

describe("system calls", () => {
  test.skipIf(why !== undefined)(
    `PUBACK and PUBREC follow the sync of the message (${why ?? "store.sync=full"})`,
    async () => {
      const { calls, told } = await traced("full");
      expect(told.map((each) => faultOf(calls, each)).filter((fault) => fault !== undefined)).toEqual([]);
    },
    RUN_MS,
  );

  test.skipIf(why !== undefined)(
    `without syncs this is noticed (${why ?? "store.sync=off"})`,
    async () => {
      const { calls, told } = await traced("off");
      for (const each of told) expect(faultOf(calls, each)).toContain("none of them synced");
    },
    RUN_MS,
  );

  test("a call that is interrupted by others lasts from its first line to its last", () => {
    const lines = [
      '7 recvfrom(5, "\\x32\\x01", 512, 0, NULL, NULL) = 2',
      "8 fdatasync(9 <unfinished ...>",
      '7 sendto(5, "\\x40\\x02"..., 4, 0, NULL, 0) = 4',
      "8 <... fdatasync resumed>)            = 0",
      "8 +++ exited with 0 +++",
    ];
    const calls = parseTrace(lines.join("\n"));
    expect(calls.map(({ name, fd, begun, ended }) => [name, fd, begun, ended])).toEqual([
      ["recvfrom", 5, 0, 0],
      ["sendto", 5, 2, 2],
      ["fdatasync", 9, 1, 3],
    ]);
    expect(calls[0].bytes).toEqual(Buffer.from([0x32, 1]));
  });
});
