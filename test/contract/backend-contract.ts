/**
 * What the chain relies on in every access backend, whatever stands behind it. A backend's test describes a made backend
 * and some clients and topics whose answers are known; the suite asks in every way a client could.
 *
 *   backendContract("redis", async () => ({ backend, stop, clients: [{ …, expected: "allow" }], topics: [ … ] }));
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AccessDb } from "#access/access-db.ts";
import type {
  Attempt,
  AuthenticateAnswer,
  AuthorizeAnswer,
  Backend,
  BackendParts,
  ClientMatch,
  Question,
  SubscriptionsAnswer,
} from "#access/backend.ts";
import { PasswordChecker } from "#access/password.ts";
import type { ClientInfo } from "#core/ports.ts";

export interface KnownClient {
  readonly client?: Partial<ClientInfo>;
  /** Undefined: CONNECT had none. */
  readonly password?: string | undefined;
  readonly expected: AuthenticateAnswer["verdict"];
  readonly isSuperuser?: boolean;
  /** Of a backend that lists subscriptions: FILTER QOS, in any order. */
  readonly subscribed?: readonly string[] | "unavailable";
}

export interface KnownTopic {
  readonly client?: Partial<ClientInfo>;
  readonly action: Question["action"];
  readonly topic: string;
  readonly expected: AuthorizeAnswer;
}

export interface MadeBackend {
  /** Made, not started. */
  readonly backend: Backend;
  /** Gives back what the test needed besides; the suite stops the backend itself before. */
  readonly stop?: () => Promise<void> | void;
  readonly clients?: readonly KnownClient[];
  readonly topics?: readonly KnownTopic[];
  /** Of a backend with a server: makes it unreachable, and reachable again. */
  readonly cut?: () => Promise<void> | void;
  readonly mend?: () => Promise<void> | void;
  /** It lets in clients that name no known user or give no password: anonymous, addresses, certificates. */
  readonly isCredulous?: boolean;
}

export interface BackendFixture {
  readonly parts: BackendParts;
  readonly db: AccessDb;
  /** Clients whose right was taken back, and how often all decisions were. */
  readonly revoked: ClientMatch[];
  readonly invalidated: { count: number };
  write(file: string, text: string): void;
  stop(): void;
}

/** An empty folder and the parts to make one backend with; slow hashes are cheap. */
export function fixture(name: string, options: Partial<BackendParts> = {}): BackendFixture {
  const baseDir = mkdtempSync(join(tmpdir(), "mantou-access-"));
  const db = new AccessDb(join(baseDir, "access.db"));
  const revoked: ClientMatch[] = [];
  const invalidated = { count: 0 };
  const parts: BackendParts = {
    name,
    baseDir,
    nowSec: () => Math.floor(Date.now() / 1000),
    log: { info: () => {}, warn: () => {} },
    passwords: new PasswordChecker({ memoryKiB: 64, timeCost: 1 }),
    accessDb: () => db,
    invalidate: () => void invalidated.count++,
    revoke: (match) => void revoked.push(match),
    ...options,
  };
  return {
    parts,
    db,
    revoked,
    invalidated,
    write: (file, text) => writeFileSync(join(baseDir, file), text),
    stop: () => {
      db.close();
      rmSync(baseDir, { recursive: true });
    },
  };
}

export const knownClient: ClientInfo = {
  clientId: "c1",
  username: undefined,
  address: "127.0.0.1",
  port: 50_000,
  version: 5,
  listener: "tcp",
};

/** Words of clients that would like to be more than they are. */
export const hostileWords = [
  "#",
  "+",
  "a/b",
  "../x",
  "' OR '1'='1",
  '"; DROP TABLE users; --',
  "${username}",
  "%u%c",
  "*)(uid=*",
  "admin)(|(password=*",
  "a\r\nX-Admin: 1",
  "\u0001",
  "{$ne: null}",
  "$all",
  "__proto__",
  "constructor",
  "a b",
  "ü\u202e",
  "x".repeat(5000),
];

