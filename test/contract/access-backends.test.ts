/** The backends that need nothing but this machine. */
import { Database } from "bun:sqlite";
import { SignJWT } from "jose";
import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import type { WrittenRule } from "#access/acl-yaml.ts";
import { aclFile } from "#access/backends/acl-file.ts";
import { address } from "#access/backends/address.ts";
import { anonymous } from "#access/backends/anonymous.ts";
import { certificate } from "#access/backends/certificate.ts";
import { clientId } from "#access/backends/client-id.ts";
import { cookie } from "#access/backends/cookie.ts";
import { http } from "#access/backends/http.ts";
import { jwt } from "#access/backends/jwt.ts";
import { ruleTable } from "#access/backends/rule-table.ts";
import { scram } from "#access/backends/scram.ts";
import { sqlite } from "#access/backends/sql.ts";
import { userFile } from "#access/backends/user-file.ts";
import { userTable } from "#access/backends/user-table.ts";
import { RuleList } from "#access/rule-list.ts";
import { UserTable } from "#access/user-table.ts";
import type { PeerIdentity } from "#core/ports.ts";
import { FakeHttpService } from "#test/interop/access/servers/http-service.ts";
import { CLIENTS, QUERIES, TABLES, TOPICS as SQL_TOPICS } from "#test/interop/access/servers/sql-data.ts";
import { backendContract, fixture, type KnownTopic } from "./backend-contract.ts";

backendContract("anonymous", () => {
  const { parts, stop } = fixture("anonymous");
  const clients = [{ expected: "allow" }, { client: { username: "u" }, password: "p", expected: "allow" }] as const;
  return { backend: anonymous.make({}, parts), stop, clients, isCredulous: true };
});

/** Made by mosquitto_passwd 2.0.11, `-H sha512` and its default. */
const MOSQUITTO_FILE = `u1:$6$6+QQqLg8DJcQqGwG$nRGINXi+3+aqxX9+ZqjjG1ZlVxS5FhDhsAR+gwekYjhKn3krv4Df/Ym/ErNcIYMjcsWTi0iqjNKdph93oBbAdg==
u2:$7$101$N18+u6PgBQ8qIqrt$uRcq6NIZYprZe/fktQdv9m6KjQGFK05J8Liw2y5fLMp7EBK3YUe8ZajGUGFCwWFy59xp+FElH6I1/QAz4EDTfw==`;

backendContract("user-file, mosquitto's", () => {
  const { parts, stop, write } = fixture("user-file");
  write("passwd", `${MOSQUITTO_FILE}\n# a comment\n\n`);
  const options = userFile.options.parse({ file: "passwd" });
  return {
    backend: userFile.make(options, parts),
    stop,
    clients: [
      { client: { username: "u1" }, password: "secret", expected: "allow" },
      { client: { username: "u2" }, password: "secret", expected: "allow" },
      { client: { username: "u2" }, password: "Secret", expected: "deny" },
      { client: { username: "u1" }, password: undefined, expected: "deny" },
      { client: { username: "nobody" }, password: "secret", expected: "ignore" },
      { expected: "ignore" },
    ],
  };
});

backendContract("user-file, plain", () => {
  const { parts, stop, write } = fixture("user-file");
  write("passwd", "a: b:c \r\n");
  const options = userFile.options.parse({ file: "passwd", password: { algorithm: "plain" } });
  return {
    backend: userFile.make(options, parts),
    stop,
    clients: [
      { client: { username: "a" }, password: " b:c ", expected: "allow" },
      { client: { username: "a" }, password: "b:c", expected: "deny" },
    ],
  };
});

backendContract("user-table", async () => {
  const { parts, db, stop } = fixture("user-table");
  const users = new UserTable(() => db, parts.passwords);
  await users.put("alice", Buffer.from("wonder"));
  await users.put("root", Buffer.from("toor"), true);
  return {
    backend: userTable.make({}, parts),
    stop,
    clients: [
      { client: { username: "alice" }, password: "wonder", expected: "allow" },
      { client: { username: "alice" }, password: "Wonder", expected: "deny" },
      { client: { username: "root" }, password: "toor", expected: "allow" },
      { client: { username: "Alice" }, password: "wonder", expected: "ignore" },
      { client: { clientId: "alice" }, password: "wonder", expected: "ignore" },
    ],
  };
});

