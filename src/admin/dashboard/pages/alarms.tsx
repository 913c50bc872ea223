/** What is wrong now, and what was. */
import { useEffect } from "preact/hooks";
import type { Alarm, Alarms } from "#admin/dashboard/answers.ts";
import { ask } from "#admin/dashboard/api.ts";
import { alarmNews } from "#admin/dashboard/feed.ts";
import { Badge, Empty, PageHead, Section, Show, type Tone, useLoaded } from "#admin/dashboard/parts.tsx";
import { hrefOf } from "#admin/dashboard/route.ts";
import { alarmTitle, duration, t, time } from "#admin/dashboard/words.ts";

/** Before the client id. */
const QUEUE = "queue_high_watermark.";
const tones: Readonly<Record<Alarm["severity"], Tone>> = { warning: "warn", error: "bad", critical: "bad" };

export function AlarmsPage() {
  const alarms = useLoaded(() => ask<Alarms>("GET", "/alarms"));
  useEffect(() => alarmNews.follow(() => void alarms.reload()), []);
  return (
    <>
      <PageHead title={t("alarms")} about={t("alarmsAbout")} />
      <Show of={alarms}>
        {({ active, history }) => (
          <>
            <Section title={t("activeAlarms")}>
              {active.length === 0 ? <Empty title={t("allWell")}>{t("allWellText")}</Empty> : <Entries of={active} />}
            </Section>
            <Section title={t("pastAlarms")}>
              {history.length === 0 ? <Empty title={t("noPastAlarms")} /> : <Entries of={history} />}
            </Section>
          </>
        )}
      </Show>
    </>
  );
}

function Entries({ of }: { of: readonly Alarm[] }) {
  return (
    <ul class="entries">
      {of.map(({ id, severity, title, summary, setMs, clearedMs }) => (
        <li key={`${id} ${setMs}`}>
          <div>
            <h3>
              {alarmTitle({ id, title })}{" "}
              <Badge tone={clearedMs === undefined ? tones[severity] : "calm"}>{t(severity)}</Badge>
            </h3>
            <p>{summary}</p>
            {id.startsWith(QUEUE) && (
              <p>
                <a href={hrefOf("clients", id.slice(QUEUE.length))}>{t("showSession")}</a>
              </p>
            )}
            <p class="about">
              {time(setMs)}
              {clearedMs !== undefined && ` · ${t("lastedFor", { time: duration((clearedMs - setMs) / 1000) })}`}
            </p>
          </div>
        </li>
      ))}
    </ul>
  );
}
