import { describe, expect, test } from "bun:test";
import { createLog } from "#broker/log.ts";
import { escapeControl } from "#broker/log-text.ts";

function capture(format: "text" | "json", level: "trace" | "info" | "warn" | "silent" = "trace") {
  const lines: string[] = [];
  const log = createLog({ level, format }, { write: (line) => void lines.push(line) });
  return { log, lines };
}

/** Without the time, which is the clock's. */
function textOf(write: (log: ReturnType<typeof createLog>) => void): string {
  const { log, lines } = capture("text");
  write(log);
  const text = lines.join("");
  expect(text).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} /);
  return text.slice(24);
}

describe("text", () => {
  test("level, part, message, fields", () => {
    expect(textOf((log) => log.child({ part: "listener" }).info({ name: "tcp", port: 1883 }, "open"))).toBe(
      "info  listener: open name=tcp port=1883\n",
    );
    expect(textOf((log) => log.error("alone"))).toBe("error alone\n");
    expect(textOf((log) => log.warn({ n: null, f: false, o: { a: 1 } }, "m"))).toBe(
      'warn  m n=null f=false o={"a":1}\n',
    );
  });

  test("a value that is not one plain word is quoted", () => {
    expect(textOf((log) => log.info({ a: "x y", b: 'q"', c: "", d: "k=v", e: "\\", f: "äö/#+" }, "m"))).toBe(
      'info  m a="x y" b="q\\"" c="" d="k=v" e="\\\\" f=äö/#+\n',
    );
  });

  test("nothing a client chose can start a line or command the terminal", () => {
    const evil = "a\n2026-01-01 00:00:00.000 info  fake\r\u001b[2J\u0007\u0085\u2028\u202e\u009b1m\u007f";
    const text = textOf((log) => log.child({ part: evil }).info({ [evil]: evil, list: [evil] }, evil));
    expect(text.split("\n")).toHaveLength(2);
    expect(text.endsWith("\n")).toBe(true);
    expect(text.slice(0, -1)).not.toMatch(/[\p{Cc}\u2028\u202e]/u);
    expect(text).toContain("a\\u000a2026-01-01");
  });

  test("an error's stack follows on indented lines", () => {
    const error = new Error("first\nsecond \u001b[31m");
    const text = textOf((log) => log.error({ err: error, link: 5 }, "a bug"));
    const lines = text.trimEnd().split("\n");
    expect(lines[0]).toBe("error a bug link=5");
    expect(lines[1]).toBe("    Error: first");
    expect(lines[2]).toBe("    second \\u001b[31m");
    for (const line of lines.slice(1)) expect(line).toStartWith("    ");
  });

  test("time is written to the millisecond", () => {
    const { log, lines } = capture("text");
    const before = Date.now();
    log.info("m");
    const written = new Date(lines[0]!.slice(0, 23).replace(" ", "T")).getTime();
    expect(written).toBeGreaterThanOrEqual(before);
    expect(written).toBeLessThanOrEqual(Date.now());
  });
});

describe("json", () => {
  test("one object per line, level by name, time in UTC", () => {
    const { log, lines } = capture("json");
    log.child({ part: "listener" }).info({ text: "a\nb" }, "open");
    expect(lines).toHaveLength(1);
    expect(lines[0]!.indexOf("\n")).toBe(lines[0]!.length - 1);
    const record = JSON.parse(lines[0]!) as Record<string, unknown>;
    expect(record).toMatchObject({ level: "info", part: "listener", text: "a\nb", msg: "open", pid: process.pid });
    expect(record["time"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  });
});

test("records below the level are not written", () => {
  for (const format of ["text", "json"] as const) {
    const warn = capture(format, "warn");
    warn.log.info("no");
    warn.log.warn("yes");
    expect(warn.lines).toHaveLength(1);
    const silent = capture(format, "silent");
    silent.log.fatal("no");
    expect(silent.lines).toEqual([]);
  }
});

test.each(["text", "json"] as const)("secrets never reach the %s log", (format) => {
  const { log, lines } = capture(format);
  const secrets = () => ({
    password: "SECRET1",
    authData: Buffer.from("SECRET2"),
    cookie: "SECRET3",
    authorization: "SECRET4",
  });
  log.info(secrets(), "plain");
  log.info({ connect: secrets(), request: { headers: { Authorization: "SECRET5", Cookie: "SECRET6" } } }, "nested");
  log.info({ list: [secrets()], a: { b: { c: secrets() } } }, "deep");
  log.child(secrets()).warn("child");
  const text = lines.join("");
  expect(text).not.toMatch(/SECRET|83,69,67,82|U0VDUkVU/);
  expect(text.split("[redacted]").length - 1).toBe(22);
  expect(text).toContain("nested");
});

test("escaping keeps what is harmless", () => {
  expect(escapeControl("topic/äß/日本/😀 {}")).toBe("topic/äß/日本/😀 {}");
  expect(escapeControl("\t")).toBe("\\u0009");
});
