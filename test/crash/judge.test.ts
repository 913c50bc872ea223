// The judge itself: small histories, each with one broken promise that it must see, and the same ones kept.

import { describe, expect, test } from "bun:test";
import { type Happening, History, isMatch } from "./history.ts";
import { judge } from "./judge.ts";

/** A history that is told event by event; a second passes with each. */
class Tale {
  readonly history = new History(() => (this.nowMs += 1));
  nowMs = 0;
  #links = new Map<string, number>();
  #linkCount = 0;

  tell(client: string, happening: Happening): this {
    this.history.add(client, this.#links.get(client) ?? 0, happening);
    return this;
  }

  join(
    client: string,
    isPresent: boolean,
    options: { isClean?: boolean; expirySec?: number; will?: string } = {},
  ): this {
    const { isClean = false, expirySec = 86_400, will } = options;
    this.#links.set(client, ++this.#linkCount);
    const testament = will === undefined ? undefined : { key: will, delaySec: 0 };
    this.tell(client, { what: "connect", isClean, expirySec, version: 5, will: testament });
    return this.tell(client, { what: "connack", isPresent, code: 0 });
  }

  leave(client: string, how: "cut" | "disconnect" | "lost" = "cut"): this {
    return this.tell(client, { what: "left", how, endsSession: false });
  }

  subscribe(client: string, filter: string): this {
    return this.tell(client, { what: "subscribe", filter, qos: 2 }).tell(client, { what: "suback", filter, code: 2 });
  }

  unsubscribe(client: string, filter: string): this {
    return this.tell(client, { what: "unsubscribe", filter }).tell(client, { what: "unsuback", filter });
  }

  message(
    key: string,
    qos: number,
    options: { topic?: string; isRetained?: boolean; isWill?: boolean; expirySec?: number } = {},
  ): this {
    const { topic = "t", isRetained = false, isWill = false, expirySec } = options;
    const [publisher, number] = key.split(".");
    const common = { topic, qos, isRetained, isWill, isEmpty: false, expirySec };
    this.history.addMessage({ key, publisher, number: Number(number), ...common });
    return this;
  }

  send(key: string, qos: number, options: { topic?: string; isRetained?: boolean; expirySec?: number } = {}): this {
    if (!this.history.messages.has(key)) this.message(key, qos, options);
    return this.tell(key.split(".")[0], { what: "publish", key, packetId: 1, isDup: false });
  }

  accept(key: string): this {
    const { qos } = this.history.messages.get(key)!;
    const client = key.split(".")[0];
    if (qos === 1) return this.tell(client, { what: "puback", key, code: 0 });
    return this.tell(client, { what: "pubrec", key, code: 0, isIgnored: false });
  }

  publish(key: string, qos: number, options: { topic?: string; isRetained?: boolean; expirySec?: number } = {}): this {
    return this.send(key, qos, options).accept(key);
  }

  receive(
    client: string,
    key: string,
    qos: number,
    options: { isNew?: boolean; isRetained?: boolean; isDup?: boolean } = {},
  ): this {
    const { isNew = true, isRetained = false, isDup = false } = options;
    return this.tell(client, { what: "received", key, qos, isRetained, isDup, packetId: 1, isNew });
  }

  crash(): this {
    return this.tell("", { what: "killed" }).tell("", { what: "started" }).tell("", { what: "ready" });
  }

  kinds(willGraceSec = 30): string[] {
    return judge(this.history, willGraceSec).map(({ kind }) => kind);
  }
}

/** p publishes, s is subscribed to t. */
function tale(): Tale {
  return new Tale().tell("", { what: "ready" }).join("s", false).subscribe("s", "t").join("p", false);
}

describe("lost", () => {
  test("an accepted message that never comes", () => {
    expect(tale().publish("p.1", 1).crash().kinds()).toEqual(["lost"]);
    expect(tale().publish("p.1", 2).crash().kinds()).toEqual(["lost"]);
    expect(tale().publish("p.1", 1).crash().receive("s", "p.1", 1).kinds()).toEqual([]);
  });

  test("not one that nobody accepted, that came before SUBACK, or that came after UNSUBSCRIBE", () => {
    expect(tale().send("p.1", 1).crash().kinds()).toEqual([]);
    expect(new Tale().join("s", false).join("p", false).publish("p.1", 1).subscribe("s", "t").kinds()).toEqual([]);
    expect(tale().unsubscribe("s", "t").publish("p.1", 1).kinds()).toEqual([]);
  });

  test("in a share group, a message that came to none of its members", () => {
    const group = new Tale()
      .join("a", false)
      .subscribe("a", "$share/g/t")
      .join("b", false)
      .subscribe("b", "$share/g/t");
    expect(group.join("p", false).publish("p.1", 2).kinds()).toEqual(["lost"]);
    expect(group.receive("b", "p.1", 2).kinds()).toEqual([]);
  });
});

describe("duplicate", () => {
  test("QoS 2 twice as new in one session", () => {
    const twice = tale().publish("p.1", 2).receive("s", "p.1", 2).crash().leave("s", "lost").join("s", true);
    expect(twice.receive("s", "p.1", 2, { isNew: false }).kinds()).toEqual([]);
    expect(twice.receive("s", "p.1", 2).kinds()).toEqual(["duplicate"]);
  });

  test("QoS 1 more often on one link than it was sent", () => {
    const once = tale().publish("p.1", 1).receive("s", "p.1", 1);
    expect(once.kinds()).toEqual([]);
    expect(once.receive("s", "p.1", 1).kinds()).toEqual(["duplicate"]);
  });

  test("QoS 2 at two members of a share group", () => {
    const group = new Tale()
      .join("a", false)
      .subscribe("a", "$share/g/t")
      .join("b", false)
      .subscribe("b", "$share/g/t");
    group.join("p", false).publish("p.1", 2).receive("a", "p.1", 2).receive("b", "p.1", 2);
    expect(group.kinds()).toEqual(["duplicate"]);
  });
});

describe("ghost", () => {
  test("a message that was published after UNSUBACK", () => {
    expect(tale().unsubscribe("s", "t").publish("p.1", 1).receive("s", "p.1", 1).kinds()).toEqual(["ghost"]);
  });

  test("a message of a session that was deleted", () => {
    const deleted = tale().publish("p.1", 1).leave("s").join("s", false, { isClean: true }).subscribe("s", "t");
    expect(deleted.receive("s", "p.1", 1).kinds()).toEqual(["ghost"]);
  });

  test("not one whose UNSUBSCRIBE was cut off", () => {
    const cut = tale().tell("s", { what: "unsubscribe", filter: "t" }).crash().leave("s", "lost").join("s", true);
    expect(cut.publish("p.1", 1).receive("s", "p.1", 1).kinds()).toEqual([]);
  });
});

test("order: the second before the first, unless the first was only wanted when it was sent again", () => {
  const both = tale().publish("p.1", 1).publish("p.2", 1);
  expect(both.receive("s", "p.2", 1).receive("s", "p.1", 1).kinds()).toEqual(["order"]);
  const late = new Tale().join("p", false).send("p.1", 1).send("p.2", 1).join("s", false).subscribe("s", "t");
  late.leave("p").join("p", true).publish("p.1", 1).publish("p.2", 1);
  expect(late.receive("s", "p.2", 1).receive("s", "p.1", 1).receive("s", "p.2", 1).kinds()).toEqual([]);
});

test("order: one that had expired unsent may come after others when a crash took that back", () => {
  const brief = (isDup: boolean): string[] =>
    tale()
      .publish("p.1", 1, { expirySec: 1 })
      .publish("p.2", 1)
      .receive("s", "p.2", 1)
      .crash()
      .leave("s", "lost")
      .join("s", true)
      .receive("s", "p.1", 1, { isDup })
      .kinds();
  expect(brief(true)).toEqual([]);
  expect(brief(false)).toEqual(["order"]);
});

describe("session", () => {
  test("a lasting session is there after a crash, a deleted one is not", () => {
    expect(tale().crash().leave("s", "lost").join("s", false).kinds()).toEqual(["session"]);
    expect(tale().crash().leave("s", "lost").join("s", true).kinds()).toEqual([]);
    expect(tale().leave("s").join("s", true, { isClean: true }).kinds()).toEqual(["session"]);
  });

  test("one that ends with its connection is gone after a crash", () => {
    const brief = new Tale().join("s", false, { expirySec: 0 }).crash().leave("s", "lost");
    expect(brief.join("s", true).kinds()).toEqual(["session"]);
  });

  test("either will do when a Clean Start had no CONNACK", () => {
    for (const isPresent of [true, false]) {
      const open = tale()
        .leave("s")
        .tell("s", { what: "connect", isClean: true, expirySec: 60, version: 5, will: undefined });
      expect(open.crash().leave("s", "lost").join("s", isPresent).kinds()).toEqual([]);
    }
  });
});

describe("retained", () => {
  const r = { topic: "r", isRetained: true };
  const look = (key: string | undefined): Happening => ({
    what: "retained",
    values: key === undefined ? [] : [["r", key]],
  });

  test("the last accepted value, or a later one that was not accepted", () => {
    const told = (key: string | undefined): string[] =>
      new Tale()
        .join("p", false)
        .publish("p.1", 1, r)
        .publish("p.2", 1, r)
        .send("p.3", 1, r)
        .crash()
        .join("probe", false, { isClean: true })
        .tell("probe", look(key))
        .kinds();
    expect(told("p.3")).toEqual([]);
    expect(told("p.2")).toEqual([]);
    expect(told("p.1")).toEqual(["retained"]);
    expect(told(undefined)).toEqual(["retained"]);
  });
});

describe("will", () => {
  const withWill = (): Tale => tale().message("w.1", 1, { isWill: true }).join("w", false, { will: "w.1" });

  test("must come when its client was cut off, must not when it took leave", () => {
    expect(withWill().leave("w", "cut").kinds()).toEqual(["lost"]);
    expect(withWill().leave("w", "cut").receive("s", "w.1", 1).kinds()).toEqual([]);
    expect(withWill().leave("w", "disconnect").receive("s", "w.1", 1).kinds()).toEqual(["will"]);
  });

  test("must not come when its client was back in time after a crash", () => {
    const back = withWill().crash().leave("w", "lost").join("w", true);
    expect(back.receive("s", "w.1", 1).kinds()).toEqual(["will"]);
  });
});

test("a fault that a client saw is one", () => {
  expect(tale().tell("s", { what: "fault", text: "packet id in use" }).kinds()).toEqual(["fault"]);
});

test.each([
  ["t/#", "t", true],
  ["t/#", "t/a/b", true],
  ["t/+", "t/a", true],
  ["t/+", "t/a/b", false],
  ["t/+/1", "t/a/1", true],
  ["t", "t/a", false],
])("%s matches %s: %p", (filter, topic, isMatching) => {
  expect(isMatch(filter, topic)).toBe(isMatching);
});
