/**
 * Lists that may have a million rows: the broker gives them page by page, and only the rows in sight are in the document.
 *
 *   scrolled near the end ─► next page, by the cursor of the one before
 *   rows in sight ─► <tr>; what is above and below is two empty rows of the right height
 *
 * All rows are equally high. On narrow screens columns marked `isWide` are left out, or the table is scrolled sideways.
 */
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Page } from "./answers.ts";
import { ask } from "./api.ts";
import { useCell } from "./cell.ts";
import { Button, Empty, Failure } from "./parts.tsx";
import { isNarrow } from "./theme.ts";
import { number, t } from "./words.ts";

const ROW_PIXELS = 38;
const AHEAD_COUNT = 20;
const PAGE_COUNT = 100;
/** A filter that finds little answers empty pages with a cursor: so many in a row are asked for. */
const EMPTY_PAGES_MAX = 20;

export interface Column<T> {
  readonly title: string;
  readonly cell: (row: T) => ComponentChildren;
  readonly isNumber?: boolean;
  /** Left out on narrow screens. */
  readonly isWide?: boolean;
  /** Of the table's width, against the others; 2 by default. */
  readonly share?: number;
}

export interface Rows<T> {
  readonly rows: readonly T[];
  readonly isLoading: boolean;
  readonly error: unknown;
  readonly hasMore: boolean;
  more(): Promise<void>;
  reload(): Promise<void>;
}

interface State<T> {
  readonly rows: readonly T[];
  readonly cursor: string | undefined;
  readonly isLoading: boolean;
  readonly isBegun: boolean;
  readonly error: unknown;
}

const fresh = { rows: [], cursor: undefined, isLoading: true, isBegun: false, error: undefined };

/** A list by cursor; it begins anew when `key` changes. */
export function useRows<T>(
  load: (page: { cursor: string | undefined; limit: number }) => Promise<Page<T>>,
  key: string,
): Rows<T> {
  const [state, setState] = useState<State<T>>(fresh);
  const run = useRef(0);
  /** Of the latest drawing: a dialog may reload the list long after it was opened. */
  const latest = useRef(load);
  latest.current = load;
  const fetchFrom = async (before: readonly T[], from: string | undefined): Promise<void> => {
    const own = ++run.current;
    setState({ rows: before, cursor: from, isLoading: true, isBegun: before.length > 0, error: undefined });
    try {
      let page = await latest.current({ cursor: from, limit: PAGE_COUNT });
      for (let i = 0; i < EMPTY_PAGES_MAX && page.items.length === 0 && page.cursor !== undefined; i++) {
        if (own !== run.current) return;
        page = await latest.current({ cursor: page.cursor, limit: PAGE_COUNT });
      }
      if (own !== run.current) return;
      setState({
        rows: [...before, ...page.items],
        cursor: page.cursor,
        isLoading: false,
        isBegun: true,
        error: undefined,
      });
    } catch (error) {
      if (own === run.current) setState((now) => ({ ...now, isLoading: false, error }));
    }
  };
  useEffect(() => {
    void fetchFrom([], undefined);
    return () => void run.current++;
  }, [key]);
  return {
    ...state,
    hasMore: state.cursor !== undefined,
    more: () => (state.isLoading ? Promise.resolve() : fetchFrom(state.rows, state.cursor)),
    reload: () => fetchFrom([], undefined),
  };
}

export interface TableProps<T> {
  readonly label: string;
  readonly columns: readonly Column<T>[];
  readonly rows: readonly T[];
  readonly keyOf: (row: T) => string;
  readonly hasMore?: boolean;
  readonly onNearEnd?: () => void;
  /** Without any of its columns a row says nothing: on narrow screens it is scrolled sideways. */
  readonly isSideways?: boolean;
}

