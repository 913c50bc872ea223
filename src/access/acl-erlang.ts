/**
 * emqttd's `acl.config`: Erlang terms, each ended by a full stop, the first match decides.
 *
 *   {allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.
 *   {allow, {ipaddr, "127.0.0.1"}, pubsub, ["$SYS/#", "#"]}.
 *   {allow, {'and', [{client, "robot"}, {ipaddr, "10.0.0.0/8"}]}, publish, ["robots/$c/#"]}.
 *   {deny, all, subscribe, ["$SYS/#", {eq, "#"}]}.
 *   {allow, all}.
 *
 * Variables: `$c`, `$u` as whole levels, and `%c`, `%u` anywhere. A text may be "…" or <<"…">>; an atom is as good as a
 * text where a name is wanted. Terms are read with their lines, then turned into rules.
 */
import type { AclRule, Who } from "./acl-rule.ts";
import { EVERYBODY } from "./acl-rule.ts";
import { parseRange } from "./address.ts";
import { parsePattern, patternFault, type TopicPattern } from "./topic-pattern.ts";
import { lineFault } from "./watched-file.ts";

interface Word {
  readonly kind: "atom" | "text";
  readonly text: string;
  readonly line: number;
}
interface Group {
  readonly kind: "tuple" | "list";
  readonly items: readonly Term[];
  readonly line: number;
}
type Term = Word | Group;

interface Token {
  readonly kind: "atom" | "text" | "mark";
  readonly text: string;
  readonly line: number;
}

const DEPTH_MAX = 32;
const ACTIONS: Readonly<Record<string, AclRule["action"]>> = {
  publish: "publish",
  subscribe: "subscribe",
  pubsub: "all",
};
const TOKEN =
  /\s+|%[^\n]*|<<\s*"((?:[^"\\]|\\.)*)"\s*(?:\/utf8)?\s*>>|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([a-z][A-Za-z0-9_@]*)|(\d+)|([{}[\],.])/suy;

/** Throws MantouError `access_file_invalid` with the line. */
export function parseErlangRules(text: string, file: string): AclRule[] {
  const reader = new TermReader(tokensOf(text, file), file);
  const rules: AclRule[] = [];
  for (let term = reader.next(); term; term = reader.next()) rules.push(new RuleMaker(file).rule(term));
  return rules;
}

function tokensOf(text: string, file: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  for (let at = 0; at < text.length;) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) {
      const found = JSON.stringify(text.slice(at, at + 20).split("\n")[0]);
      throw lineFault(file, line, `found ${found}, allowed: Erlang terms such as {allow, all}.`);
    }
    const [whole, binary, quoted, quotedAtom, atom, number, mark] = match;
    const words = binary ?? quoted;
    if (words !== undefined) tokens.push({ kind: "text", text: unescape(words), line });
    else if (quotedAtom !== undefined) tokens.push({ kind: "atom", text: unescape(quotedAtom), line });
    else if (atom !== undefined || number !== undefined) tokens.push({ kind: "atom", text: atom ?? number, line });
    else if (mark !== undefined) tokens.push({ kind: "mark", text: mark, line });
    line += whole.split("\n").length - 1;
    at += whole.length;
  }
  return tokens;
}

function unescape(text: string): string {
  const named: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", s: " " };
  return text.replace(/\\(.)/gsu, (_, c: string) => named[c] ?? c);
}

class TermReader {
  private at = 0;

  constructor(
    private readonly tokens: readonly Token[],
    private readonly file: string,
  ) {}

  /** The next term with its full stop; undefined at the end. */
  next(): Term | undefined {
    if (this.at >= this.tokens.length) return undefined;
    const term = this.term(0);
    this.expect(".");
    return term;
  }

  private term(depth: number): Term {
    const token = this.tokens[this.at++];
    if (token === undefined) throw this.fault("the end of the file", "a term");
    const { kind, text, line } = token;
    if (kind !== "mark") return { kind, text, line };
    if (depth >= DEPTH_MAX) throw lineFault(this.file, line, `found more than ${DEPTH_MAX} brackets in each other`);
    if (text === "{") return { kind: "tuple", items: this.items("}", depth), line };
    if (text === "[") return { kind: "list", items: this.items("]", depth), line };
    this.at--;
    throw this.fault(JSON.stringify(text), "a term");
  }

