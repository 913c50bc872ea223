import { expect, test } from "bun:test";
import { DescriptorOutput } from "#broker/log-output.ts";

/** A descriptor that takes what `takes` says, call by call: a number of bytes, or an error code. Then everything. */
function output(...takes: (number | string)[]) {
  let written = "";
  const out = new DescriptorOutput(
    (bytes, offset) => {
      const take = takes.shift() ?? Infinity;
      if (typeof take === "string") throw Object.assign(new Error(take), { code: take });
      const part = bytes.subarray(offset, offset + take);
      written += Buffer.from(part).toString("latin1");
      return part.length;
    },
    (count) => `lost ${count}\n`,
  );
  return { out, text: () => written, takes };
}

test("lines are written whole, also when the descriptor takes them in parts or refuses for a moment", () => {
  const { out, text } = output(1, "EAGAIN", 2, "EAGAIN");
  out.write("first\n");
  out.write("second\n");
  expect(text()).toBe("first\nsecond\n");
});

test("a reader that is gone costs lines, not the process; the count is told when it is back", () => {
  const { out, text } = output("EPIPE", "EPIPE", "ENOSPC");
  out.write("1\n");
  out.write("2\n");
  out.write("3\n");
  out.write("4\n");
  out.write("5\n");
  expect(text()).toBe("lost 3\n4\n5\n");
});

test("after a torn line the next one starts on its own", () => {
  const { out, text } = output(3, "EPIPE");
  out.write("abcdef\n");
  out.write("next\n");
  expect(text()).toBe("abc\nlost 1\nnext\n");
});

test("a descriptor that stays full is given up after a while, line by line", () => {
  const { out, text, takes } = output(...Array.from({ length: 60 }, () => "EAGAIN"));
  out.write("1\n");
  expect(takes).toHaveLength(10);
  out.write("2\n");
  expect(text()).toBe("lost 1\n2\n");
});
