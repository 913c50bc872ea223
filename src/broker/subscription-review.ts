/**
 * Subscriptions are judged again when rules have changed, and when a client comes back to what it was granted earlier. So is its will when
 * rules have changed: what was allowed at CONNECT may be said much later.
 */
import type { AccessChain } from "#access/chain.ts";
import type { Engine } from "#core/engine.ts";
import type { ClientInfo } from "#core/ports.ts";

/** Clients that are looked at in one turn. */
const CLIENT_COUNT = 100;

export class SubscriptionReview {
  private left: ClientInfo[] = [];

  constructor(
    private readonly engine: Engine,
    private readonly chain: AccessChain,
  ) {}

  /** Of every client that is connected, some in a turn. */
  all(): void {
    if (this.chain.isOpen) return;
    const isUnderWay = this.left.length > 0;
    this.left = [...this.chain.standings.all()].map(({ client }) => client);
    if (!isUnderWay) this.next();
  }

  private next(): void {
    const clients = this.left.splice(-CLIENT_COUNT);
    let left = clients.length;
    const done = (): void => {
      if (--left === 0) setImmediate(() => this.next());
    };
    for (const client of clients) this.one(client, () => this.will(client, done));
  }

  private will(client: ClientInfo, done: () => void): void {
    const { engine, chain } = this;
    const clientId = Buffer.from(client.clientId);
    const session = engine.sessions.find(clientId);
    const topic = !chain.isOpen && session >= 0 ? engine.lifecycle.willTopicOf(session) : undefined;
    if (topic === undefined) return done();
    chain.reviewPublish(client, topic, (isLost) => {
      const isSame = engine.sessions.find(clientId) === session && engine.lifecycle.willTopicOf(session) === topic;
      if (isLost && isSame) engine.discardWill(session);
      done();
    });
  }

  /** Takes away the subscriptions that the client may no longer have. */
  one(client: ClientInfo, done: () => void): void {
    const { engine, chain } = this;
    const clientId = Buffer.from(client.clientId);
    const session = engine.sessions.find(clientId);
    const filters = !chain.isOpen && session >= 0 ? filtersOf(engine, session) : [];
    if (filters.length === 0) return done();
    chain.reviewSubscriptions(client, filters, (lost) => {
      if (lost.length > 0 && engine.sessions.find(clientId) === session) engine.unsubscribe(session, lost);
      done();
    });
  }
}

/** As they were subscribed to, shares with their prefix. */
function filtersOf({ index, groups }: Engine, session: number): Buffer[] {
  const filters: Buffer[] = [];
  for (let sub = index.firstOfSession(session); sub >= 0; sub = index.nextOf[sub]) {
    const group = index.groupOf(sub);
    filters.push(group < 0 ? index.filterOf(sub) : groups.filterOf(group));
  }
  return filters;
}
