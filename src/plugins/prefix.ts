/** What listeners say of the beginnings of topics and filters: levels of their own, which say what is to be done and are no part of either. */
import { MantouError } from "#base/error.ts";
import type { TopicPrefix } from "#core/hooks.ts";
import type { HookName, LaterHookName } from "./hook-name.ts";

/** Of `WaitOptions.below`. Throws MantouError `plugin_invalid`. */
export function prefixOf(name: LaterHookName, below: string): TopicPrefix {
  const levels = below.split("/");
  const [first, ...others] = levels;
  if (name !== "message.publish" || first === "" || /[+#]/.test(first) || others.some((level) => level !== "+"))
    throw wrong("below", below, name, "a word and levels + at message.publish, such as $delayed/+");
  return { first: Buffer.from(`${first}/`), levels: levels.length };
}

/** Of `HookOptions.prefix`. Throws MantouError `plugin_invalid`. */
export function checkPrefix(name: HookName, prefix: string): void {
  if (name !== "client.subscribe" || !/^\$[^/+#]+\/$/.test(prefix))
    throw wrong("prefix", prefix, name, "$WORD/ at client.subscribe, such as $exclusive/");
}

function wrong(key: string, found: string, name: string, allowed: string): MantouError {
  return new MantouError("plugin_invalid", `${key}: found ${found} at ${name}, allowed: ${allowed}`);
}
