/**
 * The listeners of several workers, which share each port: the kernel lets every process of this user share it too. So the keeper binds
 * each port once without sharing before workers do: what somebody else has is an error, and port 0 becomes the same port for all.
 */
import { probePort } from "#transport/websocket-server.ts";
import type { ListenerConfig } from "./listener-schema.ts";

export class SharedPorts {
  /** With their ports. */
  listeners: readonly ListenerConfig[];

  /** Throws MantouError `listen_failed`. */
  constructor(configs: readonly ListenerConfig[]) {
    this.listeners = configs.map(probed);
  }

  /** One that was closed is to be opened again. Throws MantouError `listen_failed`. */
  tryAgain(name: string): void {
    const listener = this.listeners.find((each) => each.name === name);
    if (listener) probed(listener);
  }

  /** Those that come next, with their ports; ours are not tried out. Throws MantouError `listen_failed`. */
  next(configs: readonly ListenerConfig[]): ListenerConfig[] {
    return configs.map((config) => {
      const { name, bind } = config;
      const same = this.listeners.find((each) => each.name === name && each.bind.host === bind.host);
      if (bind.port === 0 && same) return { ...config, bind: same.bind };
      const isOurs = this.listeners.some((each) => each.bind.path === undefined && each.bind.port === bind.port);
      return isOurs ? config : probed(config);
    });
  }
}

function probed(listener: ListenerConfig): ListenerConfig {
  const { bind, name } = listener;
  if (bind.path !== undefined) return listener;
  return { ...listener, bind: { ...bind, port: probePort(name, bind) } };
}
