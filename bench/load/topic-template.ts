/** Topics and client ids with places to fill in: `%i` client number, `%c` client id, `%u` user name. */

export interface TemplateValues {
  readonly number: number;
  readonly clientId: string;
  readonly username: string;
}

/** Any other `%` stays as it is. */
export function expand(template: string, values: TemplateValues): string {
  return template.replace(/%[icu]/g, (place) =>
    place === "%i" ? String(values.number) : place === "%c" ? values.clientId : values.username,
  );
}

/** A filter that matches all that the template can become: everything from the first level that has a place in it. */
export function filterOver(template: string): string {
  const levels = template.split("/");
  const first = levels.findIndex((level) => /%[icu]/.test(level));
  return first < 0 ? template : [...levels.slice(0, first), "#"].join("/");
}

/** The first thing that is wrong with a topic name or a filter, or undefined. */
export function topicFault(text: string, isFilter: boolean): string | undefined {
  if (text === "") return "is empty";
  if (Buffer.byteLength(text) > 65_535) return "is longer than 65,535 bytes";
  if (text.includes("\0")) return "has a null character";
  const levels = text.split("/");
  if (!isFilter) return /[+#]/.test(text) ? "has a wildcard, and messages are published to it" : undefined;
  if (levels.some((level) => level !== "+" && level.includes("+"))) return "has a + that is not a level of its own";
  if (levels.some((level, i) => level.includes("#") && (level !== "#" || i < levels.length - 1)))
    return "has a # that is not the last level";
  return undefined;
}
