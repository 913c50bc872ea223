/** The frame around every page: who is here, where one can go, how the connection is. */
import type { ComponentType } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Role } from "#admin/identity.ts";
import { may, session, signOut } from "./api.ts";
import { useCell } from "./cell.ts";
import { LanguageChoice, Mark, ThemeChoice } from "./choices.tsx";
import { DialogHost } from "./dialogs.tsx";
import { alarmNews, latest, link } from "./feed.ts";
import { Notices, notify } from "./notices.tsx";
import { AccessPage } from "./pages/access.tsx";
import { AccountsPage } from "./pages/accounts.tsx";
import { AlarmsPage } from "./pages/alarms.tsx";
import { ApiPage } from "./pages/http-api.tsx";
import { AuditPage } from "./pages/audit.tsx";
import { ClientPage } from "./pages/client.tsx";
import { ClientsPage } from "./pages/clients.tsx";
import { ConfigPage } from "./pages/configuration.tsx";
import { DiagnosisPage } from "./pages/diagnosis.tsx";
import { ListenersPage } from "./pages/listeners.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { PluginsPage } from "./pages/plugins.tsx";
import { RetainedPage } from "./pages/retained.tsx";
import { SessionsPage } from "./pages/sessions.tsx";
import { SubscriptionsPage } from "./pages/subscriptions.tsx";
import { TopicsPage } from "./pages/topics.tsx";
import { TracePage } from "./pages/trace.tsx";
import { WebSocketPage } from "./pages/web-socket.tsx";
import { Button, Empty, Loading, PageHead } from "./parts.tsx";
import { askPassword, SignIn } from "./sign-in.tsx";
import { hrefOf, type Route, route } from "./route.ts";
import { isNarrow } from "./theme.ts";
import { alarmTitle, language, t, type TextKey } from "./words.ts";

interface Place {
  readonly name: string;
  readonly title: TextKey;
  readonly page: ComponentType<{ route: Route }>;
  readonly role?: Role;
}

const groups: readonly { readonly title: TextKey; readonly places: readonly Place[] }[] = [
  {
    title: "navWatch",
    places: [
      { name: "overview", title: "overview", page: OverviewPage },
      { name: "alarms", title: "alarms", page: AlarmsPage },
      { name: "diagnosis", title: "diagnosis", page: DiagnosisPage },
    ],
  },
  {
    title: "navTraffic",
    places: [
      { name: "clients", title: "clients", page: ClientsPage },
      { name: "sessions", title: "sessions", page: SessionsPage },
      { name: "subscriptions", title: "subscriptions", page: SubscriptionsPage },
      { name: "topics", title: "topics", page: TopicsPage },
      { name: "retained", title: "retained", page: RetainedPage },
    ],
  },
  {
    title: "navTools",
    places: [
      { name: "try", title: "tryOut", page: WebSocketPage },
      { name: "trace", title: "trace", page: TracePage },
    ],
  },
  {
    title: "navOperate",
    places: [
      { name: "listeners", title: "listeners", page: ListenersPage },
      { name: "access", title: "access", page: AccessPage },
      { name: "plugins", title: "plugins", page: PluginsPage },
      { name: "configuration", title: "configuration", page: ConfigPage, role: "administrator" },
    ],
  },
  {
    title: "navAdminister",
    places: [
      { name: "accounts", title: "accounts", page: AccountsPage, role: "administrator" },
      { name: "audit", title: "audit", page: AuditPage, role: "administrator" },
      { name: "api", title: "httpApi", page: ApiPage },
    ],
  },
];

export function App() {
  const chosen = useCell(language);
  const own = useCell(session);
  useEffect(() => {
    document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  }, [chosen]);
  if (own === undefined) return <Loading />;
  return (
    <>
      {own === null ? <SignIn /> : <Frame />}
      <DialogHost />
      <Notices />
    </>
  );
}

function Frame() {
  const here = useCell(route);
  const [isOpen, setOpen] = useState(false);
  const name = here[0] ?? "overview";
  const place = groups.flatMap(({ places }) => places).find((each) => each.name === name);
  useEffect(() => {
    setOpen(false);
    const heading = document.querySelector<HTMLElement>("main h1");
    if (here.length > 0) heading?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [here.join("/")]);
  useEffect(
    () =>
      alarmNews.follow((alarm) => alarm && notify(alarmWords(alarm), alarm.clearedMs === undefined ? "bad" : "good")),
    [],
  );
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={skip}>
        {t("skip")}
      </a>
      <TopBar isOpen={isOpen} onMenu={() => setOpen(!isOpen)} />
      <Navigation name={name} isOpen={isOpen} />
      <main id="main" tabIndex={-1}>
        <LinkState />
        <WorkersMissing />
        <PasswordWarning />
        <Content place={place} here={here} />
      </main>
    </div>
  );
}

