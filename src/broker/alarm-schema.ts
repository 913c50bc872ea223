/** The `alarms` section of the configuration. */
import { z } from "zod";
import { meta, numberLeaf } from "./config-leaf.ts";

const percent = { min: 1, max: 100 };

export const alarmSchema = z
  .strictObject({
    queueHighPercent: numberLeaf("queueHighPercent", percent).default(60).meta({
      description: "a session's queue that holds so much of session.outboxCountMax or outboxBytesMax",
    }),
    queueLowPercent: numberLeaf("queueLowPercent", { min: 0, max: 99 })
      .default(20)
      .meta({ description: "that alarm ends when the queue is down to this" }),
    lagMsHigh: numberLeaf("lagMsHigh", { min: 1, max: 600_000 })
      .default(240)
      .meta({ description: "milliseconds that the event loop comes late; the alarm ends after 10 s without" }),
    memoryHighPercent: numberLeaf("memoryHighPercent", percent)
      .default(80)
      .meta({ description: "resident memory, of broker.memoryBytesMax" }),
    descriptorHighPercent: numberLeaf("descriptorHighPercent", percent)
      .default(80)
      .meta({ description: "connections, of what the process's descriptor limit leaves room for" }),
    certificateDaysMin: numberLeaf("certificateDaysMin", { min: 0, max: 3650 })
      .default(30)
      .meta({ description: "days for which the certificates of the listeners are still valid" }),
    historyCountMax: numberLeaf("historyCountMax", { min: 0, max: 100_000 })
      .default(1000)
      .meta(meta("historyCountMax", "alarms that are over and kept to be looked at, in memory; the oldest give way")),
  })
  .prefault({});

export type AlarmConfig = z.output<typeof alarmSchema>;
