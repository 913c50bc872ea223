/** The effective configuration as text: a YAML file that gives the same configuration again, with the origin of each value. */
import { formatBind, type BindAddress } from "./bind-address.ts";
import type { Config, LoadedConfig } from "./config.ts";
import { formatUnit, unitOf } from "#base/unit.ts";

/** Plain data in the form of the file. */
export function toPlainConfig(config: Config): Record<string, unknown> {
  const listeners = config.listeners.map((listener) => ({ ...listener, bind: formatBind(listener.bind) }));
  return { ...config, listeners };
}

export function formatConfigYaml({ config, originOf }: LoadedConfig): string {
  const rows: (readonly [text: string, path?: string])[] = [];
  for (const [section, value] of Object.entries(config)) {
    if (typeof value !== "object" || (Array.isArray(value) && section !== "listeners")) {
      rows.push([`${section}: ${scalar(section, value)}`, section]);
      continue;
    }
    rows.push([`${section}:`]);
    if (section === "listeners") rows.push(...listenerRows(config));
    else
      for (const [key, leaf] of Object.entries(value))
        rows.push([`  ${key}: ${scalar(key, leaf)}`, `${section}.${key}`]);
  }
  const width = Math.max(...rows.map(([text]) => text.length));
  const lines = rows.map(([text, path]) =>
    path === undefined ? text : `${text.padEnd(width)}  # ${originOf(path).where}`,
  );
  return `${lines.join("\n")}\n`;
}

function listenerRows({ listeners }: Config): [string, string][] {
  return listeners.flatMap((listener, index) =>
    Object.entries(listener)
      .filter(([, value]) => value !== undefined)
      .map(([key, value], at): [string, string] => [
        `  ${at === 0 ? "-" : " "} ${key}: ${scalar(key, key === "bind" ? formatBind(value as BindAddress) : value)}`,
        `listeners.${index}.${key}`,
      ]),
  );
}

function scalar(key: string, value: unknown): string {
  if (typeof value === "object") return JSON.stringify(value); // a list; JSON is YAML
  if (typeof value === "string") return Bun.YAML.stringify(value);
  const unit = unitOf(key);
  return typeof value === "number" && unit ? formatUnit(value, unit) : String(value);
}