export function attemptOf(
  client: Partial<ClientInfo>,
  password: string | undefined,
  extra: Partial<Attempt> = {},
): Attempt {
  return {
    client: { ...knownClient, ...client },
    password: password === undefined ? undefined : Buffer.from(password),
    method: undefined,
    data: undefined,
    isReauthentication: false,
    state: undefined,
    ...extra,
  };
}

/** The answer, after a moment in which a second one would have shown. */
export async function askAuthenticate(backend: Backend, attempt: Attempt): Promise<AuthenticateAnswer> {
  return once((answer) => backend.authenticate!(attempt, answer));
}

export async function askAuthorize(backend: Backend, question: Question): Promise<AuthorizeAnswer> {
  return once((answer) => backend.authorize!(question, answer));
}

async function once<T>(ask: (answer: (value: T) => void) => void): Promise<T> {
  let count = 0;
  const value = await new Promise<T>((resolve, reject) => {
    try {
      ask((answer) => {
        count++;
        resolve(answer);
      });
    } catch (error) {
      reject(error as Error);
    }
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(count).toBe(1);
  return value;
}

export function backendContract(name: string, make: () => Promise<MadeBackend> | MadeBackend): void {
  describe(`the backend contract: ${name}`, () => {
    let made: MadeBackend;

    beforeAll(async () => {
      made = await make();
      await made.backend.start?.();
    });
    afterAll(async () => {
      await made.backend.stop?.();
      await made.stop?.();
    });

    test("it answers something, under a name", () => {
      const { backend } = made;
      expect(backend.name).not.toBe("");
      expect(Boolean(backend.authenticate) || Boolean(backend.authorize)).toBe(true);
    });

    test("each known client gets its verdict, once", async () => {
      const { backend, clients = [] } = made;
      if (backend.authenticate) expect(clients.length).toBeGreaterThan(0);
      for (const { client = {}, password, expected } of clients)
        expect({ client, password, ...(await askAuthenticate(backend, attemptOf(client, password))) }).toMatchObject({
          verdict: expected,
        });
    });

    test("each known topic gets its verdict, once", async () => {
      const { backend, topics = [] } = made;
      if (backend.authorize) expect(topics.length).toBeGreaterThan(0);
      for (const { client = {}, action, topic, expected } of topics) {
        const answer = await askAuthorize(backend, { client: { ...knownClient, ...client }, action, topic });
        expect({ client, action, topic, answer }).toEqual({ client, action, topic, answer: expected });
      }
    });

    test("super users are those who are known to be", async () => {
      const { backend, clients = [] } = made;
      if (!backend.isSuperuser) return;
      for (const { client = {}, isSuperuser = false } of clients) {
        const info = { ...knownClient, ...client };
        expect(await once<boolean>((answer) => backend.isSuperuser!(info, answer))).toBe(isSuperuser);
      }
      for (const word of hostileWords) {
        const info = { ...knownClient, clientId: word, username: word };
        expect(await once<boolean>((answer) => backend.isSuperuser!(info, answer))).toBe(false);
      }
    });

    test("each known client has its list of subscriptions, and nobody that of another", async () => {
      const { backend, clients = [] } = made;
      if (!backend.subscriptions) return;
      const ask = async (client: Partial<ClientInfo>): Promise<readonly string[] | "unavailable"> => {
        const info = { ...knownClient, ...client };
        const found = await once<SubscriptionsAnswer>((answer) => backend.subscriptions!(info, answer));
        if (found === "unavailable") return found;
        return found.map(({ filter, qos }) => `${filter.toString()} ${qos}`).toSorted();
      };
      expect(clients.filter(({ subscribed = [] }) => subscribed.length > 0)).not.toEqual([]);
      for (const { client = {}, subscribed = [] } of clients) expect(await ask(client)).toEqual(subscribed as string[]);
      for (const word of hostileWords) expect(await ask({ clientId: word, username: word })).toEqual([]);
    });

    test("an empty or missing password lets nobody in who needs one", async () => {
      const { backend, clients = [], isCredulous = false } = made;
      if (!backend.authenticate || isCredulous) return;
      for (const { client = {}, password, expected } of clients) {
        if (expected !== "allow" || password === undefined) continue;
        for (const none of [undefined, "", "\u0000"])
          expect((await askAuthenticate(backend, attemptOf(client, none))).verdict).not.toBe("allow");
        expect((await askAuthenticate(backend, attemptOf(client, `${password}x`))).verdict).not.toBe("allow");
      }
    });

    test("hostile client ids, user names and passwords get an answer and nothing else", async () => {
      const { backend, isCredulous = false } = made;
      if (!backend.authenticate) return;
      for (const word of hostileWords)
        for (const client of [{ clientId: word }, { username: word }, { clientId: word, username: word }]) {
          const { verdict } = await askAuthenticate(backend, attemptOf(client, word));
          if (!isCredulous) expect({ word, verdict }).not.toEqual({ word, verdict: "allow" });
        }
    });

    test("hostile names and topics widen nothing", async () => {
      const { backend, topics = [] } = made;
      if (!backend.authorize) return;
      for (const word of hostileWords)
        await askAuthorize(backend, { client: knownClient, action: "publish", topic: word });
      // Whoever is refused as himself is not allowed for having put wildcards into his names.
      for (const { client = {}, action, topic, expected } of topics) {
        const ask = (clientId: string): Promise<AuthorizeAnswer> =>
          askAuthorize(backend, { client: { ...knownClient, ...client, clientId }, action, topic });
        // A rule against one client id does not hold for others.
        if (expected === "allow" || (await ask("somebody-else")) === "allow") continue;
        for (const word of ["#", "+", "+/#", "a/#"]) expect(await ask(word)).not.toBe("allow");
      }
    });

    test("many at once get each its own answer", async () => {
      const { backend, clients = [], topics = [] } = made;
      const rounds = Array.from({ length: 20 });
      if (backend.authenticate) {
        const known = rounds.flatMap(() => clients);
        const asked = known.map(({ client = {}, password }) => askAuthenticate(backend, attemptOf(client, password)));
        expect((await Promise.all(asked)).map(({ verdict }) => verdict)).toEqual(known.map(({ expected }) => expected));
      }
      if (backend.authorize) {
        const known = rounds.flatMap(() => topics);
        const asked = known.map(({ client = {}, action, topic }) =>
          askAuthorize(backend, { client: { ...knownClient, ...client }, action, topic }),
        );
        expect(await Promise.all(asked)).toEqual(known.map(({ expected }) => expected));
      }
    });

    test("its health is up, and its numbers are numbers", () => {
      const health = made.backend.health?.();
      if (!health) return;
      expect(health.state).toBe("up");
      for (const count of Object.values(health.counts)) expect(count).toBeGreaterThanOrEqual(0);
    });

    test("while its server is away it says unavailable, and it comes back by itself", async () => {
      const { backend, clients = [], topics = [], cut, mend } = made;
      if (!cut || !mend) return;
      const client = clients.find(({ expected }) => expected === "allow");
      const topic = topics.find(({ expected }) => expected === "allow");
      const ask = async (): Promise<string> => {
        if (client) return (await askAuthenticate(backend, attemptOf(client.client ?? {}, client.password))).verdict;
        const { client: who = {}, action, topic: name } = topic!;
        return askAuthorize(backend, { client: { ...knownClient, ...who }, action, topic: name });
      };
      await cut();
      for (let round = 0; round < 10; round++) expect(await ask()).toBe("unavailable");
      expect(backend.health!().state).not.toBe("up");
      await mend();
      const deadlineMs = performance.now() + 60_000;
      while ((await ask()) !== "allow") {
        if (performance.now() > deadlineMs) throw new Error("it did not come back");
        await Bun.sleep(20);
      }
      expect(backend.health!().state).toBe("up");
    }, 120_000);
  });
}
