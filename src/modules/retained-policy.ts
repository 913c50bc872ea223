/** Which retained messages are kept, and how long, by topic. What is not kept is delivered as any other message. */
import { type PluginApi, topicMatcher, type z } from "#plugins/plugin.ts";
import type { retainedPolicyOptions } from "./options.ts";

export function startRetainedPolicy(api: PluginApi<z.output<typeof retainedPolicyOptions>>): void {
  const rules = api.config.rules.map((rule) => ({ ...rule, fits: topicMatcher(rule.filter) }));
  api.on("message.retain", (attempt) => {
    const rule = rules.find(({ fits }) => fits(attempt.topic));
    if (!rule) return true;
    if (rule.expirySec > 0) attempt.expirySec = rule.expirySec;
    return rule.isKept && attempt.payloadBytes <= rule.payloadBytesMax;
  });
}
