/** The files that tell our own broker who may come in and do what: they stand in its folder and go with it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AccessKind } from "#bench/scenarios/scenario.ts";
import { freePort } from "./free-port.ts";

/** Of those who publish and subscribe: to be known costs them a digest. */
export const LOGIN = { username: "bench", password: "a-password-of-the-bench" } as const;
/** Whose password is slow, or whom the service knows. */
export const SLOW_LOGIN = { username: "slow", password: "another-of-the-bench" } as const;

const CONFIG_FILE = "access.yaml";
const SERVICE_FILE = "service-port";
const OTHERS_COUNT = 100;
/** What OWASP asks for, and the default of `mantou user add`. */
const ARGON2 = { memoryCost: 19_456, timeCost: 2 } as const;
const ARGON2_CHEAP = { memoryCost: 8, timeCost: 1 } as const;
const BCRYPT_COST = 10;
const BCRYPT_COST_CHEAP = 4;

/** A site's rules: the broker's own topics, wards, devices, and what nobody may; the bench's clients are near the end. */
export const RULES = `
- { allow: subscribe, user: dashboard, topics: ["$SYS/#"] }
- { allow: all, user: operator }
- { deny: subscribe, topics: ["$SYS/#", { eq: "#" }] }
- { deny: all, topics: ["secret/#", "+/secret/#"] }
- { deny: publish, topics: ["firmware/#"] }
- { allow: subscribe, topics: ["firmware/%c/#", "news/#"] }
- { allow: publish, user: gateway-1, topics: ["plant/1/+/state"] }
- { allow: publish, user: gateway-2, topics: ["plant/2/+/state"] }
- { allow: subscribe, user: [screen-1, screen-2, screen-3], topics: ["plant/#"] }
- { allow: all, address: 10.1.0.0/16, topics: ["office/#"] }
- { allow: all, address: [10.2.0.0/16, "2001:db8::/32"], topics: ["hall/#"] }
- { deny: all, user: guest, topics: ["plant/#", "office/#"] }
- { allow: all, user: "*", topics: ["users/%u/#"] }
- { allow: publish, user: "*", topics: ["devices/%c/up/#"] }
- { allow: subscribe, user: "*", topics: ["devices/%c/down/#"] }
- { allow: publish, client: collector, topics: ["metrics/#"] }
- { allow: subscribe, client: [alarm-1, alarm-2], topics: ["alarm/+/+"] }
- { allow: all, user: ${LOGIN.username}, topics: ["bench/#"] }
- { allow: subscribe, user: "*", topics: ["public/#"] }
- { deny: all }
`;

/** Returns the path of the configuration. Synchronous, with a hash of a tenth of a second for a slow password. */
export function writeAccess(dir: string, access: AccessKind): string {
  if (access.kind === "stored") return write(dir, { modules: modulesOf(dir, access) });
  const { username, password } = LOGIN;
  const others = Array.from({ length: OTHERS_COUNT }, (_, i) => `other-${i}:${sha256(`other ${i}`)}`);
  writeFileSync(join(dir, "users"), [...others, `${username}:${sha256(password)}`, ""].join("\n"));
  writeFileSync(join(dir, "acl.yaml"), RULES);
  const authenticate: object[] = [{ type: "user-file", file: "users", password: { algorithm: "sha256" } }];
  const config = {
    authenticate,
    authorize: [{ type: "acl-file", file: "acl.yaml" }],
    noMatch: "deny",
    ...(access.kind === "slow password" ? { hashWaitingMax: access.waitingMax } : {}),
  };
  if (access.kind === "slow password") {
    writeFileSync(join(dir, "slow-users"), `${SLOW_LOGIN.username}:${slowHash(access)}\n`);
    authenticate.push({ type: "user-file", name: "slow", file: "slow-users" });
  } else if (access.kind === "service") {
    const port = freePort();
    writeFileSync(join(dir, SERVICE_FILE), String(port));
    authenticate.push({ type: "http", auth: { url: `http://127.0.0.1:${port}/auth` }, guard: access.guard });
  }
  return write(dir, { access: config });
}

function write(dir: string, config: object): string {
  const path = join(dir, CONFIG_FILE);
  writeFileSync(path, JSON.stringify(config)); // YAML too
  return path;
}

function modulesOf(dir: string, { where }: Extract<AccessKind, { kind: "stored" }>): object {
  if (where === "away") return { webhook: { hooks: [{ name: "away", url: `http://127.0.0.1:${freePort()}/` }] } };
  const sqlite = {
    name: "stored",
    type: "sqlite",
    file: join(dir, "stored.db"),
    schema: ["CREATE TABLE IF NOT EXISTS stored (id TEXT PRIMARY KEY, at, clientid, topic, payload)"],
    rules: [{ statement: "INSERT INTO stored VALUES (${id}, ${time}, ${clientid}, ${topic}, ${payloadbytes})" }],
  };
  return { storage: { targets: [sqlite] } };
}

/** Where the broker in `dir` looks for its service. */
export function servicePort(dir: string): number {
  return Number(readFileSync(join(dir, SERVICE_FILE), "latin1"));
}

function sha256(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}

function slowHash({ algorithm, isCheap = false }: Extract<AccessKind, { kind: "slow password" }>): string {
  const options =
    algorithm === "argon2id"
      ? ({ algorithm, ...(isCheap ? ARGON2_CHEAP : ARGON2) } as const)
      : ({ algorithm, cost: isCheap ? BCRYPT_COST_CHEAP : BCRYPT_COST } as const);
  return Bun.password.hashSync(SLOW_LOGIN.password, options);
}