backendContract("client-id, in a file", async () => {
  const { parts, stop, write } = fixture("client-id");
  const hash = await Bun.password.hash("pw", { algorithm: "argon2id", memoryCost: 64, timeCost: 1 });
  write("clients", `# ids\nfree\nhome 10.0.0.0/8 ::1\nlocked password=${hash}\nboth 127.0.0.0/8 password=${hash}\n`);
  return {
    backend: clientId.make(clientId.options.parse({ file: "clients" }), parts),
    stop,
    clients: [
      { client: { clientId: "free" }, expected: "allow" },
      { client: { clientId: "home", address: "10.255.0.1" }, expected: "allow" },
      { client: { clientId: "home", address: "::ffff:10.1.1.1" }, expected: "allow" },
      { client: { clientId: "home", address: "11.0.0.1" }, expected: "deny" },
      { client: { clientId: "locked" }, password: "pw", expected: "allow" },
      { client: { clientId: "locked" }, password: "pW", expected: "deny" },
      { client: { clientId: "locked" }, expected: "deny" },
      { client: { clientId: "both" }, password: "pw", expected: "allow" },
      { client: { clientId: "both", address: "10.0.0.1" }, password: "pw", expected: "deny" },
      { client: { clientId: "unknown" }, password: "pw", expected: "ignore" },
    ],
  };
});

backendContract("client-id, in the table", async () => {
  const { parts, db, stop } = fixture("client-id");
  const users = new UserTable(() => db, parts.passwords);
  await users.putClient("free", undefined, []);
  await users.putClient("home", Buffer.from("pw"), ["10.0.0.0/8", "2001:db8::/32"]);
  return {
    backend: clientId.make(clientId.options.parse({}), parts),
    stop,
    clients: [
      { client: { clientId: "free" }, expected: "allow" },
      { client: { clientId: "home", address: "2001:db8:1::1" }, password: "pw", expected: "allow" },
      { client: { clientId: "home", address: "2001:db9::1" }, password: "pw", expected: "deny" },
      { client: { clientId: "home", address: "10.0.0.1" }, password: "no", expected: "deny" },
      { client: { clientId: "other" }, expected: "ignore" },
    ],
  };
});

backendContract("address", () => {
  const { parts, stop } = fixture("address");
  const options = address.options.parse({ deny: ["10.6.6.0/24"], allow: ["10.0.0.0/8", "::1"] });
  return {
    backend: address.make(options, parts),
    stop,
    clients: [
      { client: { address: "10.1.2.3" }, expected: "allow" },
      { client: { address: "10.6.6.6" }, expected: "deny" },
      { client: { address: "::ffff:10.6.6.6" }, expected: "deny" },
      { client: { address: "::1" }, expected: "allow" },
      { client: { address: "192.168.0.1" }, expected: "ignore" },
      { client: { address: "" }, expected: "ignore" },
    ],
  };
});

function withCertificate(commonName: string): { identity: PeerIdentity } {
  const certificate = { commonName, subject: `CN=${commonName}`, alternativeNames: [], fingerprint: "00ff" };
  return { identity: { certificate } };
}

backendContract("certificate", () => {
  const { parts, stop } = fixture("certificate");
  const options = certificate.options.parse({ clientId: "common-name" });
  return {
    backend: certificate.make(options, parts),
    stop,
    clients: [
      { client: { clientId: "dev", ...withCertificate("dev") }, expected: "allow" },
      { client: { clientId: "other", ...withCertificate("dev") }, expected: "deny" },
      { client: { clientId: "", ...withCertificate("") }, expected: "deny" },
      { client: { clientId: "dev" }, expected: "ignore" },
    ],
  };
});

backendContract("scram, asked without its method", () => {
  const { parts, stop } = fixture("scram");
  return { backend: scram.make({}, parts), stop, clients: [{ password: "x", expected: "ignore" }] };
});

const SECRET = "an example secret of 32 bytes or more";

