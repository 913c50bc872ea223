/**
 * Users and groups in a directory. A client is who it says when the directory takes its password in a simple bind:
 *
 *   userDn                       the entry's name is known but for the client's words   ─► bind
 *   search, as the broker        the entry is looked for                                ─► bind as the one that was found
 *
 *   then `match`                 attributes that must be the client's words, to the letter
 *        `groups`                the groups that have the entry as a member ─► super user, rules
 *
 * Directories compare leniently: `ALICE`, and `alice` with a space behind it, are `alice` to them. Rules, bans and topics of
 * the broker are not, so `match` lets nobody in under another spelling.
 *
 * An empty password is never sent: a directory takes that for nobody's and says yes. Costs two to five round trips a login.
 * Rights are those at the time of the login. Leaves out SASL, referrals and groups in groups, but for what a filter can say.
 */
import { FilterParser } from "ldapts";
import { z } from "zod";
import type { AclRule } from "#access/acl-rule.ts";
import { parseYamlRules } from "#access/acl-yaml.ts";
import { unanswered } from "#access/answer.ts";
import {
  type AuthenticateAnswer,
  type Backend,
  backendKind,
  DENY_CREDENTIALS,
  IGNORE,
  UNAVAILABLE,
} from "#access/backend.ts";
import { lifeOf, strictTextOf } from "#access/fetched.ts";
import { choice, guardOptions, template, text } from "#access/option.ts";
import { RemoteGuard } from "#access/remote-guard.ts";
import {
  escapeLdapFilter,
  expandLdapFilter,
  expandLdapName,
  expandText,
  type Template,
  type TemplateValues,
  templateOf,
  valuesOf,
} from "#access/template.ts";
import { MantouError } from "#base/error.ts";
import { LdapServer, ldapServerOptions } from "./ldap-server.ts";

const ruleError = "a list of rules as in an ACL file, each of which may have a `group`";

const groupOptions = z.strictObject({
  base: text("below which entry groups are looked for"),
  filter: template("which are a client's: `%d` is its entry's name").default("(member=%d)"),
  attribute: text("the group's name").default("cn"),
  superusers: z
    .array(text("a group"), { error: "a list of groups" })
    .default([])
    .meta({ description: "groups whose members are super users" }),
  rules: z
    .array(z.looseObject({ group: text("whose members it is for; unset: everybody of this backend").optional() }), {
      error: ruleError,
    })
    .default([])
    .meta({ description: "what members may do, in the order of the list" }),
});

export const ldap = backendKind({
  type: "ldap",
  roles: ["authenticate"],
  options: z.strictObject({
    ...ldapServerOptions,
    userDn: template("the entry's name, where it is known").optional(),
    search: z
      .strictObject({
        base: text("below which entry users are looked for"),
        filter: template("which entry is the client's, such as (&(objectClass=person)(uid=%u))"),
        scope: choice(["one", "sub"], "one: directly below the base; sub: at any depth").default("sub"),
      })
      .optional(),
    match: z
      .record(z.string().regex(/^[A-Za-z0-9;.-]+$/), template("a text with variables"), {
        error: "a mapping of attributes to texts with variables",
      })
      .default({ uid: "%u" })
      .meta({ description: "attributes of the entry that must be this, to the letter" }),
    groups: groupOptions.optional(),
    guard: guardOptions(),
  }),
  make(options, parts): Backend {
    const { name, log } = parts;
    const server = new LdapServer(options, options.guard.deadlineMs, parts);
    const directory = new Directory(options, server, name);
    const guard = new RemoteGuard(options.guard);
    return {
      name,
      mayGrant: options.groups !== undefined && options.groups.rules.length > 0,
      ...lifeOf(guard, server, log),
      authenticate({ client, password: bytes }, answer) {
        const question = directory.questionOf(valuesOf(client));
        if (question === "unknown") return answer(IGNORE);
        // Some directories end a password at a NUL.
        const isWhole = bytes !== undefined && bytes.length > 0 && !bytes.includes(0);
        const password = isWhole ? strictTextOf(bytes) : undefined;
        if (question === "refused" || password === undefined) return answer(DENY_CREDENTIALS);
        const key = guard.secretKey(JSON.stringify(question), password);
        guard.ask(
          key,
          (signal) => directory.logIn(question, password, signal),
          (result) => {
            if (!result.isAnswered) return answer(unanswered(result.why));
            const { value } = result;
            if (typeof value !== "string") return answer(value);
            log.warn("what the directory has found cannot be used", { what: value });
            answer(UNAVAILABLE);
          },
          client.address,
        );
      },
    };
  },
});

