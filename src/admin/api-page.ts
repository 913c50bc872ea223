/** The OpenAPI document as a page for people: no script, one file. */

interface Operation {
  readonly summary?: string;
  readonly description?: string;
  readonly tags?: readonly string[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> }>
  >;
}

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly schema: Schema;
  readonly required?: boolean;
}

interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly additionalProperties?: Schema | boolean;
}

const STYLE = `
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark; }
  summary { cursor: pointer; padding: .3rem 0; } code { font-size: .95em; } h2 { margin-top: 2rem; text-transform: capitalize; }
  .method { display: inline-block; width: 5rem; font-weight: 600; text-transform: uppercase; }
  details > div { padding: 0 0 1rem 5rem; } ul { padding-left: 1.2rem; } td, th { text-align: left; padding-right: 1rem; vertical-align: top; }
`;

export function apiPage(document: Record<string, unknown>): string {
  const paths = document["paths"] as Record<string, Record<string, Operation>>;
  const all = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  );
  const sections = Map.groupBy(all, ({ operation }) => operation.tags?.[0] ?? "");
  const body = [...sections].map(
    ([tag, rows]) =>
      `<h2>${escape(tag)}</h2>${rows.map(({ path, method, operation }) => entry(path, method, operation)).join("")}`,
  );
  const intro = `<p>The same as <a href="openapi.json">OpenAPI 3.1</a>. Sign in for a session cookie, or send an API key as
    <code>Authorization: Bearer mk_…</code>. What changes something repeats the session's token in <code>X-CSRF-Token</code>.</p>`;
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
    <title>mantou REST</title><style>${STYLE}</style><h1>mantou REST</h1>${intro}${body.join("")}</html>`;
}

function entry(
  path: string,
  method: string,
  { summary = "", description = "", parameters = [], ...rest }: Operation,
): string {
  const body = rest.requestBody?.content["application/json"]?.schema;
  const answer = rest.responses["200"]?.content?.["application/json"]?.schema;
  const rows = parameters.map((parameter) => {
    const { name, schema, required } = parameter;
    return `<tr><td><code>${escape(name)}</code> ${parameter.in}${required ? ", required" : ""}</td><td>${schemaOf(schema)}</td></tr>`;
  });
  return `<details><summary><span class="method">${method}</span><code>${escape(path)}</code> ${escape(summary)}</summary><div>
    <p>${escape(description)}</p>${rows.length > 0 ? `<table>${rows.join("")}</table>` : ""}
    ${body?.properties && Object.keys(body.properties).length > 0 ? `<p>Body:</p>${schemaOf(body)}` : ""}
    ${answer ? `<p>Answer:</p>${schemaOf(answer)}` : ""}</div></details>`;
}

function schemaOf(schema: Schema): string {
  const words = [typeOf(schema), schema.description ?? ""].filter(Boolean).map(escape).join(": ");
  if (schema.properties) {
    const rows = Object.entries(schema.properties).map(([name, child]) => {
      const isNeeded = schema.required?.includes(name) ? "" : " (may be absent)";
      return `<li><code>${escape(name)}</code>${isNeeded} ${schemaOf(child)}</li>`;
    });
    return `${words}<ul>${rows.join("")}</ul>`;
  }
  return schema.items ? `${words} of ${schemaOf(schema.items)}` : words;
}

function typeOf({ type, enum: choices, anyOf, default: value, minimum, maximum }: Schema): string {
  const base = choices
    ? choices.join(" | ")
    : anyOf
      ? anyOf.map(typeOf).join(" or ")
      : [type ?? "any"].flat().join(" | ");
  const range = minimum !== undefined || maximum !== undefined ? ` ${minimum ?? ""} – ${maximum ?? ""}` : "";
  return `${base}${range}${value === undefined ? "" : `, default ${JSON.stringify(value)}`}`;
}

function escape(text: string): string {
  return Bun.escapeHTML(text);
}
