/** `mantou`: a broker inside an application. */
export { type RunningBroker, startBroker } from "#broker/broker.ts";
export { type Config, loadConfig } from "#broker/config.ts";
export { createLog } from "#broker/log.ts";
export { MantouError } from "#base/error.ts";