type LdapOptions = z.output<(typeof ldap)["options"]>;

/** A client's words, put in their places. */
interface Question {
  /** Of `userDn` the name, of `search` the filter. */
  readonly place: string;
  /** Attribute in lower case → what it must be. */
  readonly match: Readonly<Record<string, string>>;
  /** The pieces of the groups' filter between which the entry's name belongs. */
  readonly groups: readonly string[];
}

/** An answer, or what is wrong with what was found. */
type Outcome = AuthenticateAnswer | string;

type LdapConnection = Parameters<Parameters<LdapServer["run"]>[1]>[0];
type Found = Awaited<ReturnType<LdapConnection["search"]>>[number];

/** Different spellings of a client's name; more is a filter that does not ask for it. */
const ENTRIES_MAX = 10;
/** More is no client's list of groups. */
const GROUPS_MAX = 1000;

class Directory {
  private readonly place: Template;
  private readonly match: readonly (readonly [attribute: string, value: Template])[];
  private readonly groupFilter: readonly Template[];
  private readonly rules: readonly { readonly group: string | undefined; readonly rule: AclRule }[];

  /** Throws MantouError `access_invalid`, or `access_file_invalid` for a rule. */
  constructor(
    private readonly options: LdapOptions,
    private readonly server: LdapServer,
    name: string,
  ) {
    const { userDn, search, match, groups } = options;
    const refuse = (words: string): never => {
      throw new MantouError("access_invalid", `access: ${name}: ${words}`);
    };
    if ((userDn === undefined) === (search === undefined)) refuse("allowed: either userDn or search, and one of them");
    this.place = templateOf((userDn ?? search?.filter)!);
    this.match = Object.entries(match).map(([key, value]) => [key.toLowerCase(), templateOf(value)] as const);
    // Cut before anything is put in: a `%d` in a client's name is its own.
    this.groupFilter = (groups?.filter ?? "").split("%d").map(templateOf);
    for (const template of [this.place, ...this.match.map(([, value]) => value), ...this.groupFilter])
      for (const part of template)
        if (typeof part !== "string" && ["password", "topic", "action", "access"].includes(part.variable))
          refuse(`found \${${part.variable}}, allowed: variables that are known at CONNECT, but the password`);
    for (const [key, filter] of [["search", search?.filter] as const, ["groups", groups?.filter] as const])
      if (filter !== undefined && !isFilter(filter)) refuse(`${key}.filter: found ${filter}, allowed: an LDAP filter`);
    const items = groups?.rules ?? [];
    // JSON is YAML, and leaves out what is undefined.
    const texts = JSON.stringify(items.map((item) => ({ ...item, group: undefined })));
    const rules = parseYamlRules(texts, `access: ${name}: groups.rules`);
    this.rules = rules.map((rule, at) => ({ group: items[at].group, rule }));
  }

  /** `unknown`: the client has not what is asked about. `refused`: it has words that go into no question. */
  questionOf(values: TemplateValues): Question | "unknown" | "refused" {
    const used = [this.place, ...this.match.map(([, value]) => value), ...this.groupFilter].flat();
    for (const part of used) {
      const value = typeof part === "string" ? part : values[part.variable];
      if (value === undefined || value === "") return "unknown";
      if (typeof part !== "string" && (value.includes("\0") || !value.isWellFormed())) return "refused";
    }
    const place = (this.options.userDn === undefined ? expandLdapFilter : expandLdapName)(this.place, values)!;
    const match = Object.fromEntries(this.match.map(([key, value]) => [key, expandText(value, values)!]));
    return { place, match, groups: this.groupFilter.map((piece) => expandLdapFilter(piece, values)!) };
  }