  private items(closing: string, depth: number): Term[] {
    const items: Term[] = [];
    if (this.take(closing)) return items;
    do items.push(this.term(depth + 1));
    while (this.take(","));
    this.expect(closing);
    return items;
  }

  private take(mark: string): boolean {
    const token = this.tokens[this.at];
    if (token?.kind !== "mark" || token.text !== mark) return false;
    this.at++;
    return true;
  }

  private expect(mark: string): void {
    if (this.take(mark)) return;
    const token = this.tokens[this.at];
    throw this.fault(token ? JSON.stringify(token.text) : "the end of the file", JSON.stringify(mark));
  }

  private fault(found: string, allowed: string): Error {
    const { line } = this.tokens[this.at] ?? this.tokens.at(-1)!;
    return lineFault(this.file, line, `found ${found}, allowed: ${allowed}`);
  }
}

class RuleMaker {
  constructor(private readonly file: string) {}

  rule(term: Term): AclRule {
    const allowed = "{allow|deny, WHO, publish|subscribe|pubsub, [TOPIC, …]} or {allow|deny, all}";
    if (term.kind !== "tuple" || (term.items.length !== 2 && term.items.length !== 4))
      throw this.fault(term, "a term of another form", allowed);
    const [first, whoTerm, actionTerm, topicsTerm] = term.items;
    const effect = atomOf(first);
    if (effect !== "allow" && effect !== "deny") throw this.fault(first, show(first), "allow or deny");
    const who = this.who(whoTerm);
    if (actionTerm === undefined || topicsTerm === undefined) {
      if (who !== EVERYBODY) throw this.fault(whoTerm, show(whoTerm), allowed);
      return { effect, who, action: "all", topics: undefined };
    }
    const action = ACTIONS[atomOf(actionTerm) ?? ""];
    if (action === undefined) throw this.fault(actionTerm, show(actionTerm), "publish, subscribe or pubsub");
    if (topicsTerm.kind !== "list" || topicsTerm.items.length === 0)
      throw this.fault(topicsTerm, show(topicsTerm), "a list of topics");
    return { effect, who, action, topics: topicsTerm.items.map((topic) => this.topic(topic)) };
  }

  private who(term: Term): Who {
    if (atomOf(term) === "all") return EVERYBODY;
    const [kindTerm, value] = term.kind === "tuple" ? term.items : [];
    const kind = kindTerm && atomOf(kindTerm);
    const isPair = term.kind === "tuple" && term.items.length === 2;
    if (isPair && (kind === "and" || kind === "or") && value.kind === "list" && value.items.length > 0)
      return { kind, parts: value.items.map((part) => this.who(part)) };
    const word = isPair && isWord(value) ? value : undefined;
    const isAll = word?.kind === "atom" && word.text === "all";
    if (word && kind === "user") return isAll ? EVERYBODY : { kind: "user", username: word.text };
    if (word && kind === "client") return isAll ? EVERYBODY : { kind: "client", clientId: word.text };
    if (word && kind === "ipaddr") {
      const range = parseRange(word.text);
      if (!range) throw this.fault(word, show(word), "an address or a range, such as 10.0.0.0/8");
      return { kind: "address", range };
    }
    const allowed = `all, {user, "…"}, {client, "…"}, {ipaddr, "…"}, {'and', […]} or {'or', […]}`;
    throw this.fault(term, show(term), allowed);
  }

  private topic(term: Term): TopicPattern {
    const isEq = term.kind === "tuple" && term.items.length === 2 && atomOf(term.items[0]) === "eq";
    const word = isEq ? term.items[1] : term;
    if (!isWord(word) || word.kind !== "text") throw this.fault(term, show(term), `a topic, or {eq, "…"}`);
    const pattern = parsePattern(word.text, isEq);
    if (!pattern) throw this.fault(word, show(word), `a filter (${patternFault(word.text)})`);
    return pattern;
  }

  private fault({ line }: Term, found: string, allowed: string): Error {
    return lineFault(this.file, line, `found ${found}, allowed: ${allowed}`);
  }
}

function isWord(term: Term): term is Word {
  return term.kind === "atom" || term.kind === "text";
}

function atomOf(term: Term): string | undefined {
  return isWord(term) && term.kind === "atom" ? term.text : undefined;
}

function show(term: Term): string {
  if (!isWord(term)) return `a ${term.kind}`;
  return term.kind === "text" ? JSON.stringify(term.text.slice(0, 80)) : term.text.slice(0, 80);
}
