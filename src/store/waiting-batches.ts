/** What batches that could not be written yet would have changed, for reads meanwhile. Costs nothing until a write fails. */
import { BatchReader } from "./batch-reader.ts";
import { BODY, DROP_PAGE, PAGE, REMOVE } from "./log-backend.ts";

export class WaitingBatches {
  readonly bodies = new Map<number, Uint8Array>();
  /** By session, then page; null for one that was dropped. */
  private readonly pages = new Map<number, Map<number, Buffer | null>>();
  private readonly removed = new Set<number>();

  /** Batches come in order. What is no batch is left out. */
  add(bytes: Uint8Array): void {
    const item = new BatchReader(bytes);
    try {
      while (item.next()) {
        if (item.kind === BODY) this.bodies.set(item.number, item.bytes);
        else if (item.kind === PAGE) this.setPage(item.session, item.page, item.bytes);
        else if (item.kind === DROP_PAGE) this.setPage(item.session, item.page, null);
        else if (item.kind === REMOVE) this.remove(item.session);
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }

  /** Undefined when these batches say nothing of the page. */
  page(session: number, page: number): Buffer | null | undefined {
    const found = this.pages.get(session)?.get(page);
    return found === undefined && this.removed.has(session) ? null : found;
  }

  private setPage(session: number, page: number, bytes: Buffer | null): void {
    const pages = this.pages.get(session);
    if (pages) pages.set(page, bytes);
    else this.pages.set(session, new Map([[page, bytes]]));
  }

  private remove(session: number): void {
    this.pages.delete(session);
    this.removed.add(session);
  }
}
