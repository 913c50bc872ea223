/**
 * Topics that become others, as emqttd's rewrite module had them: of the rules the first whose filter fits is taken, of its patterns the
 * first that is found; `$1` to `$9` in the new topic are the pattern's groups.
 *
 *   PUBLISH t ─► access judges t ─► rewritten ─► routed          SUBSCRIBE, UNSUBSCRIBE the same; a share keeps its prefix
 *
 * Patterns run in RE2's automaton, in time linear to the topic, whatever their author and the client wrote: a backtracking engine
 * could be held for hours by one topic. (RE2 has no look-around and no back-references; a pattern that needs them is none to the
 * options.) What a topic became is remembered, so that one in use costs a look-up.
 */
import { RE2JS } from "re2js";
import { isTopicFilter, isTopicName, type PluginApi, topicMatcher, type z } from "#plugins/plugin.ts";
import type { rewriteOptions } from "./options.ts";

type Rules = z.output<typeof rewriteOptions>["rules"];

interface Rule {
  fits(topic: string): boolean;
  readonly steps: readonly { readonly pattern: RE2JS; readonly to: string }[];
}

const REMEMBERED_MAX = 4096;
const SHARE = /^(?:\$share\/[^/]+\/|\$queue\/)/;

export function startRewrite(api: PluginApi<z.output<typeof rewriteOptions>>): void {
  const rewriter = new Rewriter(api.config.rules);
  const rewritten = api.counter("topics_total", "Topics and filters that became others");
  const wrong = api.counter("invalid_total", "Rewritten topics that were none, so that the topic stayed");
  const change = (topic: string, isValid: (text: string) => boolean): string => {
    const next = rewriter.rewrite(topic);
    if (next === topic) return topic;
    (isValid(next) ? rewritten : wrong).add();
    return isValid(next) ? next : topic;
  };
  const changeFilter = (filter: string): string => {
    const [share = ""] = SHARE.exec(filter) ?? [];
    return share + change(filter.slice(share.length), isTopicFilter);
  };
  api.on("message.publish", (message) => {
    const { topic } = message;
    const next = change(topic, isTopicName);
    if (next !== topic) message.topic = next;
  });
  api.on("client.subscribe", ({ wishes }) => {
    for (const wish of wishes) wish.filter = changeFilter(wish.filter);
  });
  api.on("client.unsubscribe", ({ filters }) => {
    for (const [i, filter] of filters.entries()) filters[i] = changeFilter(filter);
  });
}

export class Rewriter {
  private readonly rules: readonly Rule[];
  private readonly remembered = new Map<string, string>();

  constructor(rules: Rules) {
    this.rules = rules.map(({ filter, steps }) => ({
      fits: topicMatcher(filter),
      steps: steps.map(({ pattern, to }) => ({ pattern: RE2JS.compile(pattern), to })),
    }));
  }

  /** The topic, or what it becomes. A filter is matched as if it were a topic. */
  rewrite(topic: string): string {
    const known = this.remembered.get(topic);
    if (known !== undefined) return known;
    const next = this.compute(topic);
    if (this.remembered.size >= REMEMBERED_MAX) this.remembered.delete(this.remembered.keys().next().value!);
    this.remembered.set(topic, next);
    return next;
  }

  private compute(topic: string): string {
    const rule = this.rules.find(({ fits }) => fits(topic));
    for (const { pattern, to } of rule?.steps ?? []) {
      const match = pattern.matcher(topic);
      if (!match.find()) continue;
      return to.replaceAll(/\$(\d)/g, (whole, digit: string) =>
        Number(digit) <= match.groupCount() ? (match.group(Number(digit)) ?? "") : whole,
      );
    }
    return topic;
  }
}
