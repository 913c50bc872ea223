/** `mantou`: a broker inside an application. docs/embedding.md shows how. */
export {
  Broker,
  type BrokerOptions,
  type LocalMessage,
  type MessageHandler,
  type PublishOptions,
} from "#broker/embedded-broker.ts";
export type { Admission, AuthenticateFunction, AuthorizeFunction } from "#broker/function-backend.ts";
export { type RunningBroker, startBroker } from "#broker/broker.ts";
export { type Config, type ConfigOptions, loadConfig } from "#broker/config.ts";
export { createLog } from "#broker/log.ts";
export type { HookMessage } from "#core/hook-message.ts";
export type { Hooks } from "#core/hooks.ts";
export type { ClientInfo } from "#core/ports.ts";
export { MantouError } from "#base/error.ts";
