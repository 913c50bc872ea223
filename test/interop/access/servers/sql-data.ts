/** emqttd's tables with some users and rules, and what is known of them; the same for each kind of database. */
import type { KnownClient, KnownTopic } from "#test/contract/backend-contract.ts";
import { createHash } from "node:crypto";

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

export const TABLES = [
  `create table mqtt_user (username varchar(100) primary key, password varchar(100), salt varchar(40), is_superuser boolean)`,
  `create table mqtt_acl (id integer primary key, allow integer, ipaddr varchar(60), username varchar(100),
     clientid varchar(100), access integer, topic varchar(100))`,
  `create table mqtt_subs (username varchar(100), topic varchar(100), qos integer)`,
  `insert into mqtt_subs values ('alice', 'home/%u/#', 1), ('alice', '$share/g/jobs', 2), ('alice', 'news', null),
     ('root', 'a/#/b', 0)`,
  `insert into mqtt_user values ('alice', '${sha256("naclwonder")}', 'nacl', false), ('root', '${sha256("xtoor")}', 'x', true),
     ('empty', '', '', false), ('null', null, null, null)`,
  `insert into mqtt_acl values
     (1, 0, null, '$all', null, 1, 'eq #'),
     (2, 1, '127.0.0.1', null, null, 1, '$SYS/#'),
     (3, 0, null, '$all', null, 1, '$SYS/#'),
     (4, 1, null, 'alice', null, 3, 'home/%u/#'),
     (5, 0, null, 'alice', null, 2, 'home/+/shut'),
     (6, 1, null, null, 'c7', 2, 'up/%c'),
     (7, 1, null, 'alice', 'c7', 3, 'both')`,
];

export const QUERIES = {
  authQuery: "SELECT username, password, salt FROM mqtt_user WHERE username = '%u'",
  superQuery: "SELECT username, is_superuser FROM mqtt_user WHERE username = '%u'",
  aclQuery:
    "SELECT allow, ipaddr, username, clientid, access, topic FROM mqtt_acl " +
    "WHERE ipaddr = '%a' OR username = '%u' OR username = '$all' OR clientid = '%c' ORDER BY id",
  subscribeQuery: "SELECT username, topic, qos FROM mqtt_subs WHERE username = '%u'",
  password: { algorithm: "sha256", salt: "before" },
};

const ALICES = ["$share/g/jobs 2", "home/alice/# 1", "news 0"];

export const CLIENTS: readonly KnownClient[] = [
  { client: { username: "alice" }, password: "wonder", expected: "allow", subscribed: ALICES },
  { client: { username: "alice" }, password: "Wonder", expected: "deny", subscribed: ALICES },
  { client: { username: "alice" }, password: undefined, expected: "deny", subscribed: ALICES },
  { client: { username: "root" }, password: "toor", expected: "allow", isSuperuser: true, subscribed: "unavailable" },
  { client: { username: "Alice" }, password: "wonder", expected: "ignore" },
  { client: { username: "alice " }, password: "wonder", expected: "ignore" },
  { client: { username: "empty" }, password: "x", expected: "deny" },
  { client: { username: "null" }, password: "x", expected: "deny" },
  { client: { username: "' OR '1'='1" }, password: "wonder", expected: "ignore" },
  { client: { username: "alice' -- " }, password: "wonder", expected: "ignore" },
  { client: { username: "alice\u0000" }, password: "wonder", expected: "deny" },
  { client: { username: "%u" }, password: "wonder", expected: "ignore" },
  { client: { username: "😀" }, password: "wonder", expected: "ignore" },
  { client: { username: undefined }, password: "wonder", expected: "ignore" },
];

const alice = { username: "alice", address: "10.0.0.1" };

export const TOPICS: readonly KnownTopic[] = [
  { client: alice, action: "publish", topic: "home/alice/a", expected: "allow" },
  { client: alice, action: "subscribe", topic: "home/alice/#", expected: "allow" },
  { client: alice, action: "subscribe", topic: "home/#", expected: "ignore" },
  { client: alice, action: "publish", topic: "home/bob/a", expected: "ignore" },
  { client: alice, action: "publish", topic: "home/bob/shut", expected: "deny" },
  { client: alice, action: "subscribe", topic: "#", expected: "deny" },
  { client: alice, action: "subscribe", topic: "$SYS/x", expected: "deny" },
  { client: { username: "$all", address: "10.0.0.1" }, action: "subscribe", topic: "$SYS/x", expected: "deny" },
  { client: { address: "127.0.0.1" }, action: "subscribe", topic: "$SYS/x", expected: "allow" },
  { client: { clientId: "c7", address: "10.0.0.1" }, action: "publish", topic: "up/c7", expected: "allow" },
  { client: { clientId: "c8", address: "10.0.0.1" }, action: "publish", topic: "up/c7", expected: "ignore" },
  { client: { ...alice, clientId: "c7" }, action: "publish", topic: "both", expected: "allow" },
  { client: alice, action: "publish", topic: "both", expected: "ignore" },
  { client: { ...alice, clientId: "x' OR '1'='1" }, action: "publish", topic: "up/c7", expected: "ignore" },
  { client: { ...alice, username: "alice\u0000" }, action: "publish", topic: "home/alice/a", expected: "deny" },
];
