/** Topics and filters as texts, for plugins: what is well-formed, and what matches. */
import { limitTable } from "#core/limits.ts";
import { isFilterText, isTopicName as isName } from "#core/topic.ts";

const LIMITS = { topicBytesMax: limitTable.mqtt.topicBytesMax.max, topicLevelsMax: limitTable.mqtt.topicLevelsMax.max };

/** With the prefix of a share or without. */
export function isTopicFilter(text: string): boolean {
  return isFilterText(text, LIMITS);
}

export function isTopicName(text: string): boolean {
  const bytes = Buffer.from(text);
  return isName(bytes, 0, bytes.length, LIMITS);
}

/** Compiles a filter (without the prefix of a share) into a test for topic names; `$…` is not matched by a leading wildcard. */
export function topicMatcher(filter: string): (topic: string) => boolean {
  if (!/[+#]/.test(filter)) return (topic) => topic === filter;
  if (filter === "#") return (topic) => !topic.startsWith("$");
  const levels = filter.split("/");
  const isOpen = levels.at(-1) === "#";
  if (isOpen) levels.pop();
  const isWild = levels[0] === "+";
  return (topic) => {
    if (isWild && topic.startsWith("$")) return false;
    const found = topic.split("/");
    if (found.length < levels.length || (!isOpen && found.length > levels.length)) return false;
    return levels.every((level, i) => level === "+" || level === found[i]);
  };
}
