/** What is polled: one small answer for an overview, and whether the broker is ready for clients. */
import { z } from "zod";
import { brokerOperations, sumHistograms } from "./broker-operations.ts";
import { awayFault, nothing, operation } from "./operation.ts";

const { "broker.info": infoOf, "stats.read": statsOf, "metrics.read": metricsOf } = brokerOperations;
const { "histograms.read": histogramsOf, "store.show": storeOf } = brokerOperations;

/** Of the counters: traffic, drops, comings and goings. */
const SHOWN = /^(bytes|messages)\.|^packets\.(received|sent)$|^connections\.(opened|closed|refused\.\w+)$|^bugs$/;

const overview = z.object({
  info: infoOf.result,
  stats: statsOf.result,
  counters: z.record(z.string(), z.number()).meta({ description: "since the start; rates are differences" }),
  histograms: histogramsOf.result.extend({ commitMs: storeOf.result.shape.commitMs }),
  alarms: z.object({ critical: z.int(), error: z.int(), warning: z.int() }),
  nowMs: z.number().meta({ description: "wall clock of the figures" }),
});

const health = z.object({
  isReady: z.boolean().meta({ description: "it takes clients in and can keep what it must" }),
  problems: z.array(z.string()),
});

export const overviewOperations = {
  "overview.read": operation({
    about: "what an overview shows: processes, gauges, traffic and drops, alarms",
    spread: "each",
    params: nothing,
    result: overview,
    merge(answers, missing) {
      const count = (severity: "critical" | "error" | "warning"): number =>
        answers.reduce((sum, { alarms }) => sum + alarms[severity], 0);
      return {
        info: infoOf.merge!(
          answers.map(({ info }) => info),
          missing,
        ),
        stats: statsOf.merge!(
          answers.map(({ stats }) => stats),
          missing,
        ),
        counters: metricsOf.merge!(
          answers.map(({ counters }) => counters),
          missing,
        ),
        histograms: {
          ...histogramsOf.merge!(
            answers.map(({ histograms }) => histograms),
            missing,
          ),
          commitMs: answers
            .map(({ histograms }) => histograms.commitMs)
            .reduce((a, b) => a && b && sumHistograms(a, b)),
        },
        alarms: { critical: count("critical"), error: count("error"), warning: count("warning") },
        nowMs: answers[0].nowMs,
      };
    },
    async run(parts) {
      const { active } = parts.observation.alarms;
      const count = (severity: string): number => active.filter((alarm) => alarm.severity === severity).length;
      const counters = Object.entries(await metricsOf.run(parts, {})).filter(([name]) => SHOWN.test(name));
      return {
        info: await infoOf.run(parts, {}),
        stats: await statsOf.run(parts, {}),
        counters: Object.fromEntries(counters),
        histograms: { ...(await histogramsOf.run(parts, {})), commitMs: (await storeOf.run(parts, {})).commitMs },
        alarms: { critical: count("critical"), error: count("error"), warning: count("warning") },
        nowMs: Date.now(),
      };
    },
  }),
  "health.read": operation({
    about: "whether the broker is ready for clients",
    spread: "each",
    params: nothing,
    result: health,
    // The others serve: who takes clients away from the broker for one worker that restarts takes away all.
    merge: (answers, missing) => ({
      isReady: answers.every(({ isReady }) => isReady),
      problems: [
        ...new Set(answers.flatMap(({ problems }) => problems)),
        ...missing.map((node) => awayFault(node).message),
      ],
    }),
    run({ engine, context, listeners }) {
      const problems: string[] = [];
      if (!engine.store.isWritable) problems.push("the store cannot write");
      if (context.isBusy) problems.push("busy: new clients are refused");
      if (!listeners.list().some(({ isOpen }) => isOpen)) problems.push("no listener is open");
      let isRestored = false;
      engine.store.whenReady(() => (isRestored = true));
      if (!isRestored) problems.push("what is stored is still being restored");
      return { isReady: problems.length === 0, problems };
    },
  }),
};