export function Table<T>(props: TableProps<T>) {
  const { label, columns: all, rows, keyOf, hasMore = false, onNearEnd, isSideways = false } = props;
  const isTight = useCell(isNarrow);
  const columns = isTight ? all.filter(({ isWide }) => !isWide) : all;
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const height = box.current?.clientHeight ?? 800;
  const first = Math.max(0, Math.floor(top / ROW_PIXELS) - AHEAD_COUNT);
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW_PIXELS) + AHEAD_COUNT);
  const isNearEnd = hasMore && last >= rows.length;
  const shares = columns.reduce((sum, { share = 2 }) => sum + share, 0);
  useEffect(() => {
    if (isNearEnd && rows.length > 0 && top > 0) onNearEnd?.();
  }, [isNearEnd, rows.length, top > 0]);
  return (
    <div
      class={isSideways ? "table-box sideways" : "table-box"}
      ref={box}
      tabIndex={0}
      role="region"
      aria-label={label}
      onScroll={() => setTop(box.current!.scrollTop)}
    >
      <table aria-rowcount={hasMore ? -1 : rows.length + 1}>
        <colgroup>
          {columns.map(({ title, share = 2 }) => (
            <col key={title} style={{ width: `${(100 * share) / shares}%` }} />
          ))}
        </colgroup>
        <thead>
          <tr>
            {columns.map(({ title, isNumber }) => (
              <th key={title} scope="col" class={isNumber ? "number" : ""}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          <Gap rows={first} columns={columns.length} />
          {rows.slice(first, last).map((row, i) => (
            <tr key={keyOf(row)} aria-rowindex={first + i + 2}>
              {columns.map(({ title, cell, isNumber }) => (
                <td key={title} class={isNumber ? "number" : ""}>
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
          <Gap rows={rows.length - last} columns={columns.length} />
        </tbody>
      </table>
    </div>
  );
}

function Gap({ rows, columns }: { rows: number; columns: number }) {
  if (rows <= 0) return null;
  return (
    <tr aria-hidden="true">
      <td colSpan={columns} class="gap" style={{ height: `${rows * ROW_PIXELS}px` }} />
    </tr>
  );
}

/** A table with its states: loading, nothing there, failed, more to come. */
export function List<T>({
  of,
  empty,
  ...table
}: Omit<TableProps<T>, "rows" | "hasMore" | "onNearEnd"> & {
  of: Rows<T>;
  empty: { readonly title: string; readonly text?: string };
}) {
  const { rows, isLoading, error, hasMore } = of;
  const isEmpty = rows.length === 0 && !isLoading && error === undefined;
  return (
    <div aria-busy={isLoading}>
      {rows.length > 0 && <Table {...table} rows={rows} hasMore={hasMore} onNearEnd={() => void of.more()} />}
      {isEmpty && !hasMore && <Empty title={empty.title}>{empty.text}</Empty>}
      {error !== undefined && (
        <Failure error={error} onRetry={() => void (rows.length > 0 ? of.more() : of.reload())} />
      )}
      <div class="list-foot">
        <span role="status">
          {isLoading
            ? t("loading")
            : rows.length > 0
              ? t(hasMore ? "rowsSoFar" : "rowsAll", { count: number(rows.length) })
              : ""}
        </span>
        {hasMore && !isLoading && (
          <Button kind="quiet" onClick={() => of.more()}>
            {t(rows.length > 0 ? "more" : "searchOn")}
          </Button>
        )}
      </div>
    </div>
  );
}

/** A list as it comes, or with `by` the most of something: those are few, and all there is. */
export async function askSorted<T>(
  kind: "clients" | "sessions",
  { by = "", ...filters }: Readonly<Record<string, string>>,
  page: { cursor: string | undefined; limit: number },
): Promise<Page<T>> {
  if (by === "") return ask<Page<T>>("GET", `/${kind}`, { ...filters, ...page });
  return ask<Page<T>>("GET", `/top/${kind}`, { ...filters, by });
}

/** What clients and sessions can be sorted by, as REST names it, and its words. */
const sortKeys = {
  queuedCount: "queued",
  queuedBytes: "queuedBytes",
  unsentBytes: "unsent",
  inflightCount: "inflight",
  droppedCount: "dropped",
  subscriptionCount: "subscriptions",
  connectedAtSec: "newest",
  createdAtSec: "newest",
} as const;

/** Orders to choose from. */
export function sortField(...keys: readonly (keyof typeof sortKeys)[]): FilterField {
  const options = keys.map((key) => [key, t("mostOf", { what: t(sortKeys[key]) })] as const);
  return { name: "by", label: t("unsorted"), options };
}

export interface FilterField {
  readonly name: string;
  readonly label: string;
  readonly options?: readonly (readonly [string, string])[];
}

const TYPING_MS = 300;

/** Filters of a list; what is typed counts once the typing rests. */
export function useFilters(fields: readonly FilterField[]) {
  const [values, setValues] = useState<Readonly<Record<string, string>>>({});
  const entered = useRef<Record<string, string>>({});
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  const change = (name: string, value: string, delayMs: number): void => {
    entered.current = { ...entered.current, [name]: value.trim() };
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setValues(entered.current), delayMs);
  };
  const bar = (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      {fields.map(({ name, label, options }) =>
        options ? (
          <select key={name} aria-label={label} onChange={(event) => change(name, event.currentTarget.value, 0)}>
            <option value="">{label}</option>
            {options.map(([value, words]) => (
              <option key={value} value={value}>
                {words}
              </option>
            ))}
          </select>
        ) : (
          <input
            key={name}
            type="search"
            aria-label={label}
            placeholder={label}
            spellcheck={false}
            onInput={(event) => change(name, event.currentTarget.value, TYPING_MS)}
          />
        ),
      )}
    </form>
  );
  return { values, bar, key: JSON.stringify(values) };
}
