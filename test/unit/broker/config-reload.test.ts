import { describe, expect, test } from "bun:test";
import { MantouError } from "#base/error.ts";
import { type Config, loadConfig } from "#broker/config.ts";
import { ConfigReload } from "#broker/config-reload.ts";
import { LiveConfig } from "#broker/live-config.ts";
import { createLog } from "#broker/log.ts";
import { makeLimits } from "#core/limits.ts";

const load = (...set: string[]) => loadConfig({ flags: { set }, env: {}, cwd: "/nowhere" });
const configOf = (...set: string[]): Config => load(...set).config;

class Fixture {
  readonly limits = makeLimits(configOf());
  listeners: Config["listeners"] = configOf().listeners;
  readonly marks: Config["broker"][] = [];
  access: Config["access"] | undefined;
  discarded = 0;
  readonly lines: { level: string; [field: string]: unknown }[] = [];
  fault: Error | undefined;
  readonly log = createLog(
    { ...configOf().log, format: "json" },
    { write: (line) => void this.lines.push(JSON.parse(line)) },
  );
  readonly live = new LiveConfig(configOf(), undefined, this.limits, this.log);
  private set: string[] = [];
  private readonly reload = new ConfigReload({
    live: this.live,
    log: this.log,
    read: () => load(...this.set),
    prepareAccess: async (access) => ({
      changed: [],
      commit: () => void (this.access = access),
      discard: async () => void this.discarded++,
    }),
    applyListeners: async (listeners) => {
      this.listeners = listeners;
      const { fault } = this;
      this.fault = undefined;
      if (fault) throw fault;
    },
    applyMarks: (marks) => void this.marks.push(marks),
    applyPlugins: async (_old, { modules, plugins }) => ({ inForce: { modules, plugins }, changed: [], failed: [] }),
  });

  read(...set: string[]) {
    this.set = set;
    return this.reload.run();
  }
}

describe("another configuration", () => {
  test("is in force where it is read live; the rest is named and waits, each time it is read", async () => {
    const fixture = new Fixture();
    const { live, limits, marks, log, lines } = fixture;
    const { send } = limits;
    const next = [
      "session.outboxCountMax=7",
      "send.stallSec=9",
      "log.level=warn",
      "broker.lagMsMax=50",
      "store.sync=off",
    ];
    expect(await fixture.read(...next)).toEqual({
      changed: ["session.outboxCountMax", "send.stallSec", "broker.lagMsMax", "log.level"],
      waiting: ["store.sync"],
      failed: [],
    });
    expect([limits.session.outboxCountMax, limits.send.stallSec, marks.at(-1)?.lagMsMax, log.level]).toEqual([
      7,
      9,
      50,
      "warn",
    ]);
    expect(limits.send).toBe(send); // the very object that others hold
    expect(live.current.store.sync).toBe("full");
    expect(lines).toMatchObject([{ level: "warn", waiting: ["store.sync"] }]);
    expect(await fixture.read(...next)).toEqual({ changed: [], waiting: ["store.sync"], failed: [] });
    expect(await fixture.read()).toMatchObject({ waiting: [], changed: { length: 4 } });
    expect(live.current).toEqual(configOf());
  });

  test("does not take from connected clients what CONNACK has promised them", async () => {
    const fixture = new Fixture();
    const promised = ["mqtt.receiveMax=5", "mqtt.topicAliasMax=0", "mqtt.qosMax=1", "mqtt.retain=false"];
    const { changed, waiting } = await fixture.read(...promised, "mqtt.packetBytesMax=1KiB", "mqtt.topicLevelsMax=3");
    expect(changed).toEqual(["mqtt.topicLevelsMax"]);
    expect(waiting).toHaveLength(5);
    expect(fixture.limits.mqtt).toMatchObject({ receiveMax: 1024, topicAliasMax: 32, qosMax: 2, retain: true });
    expect(fixture.limits.mqtt.topicLevelsMax).toBe(3);
  });

  test("stands above what was changed by request", async () => {
    const fixture = new Fixture();
    fixture.live.set({ "session.outboxCountMax": 5, "log.level": "debug" });
    await fixture.read();
    expect([fixture.limits.session.outboxCountMax, fixture.log.level]).toEqual([1_000_000, "info"]);
    expect(fixture.live.values().filter(({ origin }) => origin !== "default")).toEqual([]);
  });

  test("whose listeners cannot be opened changes nothing: the old ones are put back", async () => {
    const fixture = new Fixture();
    const { live, limits, marks, lines } = fixture;
    fixture.fault = new MantouError("listen_failed", "is in use");
    const next = ["listeners.0.bind=127.0.0.1:2", "session.outboxCountMax=7", "access.noMatch=deny"];
    await expect(fixture.read(...next)).rejects.toThrow("is in use");
    expect(fixture.listeners).toEqual(configOf().listeners);
    expect([limits.session.outboxCountMax, marks.length]).toEqual([1_000_000, 0]);
    expect([fixture.access, fixture.discarded]).toEqual([undefined, 1]);
    expect(live.current).toEqual(configOf());
    expect(lines).toMatchObject([{ level: "error", problems: ["is in use"] }]);
    expect((await fixture.read(...next)).changed).toEqual(["listeners", "session.outboxCountMax", "access.noMatch"]);
    expect(fixture.access?.noMatch).toBe("deny");
    expect(fixture.listeners[0]?.bind).toMatchObject({ host: "127.0.0.1", port: 2 });
  });

  test("with another secret is another one, and it is shown in neither", async () => {
    const fixture = new Fixture();
    const jwt = (secret: string) => [
      `access.authenticate=[{"type":"jwt","algorithms":["HS256"],"secret":"${secret}"}]`,
    ];
    expect((await fixture.read(...jwt("an example secret of 32 bytes or more"))).changed).toEqual([
      "access.authenticate",
    ]);
    expect((await fixture.read(...jwt("another example secret of 32 bytes"))).changed).toEqual(["access.authenticate"]);
    expect((await fixture.read(...jwt("another example secret of 32 bytes"))).changed).toEqual([]);
    expect(JSON.stringify(fixture.live.values())).toContain("(secret)");
    expect(JSON.stringify([fixture.lines, fixture.live.values()])).not.toContain("example secret");
  });

  test("that is wrong changes nothing, and every problem is in the log", async () => {
    const fixture = new Fixture();
    await expect(fixture.read("session.outboxCountMax=7", "sesion.a=1", "mqtt.qosMax=3")).rejects.toThrow("qosMax");
    expect(fixture.limits.session.outboxCountMax).toBe(1_000_000);
    expect(fixture.lines[0]?.["problems"]).toHaveLength(2);
  });

  test("is refused while another one is being applied", async () => {
    const fixture = new Fixture();
    const first = fixture.read("log.level=warn");
    await expect(fixture.read("log.level=error")).rejects.toThrow("just being read");
    await first;
    expect(fixture.log.level).toBe("warn");
  });
});
