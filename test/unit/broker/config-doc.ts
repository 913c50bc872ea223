/**
 * The parts of the documentation that are made from the configuration's schema: the tables of `docs/configuration.md`
 * and the whole of `docs/mantou.example.yaml`. `bun test/unit/broker/config-doc.ts` writes them; the test beside this
 * file fails when they are not what the schema says.
 */
import { configJsonSchema } from "#broker/config-schema.ts";
import { formatUnit, unitOf } from "#base/unit.ts";

interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly items?: Node;
  readonly enum?: readonly string[];
  readonly const?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly anyOf?: readonly Node[];
}

export const DOC_FILE = "docs/configuration.md";
export const EXAMPLE_FILE = "docs/mantou.example.yaml";
const BEGIN = "<!-- made from the schema: begin -->\n";
const END = "<!-- made from the schema: end -->\n";
const EXAMPLE_HEAD = `# Every key of mantou's configuration with its default. Copy what you want to change to mantou.yaml.
# Made from the schema; docs/configuration.md explains it.
`;

const sections = (): [string, Node][] => Object.entries((configJsonSchema() as Node).properties ?? {});

/** A section whose keys are sections themselves stands for these. */
function flat([name, node]: [string, Node]): [string, Node][] {
  const inner = Object.entries(node.properties ?? {});
  return inner.length > 0 && inner.every(([, each]) => each.properties)
    ? inner.map(([key, each]) => [`${name}.${key}`, each])
    : [[name, node]];
}

export function replaceTables(page: string): string {
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  if (begin === -1 || end < begin) throw new Error(`${DOC_FILE} has lost its marks`);
  return `${page.slice(0, begin + BEGIN.length)}\n${sections().flatMap(flat).map(table).join("\n")}\n${page.slice(end)}`;
}

export function exampleYaml(): string {
  const blocks = sections().map(([name, node]) => {
    if (node.items) return exampleList(name, node);
    return node.properties
      ? exampleSection(name, node)
      : `# ${node.description}\n${name}: ${scalar(name, node.default)}\n`;
  });
  return [EXAMPLE_HEAD, ...blocks].join("\n");
}

function table([section, node]: [string, Node]): string {
  const isLeaf = !node.items && !node.properties;
  const [title, leaves] = isLeaf
    ? [section, { [section]: node }]
    : node.items
      ? [`${section} (a list)`, node.items.properties]
      : [section, node.properties];
  const rows = Object.entries(leaves ?? {}).map(([key, leaf]) => {
    const cells = [`\`${key}\``, showDefault(key, leaf), showAllowed(key, leaf), leaf.description ?? ""];
    return cells.map((cell) => cell.replaceAll("|", "\\|"));
  });
  rows.unshift(["key", "default", "allowed", "what it does, or what happens at the limit"]);
  // Aligned as `bun fmt` does, so that the two do not undo each other's work.
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  rows.splice(
    1,
    0,
    widths.map((width) => "-".repeat(width)),
  );
  const lines = rows.map((row) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |\n`);
  return `### ${title}\n\n${lines.join("")}`;
}

function showDefault(key: string, leaf: Node): string {
  if (leaf.default === undefined) return "";
  return leaf.default === "" ? "empty" : `\`${scalar(key, leaf.default)}\``;
}

function showAllowed(key: string, leaf: Node): string {
  const { minimum, maximum, type, const: only, enum: choices } = leaf.anyOf?.[0] ?? leaf;
  if (choices ?? only) return (choices ?? [only]).map((choice) => `\`${choice}\``).join(", ");
  if (type === "array") return "a list";
  if (type === "object") return "a mapping";
  if (type === "boolean") return "`true`, `false`";
  if (type === "integer") {
    const unit = unitOf(key);
    return [minimum ?? 0, maximum ?? 0].map((value) => (unit ? formatUnit(value, unit) : value)).join(" – ");
  }
  return key === "bind" ? "`HOST:PORT`, `[IPv6]:PORT`" : "text";
}

function exampleSection(name: string, { properties = {} }: Node): string {
  const inner = Object.entries(properties);
  if (inner.length > 0 && inner.every(([, each]) => each.properties)) {
    const blocks = inner.map(([key, each]) => exampleSection(key, each));
    return `${name}:\n${blocks.join("").replaceAll(/^/gm, "  ").trimEnd()}\n`;
  }
  const rows = Object.entries(properties).map(
    ([key, leaf]) => `  # ${leaf.description ?? ""}\n  ${key}: ${scalar(key, leaf.default)}\n`,
  );
  return `${name}:\n${rows.join("")}`;
}

function exampleList(name: string, node: Node): string {
  const elements = node.default as Record<string, unknown>[];
  const known = Object.entries(node.items?.properties ?? {}).map(
    ([key, { description = "" }]) => `  # ${key}: ${description}\n`,
  );
  if (elements.length === 0) return `${known.join("").replaceAll("  # ", "# ")}${name}: []\n`;
  const rows = elements.map((element) =>
    Object.entries(element)
      .map(([key, value], at) => `  ${at === 0 ? "-" : " "} ${key}: ${scalar(key, value)}\n`)
      .join(""),
  );
  return `${name}:\n${known.join("")}${rows.join("")}`;
}

function scalar(key: string, value: unknown): string {
  if (typeof value === "string") return Bun.YAML.stringify(value);
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  const unit = unitOf(key);
  return typeof value === "number" && unit ? formatUnit(value, unit) : String(value);
}

/** An element of a list, on one line. */
function flow(element: unknown): string {
  const entries = Object.entries(element as object).map(([key, value]) => `${key}: ${scalar(key, value)}`);
  return `{ ${entries.join(", ")} }`;
}

if (import.meta.main) {
  await Bun.write(DOC_FILE, replaceTables(await Bun.file(DOC_FILE).text()));
  await Bun.write(EXAMPLE_FILE, exampleYaml());
}
