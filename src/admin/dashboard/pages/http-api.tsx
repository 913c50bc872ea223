/** The HTTP interface: API keys, and every resource with what it takes and answers, from the broker's own document. */
import { useState } from "preact/hooks";
import type { Role } from "#admin/identity.ts";
import { API, ask, at, may } from "#admin/dashboard/api.ts";
import { askForm, askSure, showText } from "#admin/dashboard/dialogs.tsx";
import { Table } from "#admin/dashboard/list.tsx";
import { act, Button, Empty, PageHead, Section, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { t, time } from "#admin/dashboard/words.ts";
import { roleOptions } from "./accounts.tsx";

interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
}

interface Operation {
  readonly summary?: string;
  readonly tags?: readonly string[];
  readonly parameters?: readonly { name: string; in: string; required?: boolean; schema: Schema }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> }>
  >;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

const JSON_TYPE = "application/json";

export function ApiPage() {
  const [search, setSearch] = useState("");
  const document = useLoaded(() => ask<Document>("GET", "/openapi.json"));
  return (
    <>
      <PageHead title={t("httpApi")} about={t("httpApiAbout")}>
        <a class="button plain" href={`${API}/docs`} target="_blank" rel="noreferrer">
          {t("onePage")}
        </a>
        <a class="button plain" href={`${API}/openapi.json`} download="mantou-openapi.json">
          OpenAPI 3.1
        </a>
      </PageHead>
      {may("administrator") && <Keys />}
      <Section title={t("resources")}>
        <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
          <input
            type="search"
            aria-label={t("searchResources")}
            placeholder={t("searchResources")}
            spellcheck={false}
            onInput={(event) => setSearch(event.currentTarget.value.trim().toLowerCase())}
          />
        </form>
        <Show of={document}>{({ paths }) => <Resources paths={paths} search={search} />}</Show>
      </Section>
    </>
  );
}

function Resources({ paths, search }: { paths: Document["paths"]; search: string }) {
  const rows = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const meant = rows.filter(({ path, method, operation }) =>
    `${method} ${path} ${operation.summary ?? ""}`.toLowerCase().includes(search),
  );
  if (meant.length === 0) return <Empty title={t("noResources")} />;
  return (
    <>
      {[...Map.groupBy(meant, ({ operation }) => operation.tags?.[0] ?? "")].map(([tag, own]) => (
        <section key={tag} class="resources">
          <h3>{tag}</h3>
          {own.map(({ path, method, operation }) => (
            <details key={`${method} ${path}`}>
              <summary>
                <span class={`method ${method}`}>{method.toUpperCase()}</span>
                <code>{path.slice(API.length)}</code>
                <span class="about">{operation.summary}</span>
              </summary>
              <Resource operation={operation} />
            </details>
          ))}
        </section>
      ))}
    </>
  );
}

function Resource({ operation: { parameters = [], requestBody, responses } }: { operation: Operation }) {
  const body = requestBody?.content[JSON_TYPE]?.schema;
  const answer = responses["200"]?.content?.[JSON_TYPE]?.schema;
  return (
    <div class="resource">
      {parameters.length > 0 && (
        <>
          <h4>{t("parameters")}</h4>
          <ul>
            {parameters.map(({ name, required, schema }) => (
              <Shape key={name} name={name} schema={schema} isNeeded={required === true} />
            ))}
          </ul>
        </>
      )}
      {body?.properties && Object.keys(body.properties).length > 0 && (
        <>
          <h4>{t("body")}</h4>
          <Shapes of={body} />
        </>
      )}
      {answer && (
        <>
          <h4>{t("answer")}</h4>
          <Shapes of={answer} />
        </>
      )}
    </div>
  );
}

function Shapes({ of }: { of: Schema }) {
  const shape = of.items ?? of;
  if (!shape.properties) return <p class="mono">{typeOf(of)}</p>;
  return (
    <ul>
      {Object.entries(shape.properties).map(([name, schema]) => (
        <Shape key={name} name={name} schema={schema} isNeeded={shape.required?.includes(name) === true} />
      ))}
    </ul>
  );
}

function Shape({ name, schema, isNeeded }: { name: string; schema: Schema; isNeeded: boolean }) {
  const isDeep = schema.properties !== undefined || schema.items?.properties !== undefined;
  return (
    <li>
      <code>{name}</code> <span class="mono faint">{typeOf(schema)}</span>
      {!isNeeded && <span class="faint"> {t("optional")}</span>}
      {schema.description !== undefined && <span> {schema.description}</span>}
      {isDeep && <Shapes of={schema} />}
    </li>
  );
}

function typeOf({ type, enum: choices, anyOf, items, default: standard }: Schema): string {
  const base = choices?.join(" | ") ?? anyOf?.map(typeOf).join(" | ") ?? [type ?? "any"].flat().join(" | ");
  const words = items ? `${typeOf(items)}[]` : base;
  return standard === undefined ? words : `${words} = ${JSON.stringify(standard)}`;
}

interface Key {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly createdBy: string;
  readonly createdAtSec: number;
  readonly expiresAtSec?: number;
}

function Keys() {
  const keys = useLoaded(() => ask<{ items: Key[] }>("GET", "/keys"));
  const add = (): void =>
    askForm({
      title: t("addKey"),
      text: t("keyText"),
      fields: [
        { name: "name", label: t("name") },
        { name: "role", label: t("role"), type: "select", value: "viewer", options: roleOptions() },
        { name: "expires", label: t("expires"), type: "datetime-local", isOptional: true },
      ],
      action: t("addKey"),
      async run({ name, role, expires = "" }) {
        const expiresAtSec = expires === "" ? undefined : Math.floor(Date.parse(expires) / 1000);
        const { key } = await ask<{ key: string }>("POST", "/keys", { name, role, expiresAtSec });
        await keys.reload();
        showText(
          t("keyMade"),
          <>
            <p>{t("keyMadeText")}</p>
            <pre class="payload" tabIndex={0}>
              {key}
            </pre>
          </>,
        );
      },
    });
  const remove = ({ id, name }: Key): void =>
    askSure(t("deleteKey"), t("deleteKeyText", { name }), t("delete"), async () => {
      if (await act(ask("DELETE", at("keys", id)), t("deleted", { name }))) await keys.reload();
    });
  return (
    <Section title={t("keys")} about={t("keysAbout")} actions={<Button onClick={add}>{t("addKey")}</Button>}>
      <Show of={keys}>
        {({ items }) =>
          items.length === 0 ? (
            <Empty title={t("noKeysYet")} />
          ) : (
            <Table
              label={t("keys")}
              rows={items}
              keyOf={({ id }) => id}
              columns={[
                { title: t("name"), cell: ({ name }) => name, share: 3 },
                { title: t("role"), cell: ({ role }) => t(role) },
                { title: t("createdBy"), cell: ({ createdBy }) => createdBy, isWide: true },
                {
                  title: t("expires"),
                  cell: ({ expiresAtSec }) => (expiresAtSec === undefined ? t("never") : time(expiresAtSec * 1000)),
                  share: 3,
                  isWide: true,
                },
                {
                  title: t("actions"),
                  share: 2,
                  cell: (key) => (
                    <Button kind="quiet" label={t("deleteOne", { name: key.name })} onClick={() => remove(key)}>
                      {t("delete")}
                    </Button>
                  ),
                },
              ]}
            />
          )
        }
      </Show>
    </Section>
  );
}
