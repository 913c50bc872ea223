/** A process of its own that writes the history of a seed for ever and says which batches it was told are safe. */
import { writeSync } from "node:fs";
import { Random } from "#base/random.ts";
import type { SyncMode } from "#store/store-file-sqlite.ts";
import { openThreadLog } from "#store/thread-link.ts";
import { History } from "./history.ts";

const [dir = "", seed = "1", sync = "full"] = process.argv.slice(2);
const AHEAD = 5;

const history = new History(new Random(Number(seed)), { hasSnapshots: true, hasCollections: true });
const log = await openThreadLog({ dir, sync: sync as SyncMode });
await new Promise<unknown>((done) => log.recover({ sessions() {}, retained() {}, done }));
const write = (): void => {
  const bytes = history.next();
  log.write(history.lastBatch, bytes);
};
log.onCommitted = ({ batch }) => {
  writeSync(1, `${batch}\n`);
  write();
};
for (let ahead = 0; ahead < AHEAD; ahead++) write();