  async logIn(question: Question, password: string, signal: AbortSignal): Promise<Outcome> {
    return this.server.run(signal, async (connection) => {
      const { search } = this.options;
      if (!search) {
        if (!(await connection.bind(question.place, password))) return DENY_CREDENTIALS;
        return this.admit(connection, question, question.place);
      }
      await connection.bindAsBroker();
      const filter = question.place;
      const attributes = this.attributes();
      const found = await connection.search({ ...search, filter, attributes, countMax: ENTRIES_MAX });
      if (found.length === ENTRIES_MAX) return `search: ${ENTRIES_MAX} entries or more for a client`;
      const entries = found.filter((entry) => isMatch(entry, question));
      if (entries.length > 1) return `search: more than one entry for a client (${entries[0].dn}, ${entries[1].dn})`;
      if (entries.length === 0) return IGNORE;
      const [{ dn }] = entries;
      if (!(await connection.bind(dn, password))) return DENY_CREDENTIALS;
      return this.allow(connection, question, dn);
    });
  }

  /** The password is right; is the name? */
  private async admit(connection: LdapConnection, question: Question, dn: string): Promise<Outcome> {
    if (this.match.length > 0) {
      if (this.server.hasOwnName) await connection.bindAsBroker();
      const own = {
        base: dn,
        scope: "base",
        filter: "(objectClass=*)",
        attributes: this.attributes(),
        countMax: 1,
      } as const;
      const [entry] = await connection.search(own);
      if (entry === undefined) return `match: ${dn}: its attributes cannot be read`;
      if (!isMatch(entry, question)) return DENY_CREDENTIALS;
    }
    return this.allow(connection, question, dn);
  }

  private attributes(): string[] {
    return this.match.length === 0 ? ["1.1"] : this.match.map(([key]) => key);
  }

  private async allow(connection: LdapConnection, question: Question, dn: string): Promise<Outcome> {
    const { groups } = this.options;
    if (!groups) return { verdict: "allow" };
    if (this.server.hasOwnName) await connection.bindAsBroker();
    const { base, attribute, superusers } = groups;
    const filter = question.groups.join(escapeLdapFilter(dn));
    // Without a limit of ours: what a server leaves out for its own is then an error, not a shorter list.
    const found = await connection.search({ base, scope: "sub", filter, attributes: [attribute] });
    if (found.length > GROUPS_MAX) return `groups: more than ${GROUPS_MAX} for a client`;
    const names = new Set(found.flatMap((entry) => valuesIn(entry, attribute.toLowerCase())));
    const rules = this.rules.filter(({ group }) => group === undefined || names.has(group)).map(({ rule }) => rule);
    const isSuperuser = superusers.some((group) => names.has(group));
    return { verdict: "allow", grant: { isSuperuser, ...(this.rules.length > 0 && { rules }) } };
  }
}

function isFilter(words: string): boolean {
  try {
    FilterParser.parseString(words.replaceAll(/%[a-z]|\$\{[^}]*\}/gi, "x"));
    return true;
  } catch {
    return false;
  }
}

function isMatch(entry: Found, { match }: Question): boolean {
  return Object.entries(match).every(([attribute, wanted]) => valuesIn(entry, attribute).includes(wanted));
}

/** Servers spell attributes as they like. */
function valuesIn(entry: Found, attribute: string): string[] {
  const values: string[] = [];
  for (const [key, value] of Object.entries(entry))
    if (key.toLowerCase() === attribute) values.push(...[value].flat().map((one) => one.toString()));
  return values;
}
