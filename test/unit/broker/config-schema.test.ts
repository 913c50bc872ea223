import { expect, test } from "bun:test";
import { configJsonSchema, configSchema } from "#broker/config-schema.ts";
import { suggest } from "#broker/config-text.ts";
import { limitTable } from "#core/limits.ts";

interface Node {
  readonly properties?: Record<string, Node>;
  readonly additionalProperties?: boolean;
  readonly default?: unknown;
  readonly description?: string;
  readonly anyOf?: readonly { readonly type: string; readonly pattern?: string; readonly minimum?: number }[];
}

const schema = configJsonSchema() as Node;

test("JSON Schema knows every limit with its default and what happens at it", () => {
  for (const [section, limits] of Object.entries(limitTable)) {
    const properties = schema.properties?.[section]?.properties ?? {};
    expect(Object.keys(properties)).toEqual(Object.keys(limits));
    for (const [key, limit] of Object.entries(limits)) {
      expect(properties[key]?.default).toBe(limit.default);
      expect(properties[key]?.description).toBe(limit.at);
    }
  }
});

test("JSON Schema refuses unknown keys and allows units where they are read", () => {
  expect(schema.additionalProperties).toBe(false);
  for (const section of Object.values(schema.properties ?? {}))
    if (section.properties) expect(section.additionalProperties).toBe(false);
  const [number, text] = schema.properties?.["mqtt"]?.properties?.["packetBytesMax"]?.anyOf ?? [];
  expect(number).toMatchObject({ type: "integer", minimum: 128, maximum: 268_435_460 });
  expect("1MiB").toMatch(new RegExp(text?.pattern ?? "^$"));
  expect("1MB").not.toMatch(new RegExp(text?.pattern ?? "^$"));
  expect(schema.properties?.["mqtt"]?.properties?.["receiveMax"]?.anyOf).toBeUndefined();
});

test("the schema's own defaults are a valid configuration", () => {
  expect(configSchema.parse({}).listeners).toHaveLength(2);
});

test.each([
  ["sesion", "session"],
  ["SESSION", "session"],
  ["retaned", "retained"],
  ["lgo", "log"],
  ["listener", "listeners"],
  ["dashboards", undefined],
  ["x", undefined],
  ["", undefined],
])("%j may mean %p", (word, meant) => {
  expect(suggest(word, Object.keys(configSchema.shape))).toBe(meant as string);
});
