/** What CLI and REST do with the users and client ids of `access.db`. Whoever loses a right is disconnected by the broker. */
import { MantouError } from "#base/error.ts";
import type { AccessDb, ClientRow, UserRow } from "./access-db.ts";
import { parseRange } from "./address.ts";
import type { PasswordChecker } from "./password.ts";
import { makeScramKeys } from "./scram.ts";

const NAME_BYTES_MAX = 65_535;

/** What is shown of a user. */
export type User = Omit<UserRow, "hash">;

export class UserTable {
  constructor(
    private readonly db: () => AccessDb,
    private readonly passwords: PasswordChecker,
    /** Called after each change. */
    private readonly onChange: () => void = () => {},
  ) {}

  /** Adds a user or gives him another password. Rejects with MantouError `user_invalid` or `server_busy`. */
  async put(username: string, password: Buffer, isSuperuser = false): Promise<void> {
    checkName("username", username);
    if (password.length === 0)
      throw new MantouError("user_invalid", "password: found nothing, allowed: one byte or more");
    const [hash, scram] = await Promise.all([this.hash(password), makeScramKeys(password)]);
    this.db().putUser({ username, hash, isSuperuser }, scram);
    this.onChange();
  }

  /** False when there is no such user. */
  setSuperuser(username: string, isSuperuser: boolean): boolean {
    const isThere = this.db().setSuperuser(username, isSuperuser);
    if (isThere) this.onChange();
    return isThere;
  }

  delete(username: string): boolean {
    const wasThere = this.db().deleteUser(username);
    if (wasThere) this.onChange();
    return wasThere;
  }

  find(username: string): User | undefined {
    const row = this.db().user(username);
    return row && { username, isSuperuser: row.isSuperuser };
  }

  list(after?: string, limit?: number): User[] {
    return this.db()
      .users(after, limit)
      .map(({ username, isSuperuser }) => ({ username, isSuperuser }));
  }

  /** Adds or replaces a client id; without password none is asked for, without ranges it may come from anywhere. */
  async putClient(clientId: string, password: Buffer | undefined, ranges: readonly string[]): Promise<void> {
    checkName("clientId", clientId);
    for (const range of ranges)
      if (!parseRange(range))
        throw new MantouError(
          "user_invalid",
          `address: found ${JSON.stringify(range)}, allowed: an address or a range`,
        );
    const hash = password === undefined ? undefined : await this.hash(password);
    this.db().putClient({ clientId, hash, ranges: ranges.join(" ") });
    this.onChange();
  }

  deleteClient(clientId: string): boolean {
    const wasThere = this.db().deleteClient(clientId);
    if (wasThere) this.onChange();
    return wasThere;
  }

  listClients(after?: string, limit?: number): Pick<ClientRow, "clientId" | "ranges">[] {
    return this.db()
      .clients(after, limit)
      .map(({ clientId, ranges }) => ({ clientId, ranges }));
  }

  private hash(password: Buffer): Promise<string> {
    return new Promise((resolve, reject) => {
      this.passwords.hash(password, (text) => {
        if (text === undefined)
          reject(new MantouError("server_busy", "too many passwords are being hashed; try again"));
        else resolve(text);
      });
    });
  }
}

function checkName(key: string, name: string): void {
  if (name === "" || Buffer.byteLength(name) > NAME_BYTES_MAX || name.includes("\u0000") || !name.isWellFormed())
    throw new MantouError("user_invalid", `${key}: allowed: text of 1 to ${NAME_BYTES_MAX} bytes without NUL`);
}
