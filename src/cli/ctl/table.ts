/** All commands of `mantou ctl`, in the order in which they are shown. */
import { alarms, bridges, broker, cluster, listeners, log, mnesia, slow, status, vm } from "./broker.ts";
import { clients, routes, sessions, subscriptions, topics } from "./clients.ts";
import type { CtlCommand } from "./ctl.ts";
import { keys, rules } from "./grants.ts";
import { admins, bans, plugins, reload, users } from "./manage.ts";
import { recon, trace } from "./trace.ts";

export const ctlCommands: readonly CtlCommand[] = [
  status,
  broker,
  cluster,
  clients,
  sessions,
  routes,
  topics,
  subscriptions,
  users,
  rules,
  bans,
  admins,
  keys,
  plugins,
  reload,
  bridges,
  listeners,
  vm,
  mnesia,
  trace,
  recon,
  alarms,
  slow,
  log,
];
