/** Where to look when something is slow: clients that do not read, what holds the memory, the store; profiles on request. */
import type { Memory, SlowSubscriber, Store } from "#admin/dashboard/answers.ts";
import { ask, may } from "#admin/dashboard/api.ts";
import { askForm, showText } from "#admin/dashboard/dialogs.tsx";
import { Table } from "#admin/dashboard/list.tsx";
import { Badge, Button, Empty, Facts, PageHead, Section, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { bytes, milliseconds, named, number, t, time } from "#admin/dashboard/words.ts";
import { ClientLink } from "./clients.tsx";

export function DiagnosisPage() {
  return (
    <>
      <PageHead title={t("diagnosis")} about={t("diagnosisAbout")} />
      <Slow />
      <StoreState />
      {may("operator") && <MemoryState />}
    </>
  );
}

function Slow() {
  const slow = useLoaded(() => ask<SlowSubscriber[]>("GET", "/slow-subscribers", { limit: 50 }));
  return (
    <Section title={t("slow")} about={t("slowAbout")} actions={<Button onClick={slow.reload}>{t("refresh")}</Button>}>
      <Show of={slow}>
        {(rows) =>
          rows.length === 0 ? (
            <Empty title={t("noSlow")}>{t("noSlowText")}</Empty>
          ) : (
            <Table
              label={t("slow")}
              rows={rows}
              keyOf={({ clientId }) => clientId}
              columns={[
                { title: t("clientId"), cell: ({ clientId }) => <ClientLink clientId={clientId} />, share: 4 },
                { title: t("address"), cell: ({ address }) => <span class="mono">{address}</span>, isWide: true },
                { title: t("unsentMost"), cell: (row) => bytes(row.unsentBytesMax), isNumber: true },
                { title: t("blockedMost"), cell: (row) => milliseconds(row.blockedMsMax), isNumber: true },
                { title: t("lastSeen"), cell: ({ lastMs }) => time(lastMs), isWide: true },
              ]}
            />
          )
        }
      </Show>
    </Section>
  );
}

function StoreState() {
  const store = useLoaded(() => ask<Store>("GET", "/store"));
  return (
    <Section title={t("store")} actions={<Button onClick={store.reload}>{t("refresh")}</Button>}>
      <Show of={store}>
        {({ type, isWritable, counts, commitMs }) => (
          <Facts
            rows={[
              [t("type"), type],
              [
                t("state"),
                <Badge tone={isWritable ? "good" : "bad"}>{t(isWritable ? "writable" : "notWritable")}</Badge>,
              ],
              ...(commitMs && commitMs.count > 0
                ? [[t("commitTime"), milliseconds(commitMs.sum / commitMs.count)] as const]
                : []),
              ...Object.entries(counts).map(
                ([name, count]) =>
                  [named("count", name), name.endsWith("Bytes") ? bytes(count) : number(count)] as const,
              ),
            ]}
          />
        )}
      </Show>
    </Section>
  );
}

const PROFILE_SEC = 10;

function MemoryState() {
  const memory = useLoaded(() => ask<Memory>("GET", "/recon/memory"));
  const write = (path: string, sec?: number) => async (): Promise<void> => {
    const { files } = await ask<{ files: { path: string; bytes: number }[] }>("POST", path, { sec });
    showText(
      t("written"),
      <ul class="plain">
        {files.map((file) => (
          <li key={file.path}>
            <code>{file.path}</code> {bytes(file.bytes)}
          </li>
        ))}
      </ul>,
    );
  };
  const ask10 = (): void =>
    askForm({
      title: t("cpuProfile"),
      text: t("cpuProfileText", { count: PROFILE_SEC }),
      fields: [],
      action: t("record"),
      run: write("/recon/cpu-profile", PROFILE_SEC),
    });
  const askHeap = (): void =>
    askForm({
      title: t("heapSnapshot"),
      text: t("heapSnapshotText"),
      fields: [],
      action: t("record"),
      run: write("/recon/heap-snapshot"),
    });
  return (
    <Section
      title={t("memory")}
      actions={
        <>
          <Button onClick={memory.reload}>{t("refresh")}</Button>
          {may("administrator") && <Button onClick={ask10}>{t("cpuProfile")}</Button>}
          {may("administrator") && <Button onClick={askHeap}>{t("heapSnapshot")}</Button>}
        </>
      }
    >
      <Show of={memory}>{({ processes }) => processes.map((each) => <ProcessMemory key={each.pid} of={each} />)}</Show>
    </Section>
  );
}

function ProcessMemory({ of: { pid, bytes: held, objects, queues } }: { of: Memory["processes"][number] }) {
  return (
    <div class="process">
      <h3>{t("processId", { pid })}</h3>
      <div class="columns">
        <div>
          <h4>{t("heldBytes")}</h4>
          <Facts rows={Object.entries(held).map(([name, size]) => [named("held", name), bytes(size)] as const)} />
          {queues.length > 0 && (
            <>
              <h4>{t("longestQueues")}</h4>
              <Facts
                rows={queues.map(
                  ({ clientId, queuedCount, queuedBytes }) =>
                    [clientId, `${number(queuedCount)} (${bytes(queuedBytes)})`] as const,
                )}
              />
            </>
          )}
        </div>
        <div>
          <h4>{t("heapObjects")}</h4>
          <Facts rows={objects.map(({ type, count }) => [type, number(count)] as const)} />
        </div>
      </div>
    </div>
  );
}
