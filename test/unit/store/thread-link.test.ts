import { afterAll } from "bun:test";
import { type ThreadLog, openThreadLog } from "#store/thread-link.ts";
import { type LogFixture, logBackendContract } from "#test/contract/log-backend-contract.ts";
import { bodyIds, makeDir, removeDirs } from "./disk.ts";

afterAll(removeDirs);

function committed(log: ThreadLog, last: number): Promise<void> {
  return new Promise((resolve) => {
    const report = log.onCommitted;
    log.onCommitted = (info) => {
      report(info);
      if (info.batch === last) resolve();
    };
  });
}

async function fixture(dir: string): Promise<LogFixture> {
  const log = await openThreadLog({ dir, sync: "normal" });
  let isOpen = true;
  let lastCommitted = 0;
  log.onCommitted = ({ batch }) => (lastCommitted = batch);
  const close = async (): Promise<void> => {
    if (isOpen) await log.close();
    isOpen = false;
  };
  return {
    backend: log,
    commit: async (last) => {
      if (lastCommitted < last) await committed(log, last);
    },
    restart: async () => {
      await close();
      return fixture(dir);
    },
    bodies: async () => {
      await log.whenIdle();
      return bodyIds(dir);
    },
    close,
  };
}

logBackendContract("SQLite in a thread", () => fixture(makeDir()));
