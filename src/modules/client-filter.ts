/** Filters and topics with variables for the client: `$c`, `%c` its id, `$u`, `%u` its user name. */
import { type ClientInfo, isTopicFilter } from "#plugins/plugin.ts";

/**
 * `$c` and `$u` stand for whole levels, as in emqttd's modules, `%c` and `%u` anywhere, as in its plugins. Undefined where the client has
 * no user name, or where its id or name would add wildcards: it must not be given more than was meant.
 */
export function filterFor(
  filter: string,
  { clientId, username }: Pick<ClientInfo, "clientId" | "username">,
): string | undefined {
  let isFit = true;
  const fill = (value: string | undefined): string => {
    if (value === undefined || value === "" || /[+#\0]/.test(value)) isFit = false;
    return value ?? "";
  };
  const filled = filter
    .split("/")
    .map((level) => (level === "$c" ? fill(clientId) : level === "$u" ? fill(username) : percent(level)))
    .join("/");
  return isFit && isTopicFilter(filled) ? filled : undefined;

  function percent(level: string): string {
    return level.replaceAll(/%[cu]/g, (variable) => fill(variable === "%c" ? clientId : username));
  }
}
