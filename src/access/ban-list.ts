/**
 * Who may not come in whatever the backends say: client ids, user names, addresses and ranges, for a time or for good.
 *
 *   clientId, username   Map, one look-up         address   Map of single addresses, list of ranges
 *
 * In memory, with `access.db` behind it; `reload` reads what another process has written. Single addresses are found by
 * their bytes, so that every spelling of an IPv6 address is the same one. Ranges are looked through one by one: there are
 * at most `RANGE_COUNT_MAX`.
 */
import { MantouError } from "#base/error.ts";
import type { ClientInfo } from "#core/ports.ts";
import type { AccessDb, Ban, BanKind } from "./access-db.ts";
import { type AddressRange, hasPrefix, isInRange, parseAddress, parseRange } from "./address.ts";
import type { ClientMatch } from "./backend.ts";

const BAN_COUNT_MAX = 100_000;
export const RANGE_COUNT_MAX = 1000;
const SINGLE_ADDRESS_BITS = 128;

interface RangeBan {
  readonly range: AddressRange;
  readonly ban: Ban;
}

export class BanList {
  private readonly byKey = new Map<string, Ban>();
  private ranges: RangeBan[] = [];
  /** No ban ends before this second. */
  private nextEndSec = Infinity;
  /** Bans that found no room. */
  refusedCount = 0;

  /** Without a database nothing is kept over a restart. */
  constructor(
    private db: AccessDb | undefined,
    nowSec: number,
  ) {
    this.reload(nowSec);
  }

  /** From now on bans are kept there, those so far too. */
  use(db: AccessDb, nowSec: number): void {
    for (const ban of this.all()) db.putBan(ban);
    this.db = db;
    this.reload(nowSec);
  }

  get count(): number {
    return this.byKey.size + this.ranges.length;
  }

  all(): Ban[] {
    return [...this.byKey.values(), ...this.ranges.map(({ ban }) => ban)];
  }

  /** The ban that keeps this client out. */
  find(client: ClientInfo, nowSec: number): Ban | undefined {
    if (this.count === 0) return undefined;
    const byId = this.holding(`clientId ${client.clientId}`, nowSec);
    if (byId) return byId;
    const byName = client.username === undefined ? undefined : this.holding(`username ${client.username}`, nowSec);
    if (byName) return byName;
    const bytes = parseAddress(client.address ?? "");
    if (!bytes) return undefined;
    const byAddress = this.holding(addressKey(bytes), nowSec);
    if (byAddress) return byAddress;
    return this.ranges.find(({ range, ban }) => holds(ban, nowSec) && hasPrefix(bytes, range))?.ban;
  }

  /**
   * Adds or replaces. Throws MantouError `ban_invalid` for an address that is none, `ban_list_full` when there is no room.
   * The clients it concerns stay connected until somebody kicks them.
   */
  add(ban: Ban): void {
    try {
      this.replace(ban);
    } catch (error) {
      this.refusedCount++;
      throw error;
    }
    this.db?.putBan(ban);
  }

  /** False when there was none. `value` as it was given to `add`, or another spelling of the same address. */
  remove(kind: BanKind, value: string): boolean {
    const same = this.same(kind, value);
    if (!same) return false;
    this.forget(same);
    this.db?.deleteBan(kind, same.value);
    return true;
  }

  private same(kind: BanKind, value: string): Ban | undefined {
    if (kind !== "address") return this.byKey.get(`${kind} ${value}`);
    const range = parseRange(value);
    if (range?.prefixBits === SINGLE_ADDRESS_BITS) return this.byKey.get(addressKey(range.bytes));
    return range && this.ranges.find((other) => isSameRange(other.range, range))?.ban;
  }

  /** The same address under other words, which another process may have written, goes from the database. */
  private replace(ban: Ban): void {
    const before = this.same(ban.kind, ban.value);
    this.keep(ban);
    if (before && before.value !== ban.value) this.db?.deleteBan(ban.kind, before.value);
  }

  /** Forgets those whose time is over; call it now and then. Costs nothing until the first one ends. */
  sweep(nowSec: number): void {
    if (nowSec < this.nextEndSec) return;
    const over = this.all().filter((ban) => !holds(ban, nowSec));
    for (const ban of over) this.forget(ban);
    if (over.length > 0) this.db?.deleteBansUntil(nowSec);
    this.nextEndSec = this.all().reduce((sec, { untilSec = Infinity }) => Math.min(sec, untilSec), Infinity);
  }

  /** Reads the database again. A ban in it that makes no sense or finds no room is left out and counted. */
  reload(nowSec: number): void {
    if (!this.db) return;
    this.byKey.clear();
    this.ranges = [];
    for (const ban of this.db.bans().filter((each) => holds(each, nowSec)))
      try {
        this.replace(ban);
      } catch (error) {
        if (!(error instanceof MantouError)) throw error;
        this.refusedCount++;
      }
  }

  private holding(key: string, nowSec: number): Ban | undefined {
    const ban = this.byKey.get(key);
    return ban && holds(ban, nowSec) ? ban : undefined;
  }

  private keep(ban: Ban): void {
    this.nextEndSec = Math.min(this.nextEndSec, ban.untilSec ?? Infinity);
    const range = ban.kind === "address" ? rangeOf(ban) : undefined;
    if (!range || range.prefixBits === SINGLE_ADDRESS_BITS) {
      const key = keyOf(ban);
      if (!this.byKey.has(key) && this.byKey.size >= BAN_COUNT_MAX) throw this.tooMany(BAN_COUNT_MAX, "bans");
      this.byKey.set(key, ban);
      return;
    }
    const ranges = this.ranges.filter((other) => !isSameRange(other.range, range));
    if (ranges.length >= RANGE_COUNT_MAX) throw this.tooMany(RANGE_COUNT_MAX, "bans of address ranges");
    this.ranges = [...ranges, { range, ban }];
  }

  private tooMany(countMax: number, words: string): MantouError {
    return new MantouError("ban_list_full", `found ${countMax} ${words}, allowed: no more`);
  }

  private forget(ban: Ban): void {
    if (ban.kind === "address") this.ranges = this.ranges.filter((other) => other.ban !== ban);
    const key = keyOf(ban);
    if (this.byKey.get(key) === ban) this.byKey.delete(key);
  }
}

function holds({ untilSec }: Ban, nowSec: number): boolean {
  return untilSec === undefined || nowSec < untilSec;
}

function rangeOf({ value }: Ban): AddressRange {
  const range = parseRange(value);
  if (range) return range;
  const allowed = "an address or a range, such as 10.0.0.7 or 2001:db8::/32";
  throw new MantouError("ban_invalid", `address: found ${JSON.stringify(value)}, allowed: ${allowed}`);
}

function addressKey(bytes: Uint8Array): string {
  return `address ${Buffer.from(bytes).toString("hex")}`;
}

function keyOf(ban: Ban): string {
  return ban.kind === "address" ? addressKey(rangeOf(ban).bytes) : `${ban.kind} ${ban.value}`;
}

/** Also when the bits behind the prefix differ: 10.1.2.3/8 is 10.0.0.0/8. */
function isSameRange(a: AddressRange, b: AddressRange): boolean {
  return a.prefixBits === b.prefixBits && hasPrefix(a.bytes, b);
}

/** Whom a ban keeps out, or ends. */
export function clientsOf(ban: Ban): ClientMatch {
  if (ban.kind === "clientId") return { clientId: ban.value };
  if (ban.kind === "username") return { username: ban.value };
  const range = rangeOf(ban);
  return { holds: ({ address }) => isInRange(address ?? "", range) };
}
