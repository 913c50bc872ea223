/** Our broker's engine and MQTT over links in memory, with a clock that only `advance` moves. */
import { Engine, type EngineOptions } from "#core/engine.ts";
import type { LimitOverrides } from "#core/limits.ts";
import { Connection } from "#mqtt/connection.ts";
import { MqttContext, type MqttOptions } from "#mqtt/context.ts";
import type { Pipe } from "./client.ts";
import type { Target } from "./harness.ts";
import { MemoryLink } from "./memory-link.ts";

const STEP_MS = 100;

/** Sections of `limits.ts`, `broker` for the MQTT options, `ports` for the engine's ports. */
interface MemoryConfig extends LimitOverrides {
  broker?: MqttOptions;
  ports?: Pick<EngineOptions, "access" | "store" | "fabric">;
}

export interface MemoryTarget extends Target {
  readonly engine: Engine;
  readonly bugs: unknown[];
}

export async function startMemoryHarness(config: Record<string, unknown> = {}): Promise<MemoryTarget> {
  const { broker, ports, ...limits } = config as MemoryConfig;
  let nowMs = 1_000_000;
  let isWorkAsked = false;
  const bugs: unknown[] = [];
  const engine: Engine = new Engine({
    limits,
    seed: 4711,
    nowMs,
    nowSec: nowMs / 1000,
    ...ports,
    onWork: () => {
      if (isWorkAsked) return;
      isWorkAsked = true;
      setImmediate(() => {
        isWorkAsked = false;
        engine.turn();
      });
    },
  });
  const reporter = { fault: () => {}, bug: (_: unknown, error: unknown) => void bugs.push(error) };
  const context = new MqttContext(engine, { reporter, ...broker });
  return {
    engine,
    bugs,
    async openPipe(): Promise<Pipe> {
      const link = new MemoryLink();
      const pipe: Pipe = {
        write: (bytes) => link.receive(bytes),
        close: () => link.destroy(),
        onData: () => {},
        onClose: () => {},
      };
      link.onData = (bytes) => pipe.onData(bytes);
      link.onClose = () => pipe.onClose();
      link.protocol = new Connection(context, link, "memory");
      return pipe;
    },
    async advance(sec: number): Promise<void> {
      for (let left = sec * 1000; left > 0; left -= STEP_MS) {
        nowMs += Math.min(STEP_MS, left);
        engine.tick(nowMs, nowMs / 1000);
      }
    },
    async stop(): Promise<void> {
      if (bugs.length > 0) throw bugs[0];
    },
  };
}
