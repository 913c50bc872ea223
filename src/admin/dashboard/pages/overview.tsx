/** How the broker fares: figures, charts of the last minutes, what was dropped and why, and each process. */
import type { Overview } from "#admin/dashboard/answers.ts";
import { useCell } from "#admin/dashboard/cell.ts";
import { Chart, type Series } from "#admin/dashboard/chart.tsx";
import { DROPPED, history, latest, type Sample } from "#admin/dashboard/feed.ts";
import { Table } from "#admin/dashboard/list.tsx";
import { Badge, Empty, Loading, PageHead, Section } from "#admin/dashboard/parts.tsx";
import { hrefOf } from "#admin/dashboard/route.ts";
import { bytes, duration, milliseconds, named, number, short, t, type TextKey } from "#admin/dashboard/words.ts";

const SERIES_MAX = 6;

export function OverviewPage() {
  const overview = useCell(latest);
  const samples = useCell(history);
  const { version = "", runtime = "", platform = "", uptimeSec = 0 } = overview?.info ?? {};
  const about =
    overview && `mantou ${version} · ${runtime} · ${platform} · ${t("upSince", { time: duration(uptimeSec) })}`;
  return (
    <>
      <PageHead title={t("overview")} about={about || t("loading")} />
      {overview ? (
        <>
          <Figures overview={overview} sample={samples.at(-1)} />
          <Charts samples={samples} />
          <Dropped overview={overview} samples={samples} />
          <Processes overview={overview} sample={samples.at(-1)} />
        </>
      ) : (
        <Loading />
      )}
    </>
  );
}

function Figures({
  overview: { stats, alarms, counters },
  sample,
}: {
  overview: Overview;
  sample: Sample | undefined;
}) {
  const alarmCount = alarms.critical + alarms.error + alarms.warning;
  const gauge = (name: keyof typeof stats): { value: string; note: string } => ({
    value: number(stats[name].value),
    note: t("atMost", { count: short(stats[name].max) }),
  });
  const total = (way: string): number => [0, 1, 2].reduce((sum, qos) => sum + counters[`messages.qos${qos}.${way}`], 0);
  const figures: readonly { key: TextKey; value: string; note: string; href?: string }[] = [
    { key: "connections", ...gauge("connections"), href: hrefOf("clients") },
    { key: "sessions", ...gauge("sessions"), href: hrefOf("sessions") },
    { key: "subscriptions", ...gauge("subscriptions"), href: hrefOf("subscriptions") },
    { key: "retained", ...gauge("retained"), href: hrefOf("retained") },
    {
      key: "received",
      value: perSecond(sample?.receivedPerSec ?? 0),
      note: t("inAll", { count: short(total("received")) }),
    },
    { key: "sent", value: perSecond(sample?.sentPerSec ?? 0), note: t("inAll", { count: short(total("sent")) }) },
    {
      key: "alarms",
      value: number(alarmCount),
      note: t(alarmCount === 0 ? "allWell" : "seeAlarms"),
      href: hrefOf("alarms"),
    },
  ];
  return (
    <dl class="figures">
      {figures.map(({ key, value, note, href }) => (
        <div key={key} class={key === "alarms" && alarmCount > 0 ? "figure alarming" : "figure"}>
          <dt>{href ? <a href={href}>{t(key)}</a> : t(key)}</dt>
          <dd class="figure-value">{value}</dd>
          <dd class="figure-note">{note}</dd>
        </div>
      ))}
    </dl>
  );
}

function perSecond(value: number): string {
  return t("perSecond", { count: short(value) });
}

