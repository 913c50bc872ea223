/**
 * The REST resources: a line for each, from a method and a path to an operation of the broker and the role it needs. Names in
 * braces, the query and (except for GET and DELETE) the JSON body together are the operation's parameters.
 */
import type { operations } from "#broker/control.ts";
import type { Role } from "./identity.ts";

type OperationName = keyof typeof operations;
export type Method = "get" | "post" | "put" | "patch" | "delete";

export interface Route {
  readonly method: Method;
  /** Below `/api/v1`. */
  readonly path: string;
  readonly operation: OperationName;
  readonly role: Role;
}

function route(method: Method, path: string, operation: OperationName, role: Role): Route {
  return { method, path, operation, role };
}

export const routes: readonly Route[] = [
  route("get", "/overview", "overview.read", "viewer"),
  route("get", "/broker", "broker.info", "viewer"),
  route("get", "/stats", "stats.read", "viewer"),
  route("get", "/metrics", "metrics.read", "viewer"),
  route("get", "/alarms", "alarms.list", "viewer"),
  route("get", "/store", "store.show", "viewer"),
  route("post", "/store/backup", "store.backUp", "administrator"),
  route("get", "/health", "health.read", "viewer"),

  route("get", "/clients", "clients.list", "viewer"),
  route("post", "/clients/kick", "clients.kickWhere", "operator"),
  route("get", "/clients/{clientId}", "clients.show", "viewer"),
  route("delete", "/clients/{clientId}", "clients.kick", "operator"),
  route("get", "/clients/{clientId}/subscriptions", "subscriptions.of", "viewer"),
  route("post", "/clients/{clientId}/subscribe", "clients.subscribe", "operator"),
  route("post", "/clients/{clientId}/unsubscribe", "clients.unsubscribe", "operator"),

  route("get", "/sessions", "sessions.list", "viewer"),
  route("get", "/sessions/{clientId}", "sessions.show", "viewer"),
  route("delete", "/sessions/{clientId}", "sessions.end", "operator"),
  route("get", "/top/clients", "clients.top", "viewer"),
  route("get", "/top/sessions", "sessions.top", "viewer"),
  route("get", "/subscriptions", "subscriptions.list", "viewer"),
  route("get", "/topics", "topics.list", "viewer"),

  route("get", "/retained", "retained.list", "viewer"),
  route("get", "/retained/message", "retained.read", "viewer"),
  route("delete", "/retained/message", "retained.delete", "operator"),
  route("post", "/publish", "publish", "operator"),
  route("post", "/publish/bulk", "publish.bulk", "operator"),

  route("get", "/listeners", "listeners.list", "viewer"),
  route("post", "/listeners/reload", "listeners.reload", "operator"),
  route("post", "/listeners/{name}/start", "listeners.start", "operator"),
  route("post", "/listeners/{name}/stop", "listeners.stop", "operator"),

  route("get", "/access", "access.show", "viewer"),
  route("get", "/bans", "bans.list", "viewer"),
  route("put", "/bans", "bans.put", "operator"),
  route("delete", "/bans", "bans.delete", "operator"),
  route("get", "/users", "users.list", "administrator"),
  route("put", "/users/{username}", "users.put", "administrator"),
  route("patch", "/users/{username}", "users.setSuperuser", "administrator"),
  route("delete", "/users/{username}", "users.delete", "administrator"),
  route("get", "/client-ids", "clientIds.list", "administrator"),
  route("put", "/client-ids/{clientId}", "clientIds.put", "administrator"),
  route("delete", "/client-ids/{clientId}", "clientIds.delete", "administrator"),

  route("get", "/rules", "rules.read", "administrator"),
  route("put", "/rules", "rules.put", "administrator"),

  route("get", "/slow-subscribers", "slow.list", "viewer"),
  route("get", "/traces", "traces.list", "viewer"),
  route("post", "/traces", "traces.start", "operator"),
  route("post", "/traces/{name}/read", "traces.read", "operator"),
  route("delete", "/traces/{name}", "traces.stop", "operator"),
  route("get", "/recon/memory", "recon.memory", "operator"),
  route("post", "/recon/heap-snapshot", "recon.heapSnapshot", "administrator"),
  route("post", "/recon/cpu-profile", "recon.cpuProfile", "administrator"),

  route("get", "/plugins", "plugins.list", "viewer"),
  route("post", "/plugins/{name}/load", "plugins.load", "administrator"),
  route("post", "/plugins/{name}/unload", "plugins.unload", "administrator"),
  route("post", "/plugins/{name}/reload", "plugins.reload", "administrator"),
  route("get", "/commands", "commands.list", "administrator"),
  route("post", "/commands/{name}", "commands.run", "administrator"),

  route("get", "/config", "config.show", "administrator"),
  route("post", "/config/check", "config.check", "administrator"),
  route("post", "/config/reload", "config.reload", "administrator"),
  route("patch", "/config", "config.set", "administrator"),
];