backendContract("jwt, with a secret", async () => {
  const { parts, stop } = fixture("jwt");
  const sign = (claims: Record<string, unknown>, secret = SECRET, alg = "HS256"): Promise<string> =>
    new SignJWT(claims).setProtectedHeader({ alg }).sign(Buffer.from(secret));
  const now = Math.floor(Date.now() / 1000);
  const options = jwt.options.parse({
    algorithms: ["HS256"],
    secret: SECRET,
    issuer: "me",
    usernameClaim: "sub",
    clientIdClaim: "cid",
  });
  const good = { iss: "me", sub: "alice", cid: "c1", exp: now + 100 };
  const { privateKey } = generateKeyPairSync("ed25519");
  const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from(JSON.stringify(good)).toString("base64url")}.x`;
  return {
    backend: jwt.make(options, parts),
    stop,
    clients: [
      { password: await sign(good), expected: "allow" },
      { password: await sign({ ...good, exp: undefined }), expected: "allow" },
      { client: { clientId: "c2" }, password: await sign(good), expected: "deny" },
      { password: await sign({ ...good, exp: now - 100 }), expected: "deny" },
      { password: await sign({ ...good, nbf: now + 100 }), expected: "deny" },
      { password: await sign({ ...good, iss: "you" }), expected: "deny" },
      { password: await sign({ ...good, sub: undefined }), expected: "deny" },
      { password: await sign({ ...good, acl: { pub: "a" } }), expected: "deny" },
      { password: await sign(good, `${SECRET}!`), expected: "deny" },
      { password: await sign(good, SECRET, "HS512"), expected: "deny" },
      { password: await new SignJWT(good).setProtectedHeader({ alg: "EdDSA" }).sign(privateKey), expected: "deny" },
      { password: none, expected: "deny" },
      { password: "no token", expected: "ignore" },
    ],
  };
});

const TOPICS: readonly KnownTopic[] = [
  { client: { username: "dashboard" }, action: "subscribe", topic: "$SYS/#", expected: "allow" },
  { client: { username: "dashboard" }, action: "publish", topic: "$SYS/x", expected: "ignore" },
  { client: { address: "10.0.0.1" }, action: "subscribe", topic: "$SYS/#", expected: "deny" },
  { client: { address: "10.0.0.1" }, action: "subscribe", topic: "$SYS/brokers/+", expected: "deny" },
  { client: { address: "10.0.0.1" }, action: "subscribe", topic: "#", expected: "deny" },
  { client: { address: "127.0.0.1" }, action: "subscribe", topic: "#", expected: "allow" },
  { client: { clientId: "r1", address: "10.0.0.1" }, action: "publish", topic: "robots/r1/a/b", expected: "allow" },
  { client: { clientId: "r1", address: "10.0.0.1" }, action: "publish", topic: "robots/r2/a", expected: "ignore" },
  { client: { clientId: "r1", address: "11.0.0.1" }, action: "publish", topic: "robots/r1/a", expected: "ignore" },
];

const ACL_FILES = {
  yaml: `# rules
- { allow: subscribe, user: dashboard, topics: ["$SYS/#"] }
- allow: subscribe
  address: [127.0.0.1, "::1"]
  topics: ["$SYS/#", "#"]
- { deny: subscribe, topics: ["$SYS/#", { eq: "#" }] }
- { allow: publish, address: 10.0.0.0/8, topics: ["robots/%c/#"] }
`,
  emqttd: `%% rules
{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.
{allow, {'or', [{ipaddr, "127.0.0.1"},
                {ipaddr, "::1"}]}, subscribe, ["$SYS/#", "#"]}.
{deny, all, subscribe, ["$SYS/#", {eq, "#"}]}. % nobody else
{allow, {'and', [{ipaddr, "10.0.0.0/8"}, {client, all}]}, publish, [<<"robots/$c/#">>]}.
`,
} as const;

for (const format of ["yaml", "emqttd"] as const)
  backendContract(`acl-file, ${format}`, () => {
    const { parts, stop, write } = fixture("acl-file");
    write("acl", ACL_FILES[format]);
    const backend = aclFile.make(aclFile.options.parse({ file: "acl", format }), parts);
    return { backend, stop, topics: TOPICS };
  });

backendContract("rule-table", () => {
  const { parts, db, stop } = fixture("rule-table");
  new RuleList(() => db).replace(Bun.YAML.parse(ACL_FILES.yaml) as WrittenRule[], 0);
  return { backend: ruleTable.make({}, parts), stop, topics: TOPICS };
});

backendContract("acl-file, mosquitto", () => {
  const { parts, stop, write } = fixture("acl-file");
  write(
    "acl",
    `topic read public/#
user roger
topic roger/#
topic deny roger/secret
topic write inbox/%u
# for all
pattern write up/%c
pattern deny up/bad
`,
  );
  const roger = { username: "roger" };
  const topics: KnownTopic[] = [
    { action: "subscribe", topic: "public/#", expected: "allow" },
    { action: "publish", topic: "public/x", expected: "deny" },
    { client: roger, action: "subscribe", topic: "public/x", expected: "deny" },
    { client: roger, action: "publish", topic: "roger/x", expected: "allow" },
    { client: roger, action: "publish", topic: "roger/secret", expected: "deny" },
    { client: roger, action: "subscribe", topic: "roger/#", expected: "deny" },
    { client: roger, action: "subscribe", topic: "roger/x/#", expected: "allow" },
    { client: roger, action: "publish", topic: "inbox/roger", expected: "deny" },
    { client: roger, action: "publish", topic: "inbox/%u", expected: "allow" },
    { client: { clientId: "c7" }, action: "publish", topic: "up/c7", expected: "allow" },
    { client: { clientId: "bad" }, action: "publish", topic: "up/bad", expected: "deny" },
    { client: { clientId: "c7" }, action: "subscribe", topic: "up/c7", expected: "deny" },
  ];
  const backend = aclFile.make(aclFile.options.parse({ file: "acl", format: "mosquitto" }), parts);
  return { backend, stop, topics };
});

backendContract("sqlite", () => {
  const { parts, stop } = fixture("sqlite");
  const db = new Database(join(parts.baseDir, "users.db"));
  for (const statement of TABLES) db.run(statement);
  db.close();
  const options = sqlite.options.parse({ file: "users.db", ...QUERIES });
  return { backend: sqlite.make(options, parts), stop, clients: CLIENTS, topics: SQL_TOPICS };
});

const QUICK_GUARD = { deadlineMs: 20_000, failureCountMax: 3, openMs: 50 };

for (const how of [{ method: "get" }, { method: "post" }, { method: "post", body: "json" }])
  backendContract(`http, ${how.method} ${how.body ?? ""}`, () => {
    const { parts, stop } = fixture("http");
    const service = new FakeHttpService();
    const request = (path: string): object => ({ url: `${service.origin}/${path}`, ...how });
    const requests = { auth: request("auth"), super: request("super"), acl: request("acl") };
    return {
      backend: http.make(http.options.parse({ ...requests, guard: QUICK_GUARD }), parts),
      stop: async () => {
        await service.stop();
        stop();
      },
      cut: () => service.stop(),
      mend: () => service.start(),
      clients: [
        { client: { username: "alice" }, password: "wonder", expected: "allow" },
        { client: { username: "root" }, password: "toor", expected: "allow", isSuperuser: true },
        { client: { username: "alice" }, password: "wönder", expected: "deny" },
        { client: { username: "alice" }, password: undefined, expected: "deny" },
        { client: { username: "alice&username=root" }, password: "toor", expected: "ignore" },
        { client: { username: "alice\u0000" }, password: "wonder", expected: "deny" },
        { client: { username: "bob" }, password: "wonder", expected: "ignore" },
        { expected: "ignore" },
      ],
      topics: [
        { action: "publish", topic: "open/a", expected: "allow" },
        { action: "subscribe", topic: "shut/#", expected: "deny" },
        { action: "subscribe", topic: "else&topic=open/a", expected: "ignore" },
      ],
    };
  });

function withCookie(words: string, headers: Record<string, string> = {}): { identity: PeerIdentity } {
  return { identity: { headers: { cookie: words, host: "broker.example:8084", ...headers } } };
}

backendContract("cookie, a token", async () => {
  const { parts, stop } = fixture("cookie");
  const sign = (claims: Record<string, unknown>): Promise<string> =>
    new SignJWT(claims).setProtectedHeader({ alg: "HS256" }).sign(Buffer.from(SECRET));
  const good = `t=${await sign({ sub: "alice" })}`;
  const options = cookie.options.parse({
    cookie: "t",
    origins: ["https://app.example"],
    jwt: { algorithms: ["HS256"], secret: SECRET },
  });
  return {
    backend: cookie.make(options, parts),
    stop,
    clients: [
      { client: withCookie(`a=b; ${good}; c=d`), expected: "allow" },
      { client: withCookie(good.replace("=", '="').concat('"')), expected: "allow" },
      { client: withCookie(good, { origin: "https://broker.example:8084" }), expected: "allow" },
      { client: withCookie(good, { origin: "https://app.example" }), expected: "allow" },
      { client: withCookie(good, { origin: "https://evil.example" }), expected: "deny" },
      { client: withCookie(good, { origin: "null" }), expected: "deny" },
      { client: withCookie("t=x"), expected: "deny" },
      { client: withCookie("t="), expected: "deny" },
      { client: withCookie(`t=${await sign({ name: "alice" })}`), expected: "deny" },
      { client: withCookie(`tt=1; s=${good}`), expected: "ignore" },
      { client: { username: "alice" }, password: "wonder", expected: "ignore" },
    ],
  };
});

backendContract("cookie, a session of a service", () => {
  const { parts, stop } = fixture("cookie");
  const service = new FakeHttpService();
  const lookup = { url: `${service.origin}/session`, guard: QUICK_GUARD };
  return {
    backend: cookie.make(cookie.options.parse({ cookie: "sid", http: lookup }), parts),
    stop: async () => {
      await service.stop();
      stop();
    },
    cut: () => service.stop(),
    mend: () => service.start(),
    clients: [
      { client: withCookie("sid=s-alice"), expected: "allow" },
      { client: { username: "root", ...withCookie("sid=s-alice") }, expected: "allow" },
      { client: withCookie("sid=s-nobody"), expected: "allow" },
      { client: { username: "root", ...withCookie("sid=s-nobody") }, expected: "deny" },
      { client: withCookie("sid=unknown"), expected: "deny" },
      { client: withCookie("sid=s-alice\r\nx-admin: 1"), expected: "deny" },
      { client: withCookie("other=s-alice"), expected: "ignore" },
    ],
  };
});