function Charts({ samples }: { samples: readonly Sample[] }) {
  const times = samples.map(({ atSec }) => atSec);
  const column = (label: TextKey, of: (sample: Sample) => number | null): Series => ({
    label: t(label),
    values: samples.map(of),
  });
  const byProcess = (of: (sample: Sample) => Readonly<Record<string, number>>): Series[] =>
    Object.keys(of(samples.at(-1) ?? EMPTY))
      .slice(0, SERIES_MAX)
      .map((pid) => ({ label: t("processId", { pid }), values: samples.map((sample) => of(sample)[pid] ?? 0) }));
  const measured = (...series: Series[]): Series[] =>
    series.filter(({ values }) => values.some((each) => each !== null));
  return (
    <Section title={t("lastMinutes")}>
      <div class="charts">
        <Chart
          title={t("messagesPerSecond")}
          times={times}
          series={[column("received", (s) => s.receivedPerSec), column("sent", (s) => s.sentPerSec)]}
          format={short}
        />
        <Chart title={t("connections")} times={times} series={[column("now", (s) => s.connections)]} format={short} />
        <Chart
          title={t("bytesPerSecond")}
          times={times}
          series={[column("received", (s) => s.bytesInPerSec), column("sent", (s) => s.bytesOutPerSec)]}
          format={bytes}
          isBytes
        />
        <Chart
          title={t("droppedPerSecond")}
          times={times}
          series={droppedSeries(samples)}
          format={short}
          nothing={t("nothingDropped")}
        />
        <Chart
          title={t("latency")}
          times={times}
          series={measured(
            column("median", (s) => s.deliveryMs && s.deliveryMs.median),
            column("most", (s) => s.deliveryMs && s.deliveryMs.most),
            column("inQueues", (s) => s.queueMs),
          )}
          format={milliseconds}
          nothing={t("nothingSent")}
        />
        <Chart title={t("lag")} times={times} series={byProcess((s) => s.lagMs)} format={milliseconds} />
        <Chart
          title={t("commitTime")}
          times={times}
          series={measured(column("mean", (s) => s.commitMs))}
          format={milliseconds}
          nothing={t("noCommits")}
        />
        <Chart title={t("memory")} times={times} series={byProcess((s) => s.memoryBytes)} format={bytes} isBytes />
        <Chart
          title={t("cpu")}
          times={times}
          series={byProcess((s) => s.cpuPercent)}
          format={(value) => `${number(value, value < 10 ? 1 : 0)} %`}
        />
      </div>
    </Section>
  );
}

const EMPTY: Sample = {
  atSec: 0,
  connections: 0,
  receivedPerSec: 0,
  sentPerSec: 0,
  bytesInPerSec: 0,
  bytesOutPerSec: 0,
  droppedPerSec: {},
  lagMs: {},
  memoryBytes: {},
  cpuPercent: {},
  deliveryMs: null,
  queueMs: null,
  commitMs: null,
};

/** The reasons that counted most of late. */
function droppedSeries(samples: readonly Sample[]): Series[] {
  const sums = new Map<string, number>();
  for (const { droppedPerSec } of samples)
    for (const [reason, rate] of Object.entries(droppedPerSec)) sums.set(reason, (sums.get(reason) ?? 0) + rate);
  return [...sums]
    .filter(([, sum]) => sum > 0)
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, SERIES_MAX)
    .map(([reason]) => ({
      label: named("drop", reason),
      values: samples.map(({ droppedPerSec }) => droppedPerSec[reason] ?? 0),
    }));
}

function Dropped({ overview: { counters }, samples }: { overview: Overview; samples: readonly Sample[] }) {
  const rows = Object.entries(counters)
    .filter(([name, count]) => name.startsWith(DROPPED) && count > 0)
    .map(([name, count]) => ({ reason: name.slice(DROPPED.length), count }))
    .toSorted((a, b) => b.count - a.count);
  const rates = samples.at(-1)?.droppedPerSec ?? {};
  return (
    <Section title={t("droppedTitle")} about={t("droppedAbout")}>
      {rows.length === 0 ? (
        <Empty title={t("nothingDropped")} />
      ) : (
        <Table
          label={t("droppedTitle")}
          rows={rows}
          keyOf={({ reason }) => reason}
          columns={[
            { title: t("reason"), cell: ({ reason }) => named("drop", reason), share: 4 },
            { title: t("count"), cell: ({ count }) => number(count), isNumber: true },
            { title: t("rate"), cell: ({ reason }) => perSecond(rates[reason] ?? 0), isNumber: true },
          ]}
        />
      )}
    </Section>
  );
}

function Processes({ overview: { info }, sample }: { overview: Overview; sample: Sample | undefined }) {
  return (
    <Section title={t("processes")}>
      <Table
        label={t("processes")}
        isSideways
        rows={info.processes}
        keyOf={({ pid }) => String(pid)}
        columns={[
          { title: t("pid"), cell: ({ pid }) => pid },
          { title: t("connections"), cell: (row) => number(row.connectionCount), isNumber: true },
          { title: t("memory"), cell: ({ memoryBytes }) => bytes(memoryBytes), isNumber: true },
          { title: t("heap"), cell: ({ heapBytes }) => bytes(heapBytes), isNumber: true },
          { title: t("lag"), cell: ({ lagMs }) => milliseconds(lagMs), isNumber: true },
          {
            title: t("cpu"),
            cell: ({ pid }) => `${number(sample?.cpuPercent[pid] ?? 0, 1)} %`,
            isNumber: true,
          },
          {
            title: t("state"),
            cell: ({ isBusy }) => <Badge tone={isBusy ? "warn" : "good"}>{t(isBusy ? "busy" : "ready")}</Badge>,
          },
        ]}
      />
    </Section>
  );
}
