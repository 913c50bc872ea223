import { describe, expect, test } from "bun:test";
import { parsePlan, UsageError } from "#bench/load/options.ts";
import { options, usageOf } from "#bench/load/option-table.ts";
import { commands, type Command, copiesOf, type Plan, processOfClient } from "#bench/load/plan.ts";

const plan = (line: string): Plan => {
  const [command, ...args] = line.split(" ");
  return parsePlan(command as Command, args)!;
};
const fault = (line: string): string => {
  try {
    plan(line);
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  return "";
};

describe("the options of emqtt_benchmark", () => {
  test("letters and names mean the same", () => {
    const short =
      "pub -h 127.0.0.9 -p 1884 -V 4 -c 7 -n 3 -i 2.5 -I 50 -t a/%i -s 30 -q 2 -r -k 9 -C false -L 99 -u x -P y -S";
    const long =
      "pub --host 127.0.0.9 --port=1884 --version 3.1.1 --count 7 --startnumber 3 --interval 2.5 --interval_of_msg 50 " +
      "--topic a/%i --size 30 --qos 2 --retain --keepalive 9 --clean false --limit 99 --username x --password y --ssl";
    expect(plan(`${short} --prefix p`)).toEqual(plan(`${long} --prefix p`));
    expect(plan(short)).toMatchObject({
      host: "127.0.0.9",
      port: 1884,
      version: 4,
      pubs: 7,
      subs: 0,
      firstNumber: 4,
      connectIntervalMs: 2.5,
      ratePerSec: 140,
      topic: "a/%i",
      payloadBytes: 30,
      qosCycle: [2],
      isRetain: true,
      keepAliveSec: 9,
      isCleanStart: false,
      limit: 99,
      username: "x",
      password: "y",
      isTls: true,
    });
  });

  test("its defaults", () => {
    expect(plan("pub -t t")).toMatchObject({
      host: "127.0.0.1",
      port: 1883,
      version: 5,
      pubs: 200,
      connectIntervalMs: 10,
      ratePerSec: 200,
      payloadBytes: 256,
      qosCycle: [0],
      keepAliveSec: 300,
      isCleanStart: true,
      isRetain: false,
      limit: 0,
    });
    expect(plan("sub -t t -c 3 -q 1")).toMatchObject({ subs: 3, pubs: 0, filter: "t", subQos: 1 });
    expect(plan("conn")).toMatchObject({ idles: 200, filter: "" });
  });

  test("a value may stick to its letter, and a switch may say true or false", () => {
    expect(plan("conn -c12 --ws false -S true")).toMatchObject({ idles: 12, isWebSocket: false, isTls: true });
  });

  test("versions by number and by name", () => {
    const versions = ["3", "3.1", "4", "3.1.1", "5", "5.0"].map((text) => plan(`conn -V ${text}`).version);
    expect(versions).toEqual([3, 3, 4, 4, 5, 5]);
  });

  test("client ids", () => {
    expect(plan("conn --shortids").clientId).toBe("%i");
    expect(plan("conn --shortids --prefix dev").clientId).toBe("dev%i");
    expect(plan("conn --prefix dev").clientId).toBe("dev_%i");
    expect(plan("conn --client-id a-%i-b").clientId).toBe("a-%i-b");
    expect(plan("conn").clientId).toMatch(/^mtlg[0-9a-z]{4}_%i$/);
  });
});

describe("loops", () => {
  test("their defaults are the scenarios of the comparison", () => {
    expect(plan("pair")).toMatchObject({ pubs: 50, subs: 50, topic: "bench/%i", filter: "bench/%i", version: 4 });
    expect(plan("fanin")).toMatchObject({ pubs: 200, subs: 1, filter: "bench/#", payloadBytes: 64 });
    expect(plan("fanout")).toMatchObject({ pubs: 1, subs: 500, outstanding: 5000, window: 20, warmupSec: 1 });
    expect(plan("rtt")).toMatchObject({ pubs: 1, subs: 1, outstanding: 1, window: 1 });
    expect(plan("pair --limit 10").warmupSec).toBe(0);
  });

  test("MQTT 5 extras", () => {
    expect(
      plan("pair -V 5 --user-property a=b --user-property c=d=e --sub-id 7 --topic-alias --expiry 60 -x 5"),
    ).toMatchObject({
      userProperties: [
        ["a", "b"],
        ["c", "d=e"],
      ],
      subscriptionId: 7,
      usesTopicAlias: true,
      messageExpirySec: 60,
      sessionExpirySec: 5,
    });
  });

  test("a pair's clients are in one process, and copies add up", () => {
    const pair = plan("pair --pubs 3 --subs 7 --processes 2");
    const subs = Array.from({ length: 7 }, (_, i) => processOfClient(pair, "sub", i));
    expect(subs).toEqual([0, 1, 0, 0, 1, 0, 0]);
    expect([0, 1, 2].map((pub) => copiesOf(pair, pub))).toEqual([3, 2, 2]);
    expect(copiesOf(plan("fanout --subs 9"), 0)).toBe(9);
  });
});

describe("bad input is refused with a reason", () => {
  test.each([
    ["conn --nope", "no option --nope"],
    ["conn -z", "no option -z"],
    ["conn 5", "no option 5"],
    ["conn -s 5", "no option -s"],
    ["conn -h", "--help"],
    ["conn -c", "needs a value"],
    ["conn -c --ws", "needs a value"],
    ["conn -c 0", "from 1 to"],
    ["conn -c -5", "from 1 to"],
    ["conn -c 1.5", "whole number"],
    ["conn -c ten", "number"],
    ["conn -c 0x10", "number"],
    ["conn -c 5 -c 6", "given twice"],
    ["conn -p 70000", "65535"],
    ["conn -V 6", "3.1.1"],
    ["conn -V toString", "3.1.1"],
    ["conn -C maybe", "true or false"],
    ["conn -k 70000", "65535"],
    ["conn --ifaddr 127.0.0", "127.0.0"],
    ["conn --client-id fixed", "%i"],
    ["conn --ws-path mqtt", "starts with /"],
    ["conn --certfile a.pem", "come together"],
    ["conn --processes 5 -c 4", "fewer clients"],
    ["pub", "needs --topic"],
    ["sub", "needs --topic"],
    ["pub -t a/#", "wildcard"],
    ["sub -t a#", "last level"],
    ["sub -t a+/b", "level of its own"],
    ["pub -t t -q 3", "neither a QoS"],
    ["pub -t t -q 0:50;1:50", "neither a QoS"],
    ["pub -t t -q 0:0", "weights"],
    ["pub -t t -I 5 --rate 5", "say the same"],
    ["pub -t t -V 4 --expiry 5", "needs MQTT 5"],
    ["pub -t t -V 4 -P secret", "without --username"],
    ["pub -t t --user-property a", "NAME=VALUE"],
    ["pair --pubs 5 --subs 4", "at least as many"],
    ["pair -t fixed", "needs %i"],
    ["fanin -t a/%c", "use %i alone"],
    ["pair -s 10", "from 24"],
    ["fanin --filter $share/g/bench/#", "shared"],
    ["rtt --rate 5", "no option --rate"],
  ])("%s", (line, says) => {
    expect(fault(line)).toContain(says);
  });

  test("help asks for nothing else, and names every option of the command", () => {
    for (const command of commands) {
      expect(parsePlan(command, ["--help"])).toBeUndefined();
      expect(usageOf(command)).toContain("--server-pid PID");
    }
    const letters = options.flatMap(({ letter }) => letter ?? []);
    expect(new Set(letters).size).toBe(letters.length);
  });
});
