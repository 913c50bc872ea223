/** What each syntax refuses, with the line; what they mean is shown in test/contract/access-backends.test.ts. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseErlangRules } from "#access/acl-erlang.ts";
import { parseMosquittoRules } from "#access/acl-mosquitto.ts";
import { decideByRules, ruleOfRow } from "#access/acl-rule.ts";
import { parseYamlRules } from "#access/acl-yaml.ts";
import { MantouError } from "#base/error.ts";
import { knownClient } from "#test/contract/backend-contract.ts";

type Parse = typeof parseYamlRules;

function faultOf(parse: Parse, text: string): string {
  try {
    parse(text, "f");
  } catch (error) {
    expect(error).toBeInstanceOf(MantouError);
    expect((error as MantouError).code).toBe("access_file_invalid");
    return (error as MantouError).message;
  }
  throw new Error(`accepted: ${text}`);
}

test.each([
  ["- { allow: all }\n- { allow: all, user: }\n", "f:2: rule 2: user: found null"],
  ["- { allow: all }\n\n- deny: publish\n  topics: [a#]\n", 'f:3: rule 2: topics: found "a#"'],
  ["- { allow: sing }\n", 'f:1: rule 1: allow: found "sing", allowed: one of publish, subscribe, all'],
  ["- { allow: all, deny: all }\n", "f:1: rule 1: allowed: either allow or deny"],
  ["- { user: a }\n", "f:1: rule 1: allowed: either allow or deny"],
  ["- { allow: all, usr: a }\n", 'f:1: rule 1: found the key "usr"'],
  ["- { allow: all, address: 10.0.0.0/99 }\n", "f:1: rule 1: address: found"],
  ["- { allow: all, user: [] }\n", "f:1: rule 1: user: found []"],
  ["- { allow: all, topics: [] }\n", "f:1: rule 1: topics: found []"],
  ["- { allow: all, topics: a }\n", 'f:1: rule 1: topics: found "a"'],
  ['- { allow: all, topics: ["${x}"] }\n', "${x} is no variable"],
  ["- x\n", 'f:1: rule 1: found "x"'],
  ["allow: all\n", "f:1: found no list"],
  ["- { allow: all }\n- { allow: [ }\n- { allow: all }\n", "f:2: found a YAML syntax error"],
])("YAML %j", (text, says) => {
  expect(faultOf(parseYamlRules, text)).toContain(says);
});

test("an empty YAML file has no rules", () => {
  expect(parseYamlRules("# nothing\n", "f")).toEqual([]);
});

test.each([
  ["{allow, all}.\n{allow, all}", 'f:2: found the end of the file, allowed: "."'],
  ['{allow, all}.\n\n{allow, {user, 5}, sing, ["a"]}.', "f:3: found sing, allowed: publish, subscribe or pubsub"],
  ["{permit, all}.", "f:1: found permit, allowed: allow or deny"],
  ['{allow, everybody, publish, ["a"]}.', "f:1: found everybody, allowed: all, {user"],
  ["{allow, all, publish, []}.", "f:1: found a list, allowed: a list of topics"],
  ['{allow, all, publish, ["a",\n"b#"]}.', 'f:2: found "b#", allowed: a filter'],
  ['{allow, {ipaddr, "x"}, publish, ["a"]}.', 'f:1: found "x", allowed: an address'],
  ["{allow, {'and', []}, publish, [\"a\"]}.", "f:1: found a tuple"],
  ['{allow, {user, "u"}}.', "allowed: {allow|deny, WHO"],
  ["allow.", "f:1: found a term of another form"],
  ["{allow all}.", 'f:1: found "all", allowed: "}"'],
  ['{allow, all, publish, ["a].', "f:1: found"],
  ["{allow, All}.", 'f:1: found "All}."'],
  ["{".repeat(1000), "brackets in each other"],
])("Erlang %j", (text, says) => {
  expect(faultOf(parseErlangRules, text)).toContain(says);
});

test("Erlang's texts have escapes, and atoms and numbers are names too", () => {
  const rules = parseErlangRules(
    `{allow, {user, 'the user'}, publish, ["a\\"b"]}. {allow, {client, 17}, publish, ["c"]}.`,
    "f",
  );
  const may = (client: object, topic: string) =>
    decideByRules(rules, { client: { ...knownClient, ...client }, action: "publish", topic });
  expect(may({ username: "the user" }, 'a"b')).toBe("allow");
  expect(may({ clientId: "17" }, "c")).toBe("allow");
  expect(may({}, "c")).toBe("ignore");
});

test.each([
  ["user a\ntopic a#\n", 'f:2: found "a#"'],
  ["user\n", "f:1: found no user name"],
  ["topic\n", "f:1: found"],
  ["topics a\n", 'f:1: found "topics", allowed: user, topic or pattern'],
  ["\n\ntopic read\n", undefined],
])("mosquitto %j", (text, says) => {
  if (says === undefined)
    expect(parseMosquittoRules(text, "f")).toHaveLength(2); // a topic named read
  else expect(faultOf(parseMosquittoRules, text)).toContain(says);
});

test("no text whatever throws anything but a MantouError", () => {
  const words = fc.constantFrom(
    "{",
    "}",
    "[",
    "]",
    ",",
    ".",
    "allow",
    "deny",
    "all",
    '"a"',
    "user",
    "topic",
    "- ",
    ": ",
    "\n",
    "%",
    "'",
    "<<",
    "#",
    "&",
    "*",
    "pattern read",
  );
  const text = fc.oneof(
    fc.string(),
    fc.array(words, { maxLength: 30 }).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(text, (given) => {
      for (const parse of [parseYamlRules, parseErlangRules, parseMosquittoRules])
        try {
          parse(given, "f");
        } catch (error) {
          if (!(error instanceof MantouError)) throw error;
        }
    }),
    { numRuns: 1000 },
  );
});

test("a row is a rule when all of it makes sense", () => {
  const may = (row: object, client: object, topic: string): string => {
    const rule = ruleOfRow(row);
    if ("fault" in rule) return rule.fault;
    return decideByRules([rule], { client: { ...knownClient, ...client }, action: "publish", topic });
  };
  expect(may({ allow: 1, username: "u", access: 2, topic: "a/%u" }, { username: "u" }, "a/u")).toBe("allow");
  expect(may({ allow: 1, username: "u", clientid: "x", access: 2, topic: "a" }, { username: "u" }, "a")).toBe("ignore");
  expect(may({ allow: 0, username: "$all", access: 3, topic: "#" }, {}, "a")).toBe("deny");
  expect(may({ allow: "1", ipaddr: "127.0.0.1", access: "2", topic: "eq a" }, {}, "a")).toBe("allow");
  expect(may({ allow: 1n, access: 1, topic: "#" }, {}, "a")).toBe("ignore");
  expect(may({ allow: null, username: null, access: "pubsub", topic: "a" }, {}, "a")).toBe("deny");
  expect(may({ allow: 1, access: 9, topic: "a" }, {}, "a")).toContain("access 9");
  expect(may({ allow: 1, access: 3, topic: "a#" }, {}, "a")).toContain("topic a#");
  expect(may({ allow: 1, access: 3, ipaddr: "x", topic: "a" }, {}, "a")).toContain("ipaddr x");
});
