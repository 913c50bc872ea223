import { describe, expect, test } from "bun:test";
import {
  bindTemplate,
  escapeHeader,
  escapeLdapFilter,
  escapeLdapName,
  escapeUrl,
  expandHeader,
  expandLdapFilter,
  expandLdapName,
  expandText,
  expandUrl,
  isTemplate,
  parseTemplate,
  templateOf,
  valuesOf,
} from "#access/template.ts";
import { hostileWords, knownClient } from "#test/contract/backend-contract.ts";

const values = { clientid: "c", username: "u", address: "1.2.3.4" };

test("every spelling of a variable is found, and nothing else is one", () => {
  expect(expandText(templateOf("%c|%u|%a|${clientid}|${USERNAME}|$c|%|%%c|%x"), values)).toBe(
    "c|u|1.2.3.4|c|u|$c|%|%c|%x",
  );
  expect(parseTemplate("a ${nobody}")).toEqual({ unknown: "${nobody}" });
  expect(isTemplate(parseTemplate("plain"))).toBe(true);
  expect(() => templateOf("${x}")).toThrow();
});

test("values are put in once: what looks like a variable in them stays as it is", () => {
  expect(expandText(templateOf("%u/%c"), { username: "%c", clientid: "${username}" })).toBe("%c/${username}");
});

test("a missing value is no text at all", () => {
  expect(expandText(templateOf("a %u"), { clientid: "c" })).toBeUndefined();
  expect(expandUrl(templateOf("%u"), {})).toBeUndefined();
});

test("a client's values are those of its connection and certificate", () => {
  const certificate = { commonName: "", subject: "CN=", alternativeNames: [], fingerprint: "ff" };
  const client = { ...knownClient, username: "u", identity: { certificate } };
  expect(valuesOf(client)).toMatchObject({ clientid: "c1", username: "u", commonname: undefined, fingerprint: "ff" });
});

describe("hostile words stay words", () => {
  test("in a URL: one component, never a step in the path", () => {
    for (const word of hostileWords) {
      const url = expandUrl(templateOf("http://h/a/%u?x=%u&y=1"), { username: word })!;
      const parsed = new URL(url);
      expect(parsed.host).toBe("h");
      expect(parsed.pathname.split("/")).toHaveLength(3);
      expect(parsed.searchParams.get("x")).toBe(word);
      expect([...parsed.searchParams.keys()]).toEqual(["x", "y"]);
      expect(parsed.hash).toBe("");
    }
    expect(escapeUrl("..")).toBeUndefined();
    expect(escapeUrl(".")).toBeUndefined();
    expect(escapeUrl("\ud800")).toBeUndefined();
    expect(escapeUrl("!'()*")).toBe("%21%27%28%29%2A");
  });

  test("in a header: one line of ASCII, or nothing", () => {
    for (const word of hostileWords) {
      const header = expandHeader(templateOf("x %u"), { username: word });
      if (header !== undefined) new Headers({ x: header }); // throws for what is none
      expect(header ?? "").not.toMatch(/[^\x20-\x7e]/);
    }
    for (const word of ["a\r\nb", "a\nb", "\u0000", "\u007f", "\u0085"]) expect(escapeHeader(word)).toBeUndefined();
  });

  test("in an LDAP filter: RFC 4515's escapes", () => {
    expect(escapeLdapFilter("a*)(\\\u0000ü")).toBe("a\\2A\\29\\28\\5C\\00ü");
    for (const word of hostileWords) {
      const filter = expandLdapFilter(templateOf("(uid=%u)"), { username: word })!;
      expect(filter.slice(5, -1)).not.toMatch(/[*()]/);
    }
  });

  test("in an LDAP name: no separator of RFC 4514 is left bare", () => {
    expect(escapeLdapName(' a,b+c"d\\e<f>g;h=i#j ')).toBe("\\20a\\2Cb\\2Bc\\22d\\5Ce\\3Cf\\3Eg\\3Bh\\3Di\\23j\\20");
    for (const word of hostileWords) {
      const name = expandLdapName(templateOf("uid=%u,dc=x"), { username: word })!;
      expect(name.slice(4, -5).replace(/\\[0-9A-F]{2}/g, "")).not.toMatch(/[,+"<>;=#\\]/);
    }
  });

  test("in SQL: always bound", () => {
    const dollar = (n: number): string => `$${n}`;
    expect(
      bindTemplate("select a from t where u = '%u' and c = ${clientid} or x='y' and a=\"%a\" and u=%u", dollar),
    ).toEqual({
      text: "select a from t where u = $1 and c = $2 or x='y' and a=$3 and u=$4",
      variables: ["username", "clientid", "address", "username"],
    });
    expect(bindTemplate("x = 'it''s' and u = '%u'", () => "?")).toEqual({
      text: "x = 'it''s' and u = ?",
      variables: ["username"],
    });
    expect(bindTemplate("u = 'user-%u'", dollar)).toMatchObject({ fault: expect.stringContaining("%u") });
    expect(bindTemplate("u = '%u x'", dollar)).toMatchObject({ fault: expect.stringContaining("%u") });
    expect(bindTemplate("u = ${nobody}", dollar)).toMatchObject({ fault: expect.stringContaining("${nobody}") });
  });
});