function alarmWords(alarm: NonNullable<typeof alarmNews.value>): string {
  return t(alarm.clearedMs === undefined ? "alarmSet" : "alarmCleared", { title: alarmTitle(alarm) });
}

function skip(event: MouseEvent): void {
  event.preventDefault();
  document.querySelector<HTMLElement>("#main")?.focus();
}

function Content({ place, here }: { place: Place | undefined; here: Route }) {
  if (!place)
    return (
      <>
        <PageHead title={t("notFound")} />
        <Empty title={t("notFoundText")}>
          <a href={hrefOf("overview")}>{t("overview")}</a>
        </Empty>
      </>
    );
  if (place.role !== undefined && !may(place.role))
    return (
      <>
        <PageHead title={t(place.title)} />
        <Empty title={t("roleNeeded", { role: t(place.role) })} />
      </>
    );
  if (place.name === "clients" && here[1] !== undefined) return <ClientPage clientId={here[1]} key={here[1]} />;
  return <place.page route={here} key={place.name} />;
}

function TopBar({ isOpen, onMenu }: { isOpen: boolean; onMenu: () => void }) {
  const node = useCell(latest)?.info.node;
  return (
    <header class="top">
      <button
        type="button"
        class="button quiet menu"
        aria-expanded={isOpen}
        aria-controls="navigation"
        onClick={onMenu}
      >
        {t("menu")}
      </button>
      <a class="brand" href={hrefOf("overview")}>
        <Mark />
        mantou
      </a>
      <span class="node">{node}</span>
      <div class="top-end">
        {!useCell(isNarrow) && (
          <>
            <LanguageChoice />
            <ThemeChoice />
          </>
        )}
        <AccountMenu />
      </div>
    </header>
  );
}

/** Closes when something is chosen, at Escape, and when the focus goes elsewhere. */
function AccountMenu() {
  const { username = "", role = "viewer" } = useCell(session) ?? {};
  const box = useRef<HTMLDetailsElement>(null);
  const close = (): void => box.current?.removeAttribute("open");
  return (
    <details
      class="account"
      ref={box}
      onKeyDown={({ key }) => key === "Escape" && close()}
      onFocusOut={({ relatedTarget }) => !box.current?.contains(relatedTarget as Node | null) && close()}
    >
      <summary>
        {username} <span class="role">{t(role)}</span>
      </summary>
      <div class="account-menu" onClick={close}>
        <Button kind="quiet" onClick={askPassword}>
          {t("changePassword")}
        </Button>
        <Button kind="quiet" onClick={() => signOut()}>
          {t("signOut")}
        </Button>
      </div>
    </details>
  );
}

function Navigation({ name, isOpen }: { name: string; isOpen: boolean }) {
  const alarms = useCell(latest)?.alarms;
  const alarmCount = alarms ? alarms.critical + alarms.error + alarms.warning : 0;
  return (
    <nav id="navigation" class={isOpen ? "navigation open" : "navigation"} aria-label={t("navigation")}>
      {groups.map(({ title, places }) => (
        <div key={title} class="nav-group">
          <h2>{t(title)}</h2>
          <ul>
            {places
              .filter(({ role }) => role === undefined || may(role))
              .map((place) => (
                <li key={place.name}>
                  <a href={hrefOf(place.name)} aria-current={place.name === name ? "page" : undefined}>
                    {t(place.title)}
                    {place.name === "alarms" && alarmCount > 0 && <span class="count">{alarmCount}</span>}
                  </a>
                </li>
              ))}
          </ul>
        </div>
      ))}
      {useCell(isNarrow) && (
        <div class="nav-choices">
          <LanguageChoice />
          <ThemeChoice />
        </div>
      )}
    </nav>
  );
}

function LinkState() {
  const state = useCell(link);
  return <div role="status">{state === "lost" && <p class="banner bad">{t("lost")}</p>}</div>;
}

function WorkersMissing() {
  const missing = useCell(latest)?.info.missingWorkers ?? [];
  const text = t("workersMissing", { workers: missing.join(", ") });
  return <div role="status">{missing.length > 0 && <p class="banner warn">{text}</p>}</div>;
}

function PasswordWarning() {
  if (!useCell(session)?.mustChangePassword) return null;
  return (
    <div class="banner warn">
      <p>
        <strong>{t("defaultPasswordTitle")}</strong> {t("defaultPasswordText")}
      </p>
      <Button kind="primary" onClick={askPassword}>
        {t("changePassword")}
      </Button>
    </div>
  );
}
