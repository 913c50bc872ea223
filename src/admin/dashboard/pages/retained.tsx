/** Retained messages: found by filter, read whole, deleted. */
import type { Page, Retained, RetainedMessage } from "#admin/dashboard/answers.ts";
import { ApiError, ask, may } from "#admin/dashboard/api.ts";
import { useCell } from "#admin/dashboard/cell.ts";
import { askSure, showText } from "#admin/dashboard/dialogs.tsx";
import { latest } from "#admin/dashboard/feed.ts";
import { List, useFilters, useRows } from "#admin/dashboard/list.tsx";
import { act, Button, Facts, messageOf, PageHead } from "#admin/dashboard/parts.tsx";
import { bytes, number, t, time } from "#admin/dashboard/words.ts";

export function RetainedPage() {
  const count = useCell(latest)?.stats.retained.value;
  const { values, bar, key } = useFilters([
    { name: "filter", label: t("topicFilter") },
    { name: "topicContains", label: t("topicContains") },
  ]);
  const rows = useRows((page) => ask<Page<Retained>>("GET", "/retained", { ...values, ...page }), key);
  const remove = (topic: string): void =>
    askSure(t("deleteRetained"), t("deleteRetainedText", { topic }), t("delete"), async () => {
      if (await act(ask("DELETE", "/retained/message", { topic }), t("deleted", { name: topic }))) await rows.reload();
    });
  return (
    <>
      <PageHead
        title={t("retained")}
        about={count === undefined ? undefined : t("retainedNow", { count: number(count) })}
      >
        <Button onClick={() => rows.reload()}>{t("refresh")}</Button>
      </PageHead>
      {bar}
      <List
        label={t("retained")}
        of={rows}
        keyOf={({ topic }) => topic}
        empty={{ title: t("noRetained"), text: t("noRetainedText") }}
        columns={[
          {
            title: t("topic"),
            share: 5,
            cell: ({ topic }) => (
              <button type="button" class="link id" title={topic} onClick={() => void read(topic)}>
                {topic}
              </button>
            ),
          },
          { title: t("payload"), cell: ({ preview }) => <span class="mono">{preview}</span>, share: 5.5, isWide: true },
          { title: t("size"), cell: ({ payloadBytes }) => bytes(payloadBytes), share: 1.5, isNumber: true },
          { title: "QoS", cell: ({ qos }) => qos, isNumber: true, share: 1, isWide: true },
          {
            title: t("expires"),
            cell: ({ expiresAtSec }) => (expiresAtSec === undefined ? t("never") : time(expiresAtSec * 1000)),
            share: 2.5,
            isWide: true,
          },
          ...(may("operator")
            ? [
                {
                  title: t("actions"),
                  share: 2,
                  cell: ({ topic }: Retained) => (
                    <Button kind="quiet" label={t("deleteOne", { name: topic })} onClick={() => remove(topic)}>
                      {t("delete")}
                    </Button>
                  ),
                },
              ]
            : []),
        ]}
      />
    </>
  );
}

async function read(topic: string): Promise<void> {
  let message: RetainedMessage;
  try {
    message = await ask("GET", "/retained/message", { topic });
  } catch (error) {
    const isGone = error instanceof ApiError && error.code === "not_found";
    return showText(topic, isGone ? t("retainedGone") : messageOf(error));
  }
  showText(
    topic,
    <>
      <Facts
        rows={[
          ["QoS", message.qos],
          [t("size"), bytes(message.payloadBytes)],
          [t("encoding"), message.payloadEncoding === "utf8" ? "UTF-8" : "Base64"],
        ]}
      />
      <pre class="payload" tabIndex={0}>
        {message.payload}
      </pre>
    </>,
  );
}
