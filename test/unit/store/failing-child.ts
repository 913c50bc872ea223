/** A process of its own whose syncs fail while a file is there: says what it is told. */
import { rmSync, writeFileSync, writeSync } from "node:fs";
import { BatchWriter } from "./batch-writer.ts";
import { DirectLog } from "./disk.ts";

const [dir = "", flag = ""] = process.argv.slice(2);
const say = (line: string): void => void writeSync(1, `${line}\n`);

const log = new DirectLog(dir, { sync: "full" });
log.recover({ sessions() {}, retained() {}, done() {} });
log.onCommitted = ({ batch }) => say(`committed ${batch}`);
const failed = Promise.withResolvers<void>();
log.onFailed = (reason) => {
  say(`failed ${reason.replace(/ \(.*/, "")}`);
  failed.resolve();
};
const write = (batch: number): void => log.write(batch, new BatchWriter().body(batch, Buffer.from("x")).take());
write(1);
await log.whenCommitted(1);
writeFileSync(flag, "");
write(2);
await failed.promise;
write(3);
await Bun.sleep(700); // one more attempt
say("nothing");
rmSync(flag);
await log.whenCommitted(3);
log.close();
