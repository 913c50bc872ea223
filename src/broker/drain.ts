/** What a stop waits for, up to a deadline of `performance.now()`. */
import type { Engine } from "#core/engine.ts";
import { SERVER_SHUTTING_DOWN, USE_ANOTHER_SERVER } from "#mqtt/codec/reason-code.ts";
import type { MqttContext } from "#mqtt/context.ts";

const POLL_MS = 10;

/** Tells the clients, and resolves when all links are closed or the deadline has passed. */
export async function drain(context: MqttContext, openCount: () => number, deadlineMs: number): Promise<void> {
  context.endAll(context.serverReference === "" ? SERVER_SHUTTING_DOWN : USE_ANOTHER_SERVER);
  while (openCount() > 0 && performance.now() < deadlineMs) await Bun.sleep(POLL_MS);
}

/** Resolves when nothing is on its way between workers any more, or the deadline has passed. */
export async function drainForwards(
  engine: Engine,
  deadlineMs: number,
  othersDrained: () => Promise<void>,
): Promise<void> {
  while (engine.peers!.hasForwards && performance.now() < deadlineMs) await Bun.sleep(POLL_MS);
  await Promise.race([othersDrained(), Bun.sleep(Math.max(0, deadlineMs - performance.now()))]);
}
