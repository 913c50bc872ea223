/**
 * mosquitto's `acl_file`.
 *
 *   topic read $SYS/#              before any user line: for clients without a user name
 *   user roger                     the topic lines below are his
 *   topic readwrite roger/#        read, write, readwrite (when nothing is said), deny
 *   pattern write devices/%c/up    for everybody, with %c and %u
 *
 * As there: whatever no line allows is refused, a user's deny lines win over his others wherever they stand, his own lines
 * over the patterns, and a pattern's deny over the other patterns. `read` is judged when a client subscribes.
 */
import type { AclRule, Who } from "./acl-rule.ts";
import { EVERYBODY } from "./acl-rule.ts";
import { parsePattern, patternFault, plainPattern, type TopicPattern } from "./topic-pattern.ts";
import { lineFault } from "./watched-file.ts";

const WITHOUT_NAME: Who = { kind: "nameless" };
const ACTIONS: Readonly<Record<string, AclRule["action"]>> = { read: "subscribe", write: "publish", readwrite: "all" };

/** Throws MantouError `access_file_invalid` with the line. */
export function parseMosquittoRules(text: string, file: string): AclRule[] {
  const own: AclRule[] = [];
  const patterns: AclRule[] = [];
  let who = WITHOUT_NAME;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const words = line.trim();
    if (words === "" || words.startsWith("#")) continue;
    const fault = (found: string, allowed: string): Error =>
      lineFault(file, index + 1, `found ${found}, allowed: ${allowed}`);
    const [, key = "", rest = ""] = /^(\S+)\s*(.*)$/s.exec(words) ?? [];
    if (key === "user") {
      if (rest === "") throw fault("no user name", "user NAME");
      who = { kind: "user", username: rest };
    } else if (key === "topic" || key === "pattern") {
      const [, access = "readwrite", filter = ""] = /^(?:(read|write|readwrite|deny)\s+)?(.*)$/s.exec(rest) ?? [];
      const pattern: TopicPattern | undefined = key === "topic" ? plainPattern(filter) : parsePattern(filter);
      if (!pattern) throw fault(JSON.stringify(filter.slice(0, 80)), `a filter (${patternFault(filter)})`);
      const effect = access === "deny" ? "deny" : "allow";
      const rule: AclRule = {
        effect,
        who: key === "topic" ? who : EVERYBODY,
        action: ACTIONS[access] ?? "all",
        topics: [pattern],
      };
      (key === "topic" ? own : patterns).push(rule);
    } else {
      throw fault(JSON.stringify(key.slice(0, 80)), "user, topic or pattern");
    }
  }
  const deniesFirst = (rules: readonly AclRule[]): AclRule[] => [
    ...rules.filter(({ effect }) => effect === "deny"),
    ...rules.filter(({ effect }) => effect === "allow"),
  ];
  const rest: AclRule = { effect: "deny", who: EVERYBODY, action: "all", topics: undefined };
  return [...deniesFirst(own), ...deniesFirst(patterns), rest];
}
