/** src/core/share-group.ts: one member picked, by strategy; and the whole publish through a group. */
import type { ShareStrategy } from "#core/limits.ts";
import { makeEngine, openSink, publishPacket, viewOf } from "./fixture.ts";
import type { Suite } from "./recorder.ts";

const OPS = 1000;
const MEMBERS = 10;
const strategies: ShareStrategy[] = ["round-robin", "random", "sticky", "hash-client", "hash-topic"];

export const suite: Suite = {
  about: `share groups of ${MEMBERS} members (src/core/share-group.ts)`,
  async run(recorder) {
    for (const strategy of strategies) {
      const engine = makeEngine({ shared: { strategy } });
      const filter = Buffer.from("$share/workers/jobs/+/new");
      for (let i = 0; i < MEMBERS; i++) {
        const { session } = openSink(engine, `worker-${i}`);
        engine.subscribe(session, [{ filter, options: 0, id: 0 }], () => {});
      }
      const entry = engine.groups.get(0);
      await recorder.time(`pick, ${strategy}`, OPS, () => {
        let sum = 0;
        for (let i = 0; i < OPS; i++) {
          const position = engine.groups.start(entry, false, i, i * 7);
          engine.groups.chose(entry, false, position);
          sum += position;
        }
        return sum;
      });
      const view = viewOf(publishPacket("jobs/12/new", 64, 0, 4), 4);
      await recorder.time(`Engine.publish to a group, ${strategy}`, OPS, () => {
        let reached = 0;
        for (let i = 0; i < OPS; i++) {
          view.slot = -1;
          view.publisherKey = i;
          reached += engine.publish(view);
        }
        return reached;
      });
    }
  },
};
