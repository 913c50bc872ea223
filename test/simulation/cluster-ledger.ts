/** The judge of a cluster run: that of a crash run, where a crash takes one node of several away. */
import { CrashLedger } from "./crash-ledger.ts";

export class ClusterLedger extends CrashLedger {
  protected override readonly isSlow = true;

  constructor(private readonly homeOf: (clientId: string) => number) {
    super();
  }

  /** The node is gone, and with it the links of its clients. */
  crashNode(node: number): void {
    for (const link of this.links.values()) {
      if (link.isLost || this.homeOf(link.client.id) !== node) continue;
      link.isLost = true;
      if (link.client.link === link) link.client.link = undefined;
    }
  }
}
