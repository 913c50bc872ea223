/**
 * Who may come in through a listener, and how fast.
 *
 *   takePlace      the listener's and the process's number of connections           connections.refused.limit
 *   waitMs         the address's rules                                              connections.refused.address
 *                  connections a second of one address                              connections.refused.address_rate
 *                  connections a second of all: they wait their turn, then          connections.refused.rate
 *
 * An IPv6 client counts with its /64.
 */
import { isIPv6 } from "node:net";
import { Pacer } from "#base/pacer.ts";
import { PacerTable } from "#base/pacer-table.ts";
import { Metric } from "#core/metrics.ts";
import { isAddressAllowed, type AddressRule } from "./address-rules.ts";
import type { TcpTransport } from "./tcp.ts";

const DELAYED = Metric["connections.delayed.rate"];

export interface AdmissionOptions {
  readonly connectionsMax: number;
  readonly rules: readonly AddressRule[];
  /** Connections a second; 0: any. */
  readonly acceptRate: number;
  /** Connections a second from one address; 0: any. */
  readonly addressRate: number;
  /** Longest that a connection may wait for its turn. */
  readonly waitMsMax: number;
}

export class Admission {
  connectionCount = 0;
  /** True when every address may come at once: none is even looked at. */
  readonly isOpen: boolean;
  private readonly pacer: Pacer | undefined;
  private readonly addresses: PacerTable | undefined;

  constructor(
    private readonly transport: TcpTransport,
    private readonly options: AdmissionOptions,
  ) {
    const { rules, acceptRate, addressRate } = options;
    this.isOpen = rules.length === 0 && acceptRate === 0 && addressRate === 0;
    if (acceptRate > 0) this.pacer = new Pacer(acceptRate, acceptRate);
    if (addressRate > 0) this.addresses = new PacerTable(addressRate);
  }

  /** False when there is none left. Follow with `leavePlace` when the connection closes. */
  takePlace(): boolean {
    const { transport } = this;
    if (this.connectionCount >= this.options.connectionsMax || transport.connectionCount >= transport.connectionsMax) {
      transport.metrics.add("connections.refused.limit");
      return false;
    }
    this.connectionCount++;
    transport.connectionCount++;
    return true;
  }

  leavePlace(): void {
    this.connectionCount--;
    this.transport.connectionCount--;
  }

  /** How long the client has to wait, or −1: refused and counted. */
  waitMs(address: string): number {
    if (this.isOpen) return 0;
    const { metrics } = this.transport;
    if (!isAddressAllowed(this.options.rules, address)) {
      metrics.add("connections.refused.address");
      return -1;
    }
    const nowMs = performance.now();
    if (this.addresses && !this.addresses.take(keyOf(address), nowMs)) {
      metrics.add("connections.refused.address_rate");
      return -1;
    }
    if (!this.pacer) return 0;
    const waitMs = this.pacer.waitMs(nowMs);
    if (waitMs > this.options.waitMsMax) {
      metrics.add("connections.refused.rate");
      return -1;
    }
    this.pacer.take(nowMs);
    if (waitMs > 0) metrics.counts[DELAYED]++;
    return waitMs;
  }
}

/** Of an IPv6 client its network. */
function keyOf(address: string): string {
  return isIPv6(address) && !address.includes(".") ? networkOf(address) : address;
}

/** The first 64 bits of an IPv6 address, as text. */
function networkOf(address: string): string {
  const [head = "", tail] = address.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const rest = tail === "" ? 0 : tail.split(":").length;
    while (groups.length + rest < 8) groups.push("0");
    groups.push(...tail.split(":"));
  }
  return groups.slice(0, 4).join(":");
}
