/** The broker, in one process or several, and beside it where operators reach it: what `mantou start` runs. */
import { startAdmin } from "#admin/server.ts";
import { startBroker } from "#broker/broker.ts";
import type { Config, ConfigFlags, ConfigSource } from "#broker/config.ts";
import type { Control } from "#broker/control.ts";
import type { Logger } from "#broker/log.ts";
import { ownRoutes, type PluginRoutes, workersRoutes } from "#broker/plugin-routes.ts";
import type { HttpGuard } from "#transport/http-guard.ts";
import { type RunningBroker, WORKER_COMMAND } from "./host.ts";
import { ownCommand } from "./own-process.ts";

/** Rejects with the MantouError of either, with nothing left open. */
export async function startSite(
  config: Config,
  log: Logger,
  source: ConfigSource & { flags: ConfigFlags },
): Promise<RunningBroker> {
  const broker = await startProcesses(config, log, source);
  try {
    const { control, pluginRoutes, guard } = broker;
    const firstPassword = process.env["MANTOU_ADMIN_PASSWORD"] || undefined;
    const admin = await startAdmin({ config, control, log, firstPassword, pluginRoutes, guard });
    return {
      get addresses() {
        return broker.addresses;
      },
      adminAddress: admin.address,
      failed: broker.failed,
      ...(broker.blame && { blame: broker.blame }),
      reload: () => Promise.all([broker.reload(), admin.reload()]),
      async stop() {
        await Promise.all([broker.stop(), admin.stop()]);
      },
    };
  } catch (error) {
    await broker.stop();
    throw error;
  }
}

type Processes = Omit<RunningBroker, "adminAddress"> & {
  readonly control: Control;
  readonly pluginRoutes: PluginRoutes;
  readonly guard?: HttpGuard;
};

async function startProcesses(
  config: Config,
  log: Logger,
  source: ConfigSource & { flags: ConfigFlags },
): Promise<Processes> {
  if (config.workers !== 1) {
    const { startKeeper, workerCountOf } = await import("#broker/keeper.ts");
    if (workerCountOf(config) > 1) {
      const keeper = await startKeeper(config, source.flags, log, [...ownCommand(), WORKER_COMMAND]);
      return { ...keeper, pluginRoutes: workersRoutes(keeper.control) };
    }
  }
  const broker = await startBroker(config, log, source);
  const mounts = () => broker.plugins.host.contributions().flatMap(({ adminRoutes }) => adminRoutes);
  return {
    get addresses() {
      return broker.addresses;
    },
    failed: broker.failed,
    control: broker.control,
    pluginRoutes: ownRoutes(mounts),
    guard: broker.guard,
    blame: (error) => broker.plugins.host.blame(error),
    reload: () => broker.reload(),
    stop: () => broker.stop(),
  };
}
