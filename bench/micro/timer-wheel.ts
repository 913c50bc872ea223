/** src/base/timer-wheel.ts: arm, cancel, fire, against the runtime's timers. */
import { TimerWheel } from "#base/timer-wheel.ts";
import { type Recorder, type Suite, sizes } from "./recorder.ts";

const OPS = 1000;

export const suite: Suite = {
  about: "deadlines (src/base/timer-wheel.ts)",
  async run(recorder) {
    for (const count of sizes(recorder, 1000, 1_000_000)) await withTimers(recorder, count);
  },
};

async function withTimers(recorder: Recorder, count: number): Promise<void> {
  let fired = 0;
  const wheel = new TimerWheel(0, () => void fired++);
  for (let i = 0; i < count; i++) wheel.arm(1e9 + (i % 60_000) * 64, 0, i);
  await recorder.compare(`arm and cancel among ${count}`, OPS, {
    TimerWheel: () => {
      let sum = 0;
      for (let i = 0; i < OPS; i++) {
        const timer = wheel.arm(60_000 + i * 64, 1, i);
        wheel.cancel(timer);
        sum += timer;
      }
      return sum;
    },
    "setTimeout and clearTimeout": () => {
      for (let i = 0; i < OPS; i++) clearTimeout(setTimeout(() => {}, 60_000 + i));
      return fired;
    },
  });
  let nowMs = 0;
  await recorder.time(`a tick with nothing due among ${count}`, OPS, () => {
    for (let i = 0; i < OPS; i++) wheel.tick((nowMs += 64));
    return fired;
  });
  await recorder.time(`arm, wait up to 4 s, fire, among ${count}`, OPS, () => {
    for (let i = 0; i < OPS; i++) wheel.arm(nowMs + (i % 62) * 64, 0, i);
    wheel.tick((nowMs += 4096));
    return fired;
  });
}
