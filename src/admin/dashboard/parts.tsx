/** The small parts that all pages are made of. */
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ApiError } from "./api.ts";
import { notify } from "./notices.tsx";
import { named, t } from "./words.ts";

type Children = { readonly children?: ComponentChildren };

export function PageHead({ title, about, children }: Children & { title: string; about?: string | undefined }) {
  useEffect(() => {
    document.title = `${title} · mantou`;
  }, [title]);
  return (
    <header class="page-head">
      <div>
        <h1 tabIndex={-1}>{title}</h1>
        {about !== undefined && <p class="about">{about}</p>}
      </div>
      {children !== undefined && <div class="actions">{children}</div>}
    </header>
  );
}

export function Section({
  title,
  about,
  children,
  actions,
}: Children & {
  title: string;
  about?: string;
  actions?: ComponentChildren;
}) {
  return (
    <section class="section">
      <header class="section-head">
        <h2>{title}</h2>
        {actions !== undefined && <div class="actions">{actions}</div>}
      </header>
      {about !== undefined && <p class="about">{about}</p>}
      {children}
    </section>
  );
}

export interface ButtonProps extends Children {
  readonly onClick: () => unknown;
  readonly kind?: "plain" | "primary" | "danger" | "quiet";
  readonly label?: string;
  readonly isDisabled?: boolean;
  readonly isPressed?: boolean;
}

/** Cannot be pressed again while what it began has not ended. */
export function Button({ onClick, kind = "plain", label, isDisabled = false, isPressed, children }: ButtonProps) {
  const [isBusy, setBusy] = useState(false);
  const press = async (): Promise<void> => {
    if (isBusy) return;
    setBusy(true);
    try {
      await onClick();
    } finally {
      setBusy(false);
    }
  };
  return (
    <button
      type="button"
      class={`button ${kind}`}
      aria-label={label}
      aria-pressed={isPressed}
      aria-busy={isBusy}
      disabled={isDisabled}
      onClick={() => void press()}
    >
      {children}
    </button>
  );
}

export type Tone = "good" | "warn" | "bad" | "calm";

export function Badge({ tone = "calm", children }: Children & { tone?: Tone }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

export function Empty({ title, children }: Children & { title: string }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children !== undefined && <p>{children}</p>}
    </div>
  );
}

export function Loading() {
  return (
    <p class="loading" role="status">
      {t("loading")}
    </p>
  );
}

export function messageOf(error: unknown): string {
  if (!(error instanceof ApiError)) return t("bugHere");
  if (error.code === "unreachable") return t("unreachable");
  const translated = named("error", error.code);
  return translated === error.code ? error.message : translated;
}

export function Failure({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  return (
    <div class="failure" role="alert">
      <p>{messageOf(error)}</p>
      {onRetry && <Button onClick={onRetry}>{t("retry")}</Button>}
    </div>
  );
}

/** Does it, and says how it went. Resolves with whether it went well. */
export async function act(work: Promise<unknown>, doneText: string): Promise<boolean> {
  try {
    await work;
    notify(doneText);
    return true;
  } catch (error) {
    notify(messageOf(error), "bad");
    return false;
  }
}

export interface Loaded<T> {
  readonly value: T | undefined;
  readonly error: unknown;
  reload(): Promise<void>;
}

/** Asks when the component appears and whenever `key` changes. What was there stays to be seen while it is asked for anew. */
export function useLoaded<T>(load: () => Promise<T>, key = ""): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: unknown; key: string }>({ key });
  const reload = async (): Promise<void> => {
    try {
      const value = await load();
      setState({ value, key });
    } catch (error) {
      setState((before) => ({ ...before, error, key }));
    }
  };
  useEffect(() => void reload(), [key]);
  return { value: state.key === key ? state.value : undefined, error: state.error, reload };
}

/** Loading, failed, or what it makes of the value. */
export function Show<T>({ of, children }: { of: Loaded<T>; children: (value: T) => ComponentChildren }) {
  if (of.value === undefined && of.error === undefined) return <Loading />;
  return (
    <>
      {of.error !== undefined && <Failure error={of.error} onRetry={() => void of.reload()} />}
      {of.value !== undefined && children(of.value)}
    </>
  );
}

export function Facts({ rows }: { rows: readonly (readonly [string, ComponentChildren])[] }) {
  return (
    <dl class="facts">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Links between the views of one page. */
export function Tabs({
  label,
  tabs,
}: {
  label: string;
  tabs: readonly { readonly href: string; readonly title: string; readonly isHere: boolean }[];
}) {
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map(({ href, title, isHere }) => (
        <a key={href} href={href} aria-current={isHere ? "page" : undefined}>
          {title}
        </a>
      ))}
    </nav>
  );
}
