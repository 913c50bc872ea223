/**
 * The judge of a crash run: not what the broker must do next (that is the twin's), but what it has promised and must keep
 * over every crash. It sees packets at the broker's edge and what reaches the applications.
 *
 *   promised   PUBACK, PUBREC of a message while a subscription of a kept session was acknowledged and nobody ended it:
 *              it arrives there, or at a member of the share group, unless a drop with a reason that can be was reported
 *   exact      at QoS 2 no session, and no share group, gets a message twice
 *   order      the first arrivals of a publisher's messages on a topic come in order, by QoS
 *   no ghosts  what arrives fits a subscription that could stand when it was routed
 *   present    CONNACK tells the truth about the session
 *   retained   the value is that of the last acknowledged, or a later, message
 *
 * An acknowledgement counts from when it is sent. A message that was handed to the broker twice may have been routed at
 * any time between, so what is owed is what holds at all of these times, what is allowed is what holds at one.
 */
import type { Packet } from "#test/support/packets.ts";
import { prop } from "#test/support/packets.ts";
import { type ClientRecord, Epoch, Grant, LinkRecord, Story } from "./crash-records.ts";
import { CrashWills } from "./crash-wills.ts";
import { type Input, type LinkModel, type Message, NEVER, numberIn, Violation } from "./model.ts";

type PublishOutput = Extract<Packet, { type: "publish" }>;

/** Messages that one member or another must get, has got, and has got at QoS 2. */
interface GroupRecord {
  readonly owed: Set<Message>;
  readonly seen: Set<Message>;
  readonly exact: Set<Message>;
}

/** How far a session's end may be from what the client reckons: the store counts in seconds. */
const EXPIRY_SLACK_MS = 2500;
/** So long a connection whose link is gone may wait for other nodes with what its client has said. */
const HELD_MS = 15_000;

export class CrashLedger extends CrashWills {
  readonly messages: Message[] = [];
  readonly clients = new Map<string, ClientRecord>();
  readonly links = new Map<LinkModel, LinkRecord>();
  private readonly stories = new Map<Message, Story>();
  /** Clients that work for a share group; of topics that groups share they want nothing else. */
  readonly workers = new Set<string>();
  private readonly groups = new Map<string, GroupRecord>();
  /** Drops that were reported: client and number. */
  private readonly excused = new Set<string>();
  /** Retained messages by topic, in the order in which they reached the broker. */
  private readonly retained = new Map<string, Message[]>();
  /** Of PUBLISH packets on their way, whatever alias they have. */
  private readonly topics = new WeakMap<Packet, string>();
  /** Acknowledged messages, and obligations from them: a run without any shows nothing. */
  promisedCount = 0;

  fail(what: string): never {
    throw new Violation(what);
  }

  check(isRight: boolean, what: () => string): void {
    if (!isRight) this.fail(what());
  }

  // ---- who is there

  attach(model: LinkModel, clientId: string): void {
    const client = this.clients.get(clientId)!;
    this.links.set(model, new LinkRecord(client, client.epoch, model));
  }

  /** The client knows nothing of its session any more. */
  forget(clientId: string, model: LinkModel | undefined): void {
    const client = this.clients.get(clientId)!;
    client.epoch = new Epoch(clientId);
    const link = model && this.links.get(model);
    if (!link) return;
    link.epoch = client.epoch;
    client.epoch.isKept = link.expirySec > 0;
  }

  /** The broker has lost, or closed, the link. */
  lose(model: LinkModel): void {
    const link = this.links.get(model);
    if (!link || link.isLost) return;
    link.isLost = true;
    if (link.client.link === link) {
      link.client.link = undefined;
      link.client.lostMs = this.nowMs;
    }
    this.handleEnd(model);
  }

  /** The broker is gone, and with it every link. */
  crash(): void {
    for (const link of this.links.values()) link.isLost = true;
    for (const client of this.clients.values()) client.link = undefined;
  }

  // ---- what reaches the broker

  handleInput(model: LinkModel, input: Input): void {
    const link = this.links.get(model)!;
    const { client, epoch } = link;
    switch (input.type) {
      case "connect":
        return this.handleConnect(link, input);
      case "publish":
        return this.handlePublish(link, input.message, input.packetId);
      case "subscribe":
        link.subscribes.set(
          input.packetId,
          input.wishes.map(({ filter, qos }) => this.ask(epoch, filter, qos)),
        );
        return;
      case "unsubscribe": {
        const ended = epoch.grants.filter(
          ({ filter, goneAt }) => input.filters.includes(filter) && goneAt === Infinity,
        );
        for (const grant of ended) grant.leavingAt = Math.min(grant.leavingAt, this.event);
        for (const filter of input.filters) epoch.lapses.set(filter, this.event);
        link.unsubscribes.set(input.packetId, ended);
        return;
      }
      case "disconnect":
        if (link.will && input.reasonCode === 0) link.will.isDiscarded = true;
        this.handleEnd(model);
        if (input.expirySec === undefined) return;
        client.presence = "unknown";
        epoch.isKept = false;
        return;
      default:
    }
  }

  private handleConnect(link: LinkRecord, input: Extract<Input, { type: "connect" }>): void {
    const { client } = link;
    link.mustBePresent = input.isCleanStart ? false : this.presenceOf(client);
    if (client.presence === "limited") link.presentUntilMs = client.leftMs + client.expirySec * 1000 - EXPIRY_SLACK_MS;
    link.expirySec = input.expirySec;
    link.heardAt = this.event;
    if (link.mustBePresent === false) client.epoch = link.epoch = new Epoch(client.id);
    link.epoch.isKept = input.expirySec > 0 && (link.mustBePresent === false || link.epoch.isKept);
    link.comeTrue = this.follow(client);
    client.link = link;
    const isStill = client.presence === "kept" && !input.isCleanStart && input.expirySec === NEVER;
    if (!isStill) client.presence = "unknown";
    if (!input.will) return;
    client.will = link.will = this.giveWill(input.will, input.expirySec === NEVER);
    this.stories.set(input.will.message, new Story(this.event));
  }

  private presenceOf({ presence, link, expirySec, leftMs, lostMs }: ClientRecord): boolean | undefined {
    if (presence === "none") return false;
    if (presence === "kept") return true;
    if (presence === "unknown") return undefined;
    if (this.nowMs - leftMs < expirySec * 1000 - EXPIRY_SLACK_MS) return true;
    const sinceMs = Math.max(lostMs, this.readyMs);
    const slackMs = this.isSlow ? HELD_MS : EXPIRY_SLACK_MS;
    return !link && this.nowMs - sinceMs > expirySec * 1000 + slackMs ? false : undefined;
  }

  private handlePublish(link: LinkRecord, message: Message, packetId: number): void {
    if (message.qos > 0) link.published.set(packetId, message);
    const story = this.stories.get(message);
    if (story) story.lastHandedAt = this.event;
    else this.stories.set(message, new Story(this.event));
    if (!message.isRetain || story) return;
    const list = this.retained.get(message.topic) ?? [];
    this.retained.set(message.topic, list);
    list.push(message);
  }

  private ask(epoch: Epoch, filter: string, qos: number): Grant {
    const grant = new Grant(filter, qos, this.event);
    if (qos === 0) epoch.lapses.set(filter, this.event);
    for (const other of epoch.grants) {
      if (other.filter === filter) other.leavingAt = Math.min(other.leavingAt, this.event);
    }
    epoch.grants.push(grant);
    return grant;
  }

  // ---- what the broker sends

  handleOutput(model: LinkModel, packet: Packet): void {
    const link = this.links.get(model);
    if (!link || link.isLost) return this.fail(`the broker writes to link ${model.no}, which is gone`);
    switch (packet.type) {
      case "connack":
        return this.handleConnack(link, packet.reasonCode, packet.sessionPresent);
      case "publish":
        this.topics.set(packet, this.topicOf(model, packet));
        return;
      case "puback":
      case "pubrec": {
        const message = link.published.get(packet.packetId);
        if (message && (packet.reasonCode ?? 0) < 0x80) this.promise(message);
        return;
      }
      case "suback":
        link.subscribes.get(packet.packetId)!.forEach((grant, i) => this.confirm(link, grant, packet.reasonCodes[i]!));
        return;
      case "unsuback":
        for (const grant of link.unsubscribes.get(packet.packetId)!) grant.goneAt = Math.min(grant.goneAt, this.event);
        return;
      default:
    }
  }

  private topicOf({ aliases }: LinkModel, packet: PublishOutput): string {
    const alias = prop(packet, "topicAlias") as number | undefined;
    if (alias === undefined) return packet.topic;
    if (packet.topic !== "") aliases.set(alias, packet.topic);
    return aliases.get(alias) ?? this.fail(`alias ${alias} stands for nothing`);
  }

  private handleConnack(link: LinkRecord, reasonCode: number, isPresent: boolean): void {
    if (reasonCode !== 0) return;
    const { client, mustBePresent, expirySec } = link;
    const isLate = this.nowMs > link.presentUntilMs && !isPresent;
    const isRight = mustBePresent === undefined || mustBePresent === isPresent || isLate;
    this.check(isRight, () => `CONNACK tells ${client.id} session present ${isPresent}, which is wrong`);
    if (link.will) link.will.isConfirmed = true;
    const will = expirySec > 0 ? link.comeTrue : undefined; // this answer waits for all that was noted before
    if (will) for (const each of this.clients.values()) this.owe(each, will.message, will.askedAt);
    this.supersede(client.id, link.heardAt);
    client.presence = expirySec === NEVER ? "kept" : expirySec === 0 ? "none" : "limited";
    client.expirySec = expirySec;
  }

  private confirm({ epoch }: LinkRecord, grant: Grant, reasonCode: number): void {
    if (reasonCode >= 0x80) return; // refused for now: nobody knows, so it is neither owed nor a ghost
    this.check(
      reasonCode === grant.qos,
      () => `SUBACK grants ${reasonCode} for ${grant.filter}, asked for ${grant.qos}`,
    );
    grant.firmAt = this.event;
    for (const other of epoch.grants) {
      if (other.filter === grant.filter && other.askedAt < grant.askedAt)
        other.goneAt = Math.min(other.goneAt, this.event);
    }
  }

  /** The broker has taken responsibility: who has a firm subscription gets it. */
  private promise(message: Message): void {
    const story = this.stories.get(message)!;
    if (story.isAcknowledged) return;
    story.isAcknowledged = true;
    this.promisedCount++;
    if (message.expirySec !== undefined || message.payload.length === 0) return;
    for (const client of this.clients.values()) this.owe(client, message, story.firstHandedAt);
  }

  owe({ epoch, presence }: ClientRecord, message: Message, since: number): void {
    if (!epoch.isKept) return;
    for (const grant of epoch.grants) {
      if (Math.min(grant.qos, message.qos) === 0 || !grant.isFirmSince(since) || !grant.matches(message.topic))
        continue;
      if (!grant.isShared) epoch.owed.add(message);
      else if (presence === "kept") this.group(grant.filter).owed.add(message);
    }
  }

  private group(filter: string): GroupRecord {
    let group = this.groups.get(filter);
    if (!group) this.groups.set(filter, (group = { owed: new Set(), seen: new Set(), exact: new Set() }));
    return group;
  }

  /** The broker has done with the link, though it is still there. */
  handleEnd(model: LinkModel): void {
    const { will } = this.links.get(model)!;
    if (will) will.lostMs = Math.min(will.lostMs, this.nowMs);
  }

  /** Hook: a delivery was dropped. */
  onDrop(clientId: string | undefined, reason: string, payload: Uint8Array): void {
    if (reason === "slow_subscriber" || reason === "absent" || reason === "no_subscriber") return; // nobody was promised it
    const no = numberIn(payload);
    if (no < 0) return; // it has no number
    const isTrue = reason === "expired" ? this.messages[no]?.expirySec !== undefined : this.canDrop(reason);
    this.check(isTrue, () => `message ${no} is dropped for ${clientId} as ${reason}, which cannot be`);
    if (reason === "memory_full" && this.messages[no]?.publisher === clientId) this.refuseWill(this.messages[no]!);
    if (reason === "store_full") this.excused.add(`anybody ${no}`); // refused, and then published again
    this.excused.add(`${clientId} ${no}`);
    if (clientId === undefined || this.workers.has(clientId)) this.excused.add(`workers ${no}`);
  }

  /** A message may reach the session's node long after it was handed over: whoever has subscribed meanwhile gets it. */
  protected readonly isSlow: boolean = false;

  /** Reasons that there can be in this run. */
  canDrop: (reason: string) => boolean = () => true;

  // ---- what reaches an application

  onDelivered(model: LinkModel, packet: PublishOutput): void {
    const link = this.links.get(model);
    if (packet.payload.length === 0) return; // it has no number
    const message = this.messages[numberIn(packet.payload)];
    if (!link || !message) return this.fail(`a PUBLISH on ${packet.topic} that nobody sent`);
    const { epoch } = link;
    const isSame = this.topics.get(packet) === message.topic && Buffer.from(packet.payload).equals(message.payload);
    this.check(isSame, () => `message ${message.no} arrives changed`);
    const fits = epoch.grants.filter((grant) => grant.matches(message.topic));
    if (packet.retain) return this.checkReplay(epoch, message, fits);
    const { firstHandedAt, lastHandedAt } = this.stories.get(message) ?? this.fail(`message ${message.no} came early`);
    const until = message.isWill || this.isSlow ? Infinity : lastHandedAt;
    // What waits for a share group may go to whoever joins it.
    const open = fits.filter((grant) => (grant.isShared || grant.askedAt <= until) && grant.goneAt >= firstHandedAt);
    this.check(open.length > 0, () => `${epoch.clientId} gets message ${message.no} and has no subscription to it`);
    const qosMax = Math.max(...open.map(({ qos }) => Math.min(qos, message.qos)));
    this.check(packet.qos <= qosMax, () => `${epoch.clientId} gets message ${message.no} at QoS ${packet.qos}`);
    if (packet.qos === 2) this.checkExact(epoch, message, open);
    const shared = open.filter((grant) => grant.isShared);
    for (const { filter } of shared) this.group(filter).seen.add(message);
    const isFirst = shared.length === 0 && !message.isWill && packet.qos > 0 && !epoch.seen.has(message);
    const isInTime = open.some(
      ({ firmAt, leavingAt, qos }) => firmAt <= firstHandedAt && leavingAt > firstHandedAt && qos > 0,
    );
    // What comes late may have missed the session between two subscriptions, and then be sent again.
    const hasLasted = !this.isSlow || this.isStillOwed(epoch, message);
    if (isFirst && isInTime && hasLasted) this.checkOrder(epoch, message, packet.qos);
    epoch.seen.add(message);
  }

  private checkReplay(epoch: Epoch, message: Message, fits: readonly Grant[]): void {
    const isRight = message.isRetain && fits.some((grant) => !grant.isShared);
    this.check(isRight, () => `${epoch.clientId} gets the retained ${message.no} and did not ask for it`);
  }

  private checkExact(epoch: Epoch, message: Message, open: readonly Grant[]): void {
    this.check(!epoch.exact.has(message), () => `${epoch.clientId} gets message ${message.no} at QoS 2 again`);
    epoch.exact.add(message);
    if (!epoch.isKept) return; // after a crash another member may get what this one no longer has
    for (const filter of new Set(open.filter(({ isShared }) => isShared).map((grant) => grant.filter))) {
      const { exact } = this.group(filter);
      this.check(
        !exact.has(message),
        () => `${filter} gets message ${message.no} at QoS 2 again, by ${epoch.clientId}`,
      );
      exact.add(message);
    }
  }

  private checkOrder(epoch: Epoch, message: Message, qos: number): void {
    const { no, publisher, topic, qos: published } = message;
    // It may have been dropped on its way to the session's node, and was sent again.
    if (this.isSlow && (message.expirySec !== undefined || this.excused.has(`undefined ${no}`))) return;
    const key = `${publisher} ${topic} ${published} ${qos}`;
    // Dropped, and then published again; or dropped, as it may be, without a word that outlived a crash.
    if (this.excused.has(`${epoch.clientId} ${no}`) || this.excused.has(`anybody ${no}`)) return;
    const { firstHandedAt, lastHandedAt } = this.stories.get(message)!;
    if (this.hasLostReports && lastHandedAt > firstHandedAt) return;
    const newest = epoch.newest.get(key) ?? -1;
    this.check(no > newest, () => `${epoch.clientId} gets message ${no} on ${topic} after ${newest}`);
    epoch.newest.set(key, no);
  }

  // ---- at the end, when all is drained

  /** Drops may have happened of which nobody was told. */
  hasLostReports = false;

  /** Everything that was promised has arrived, or was dropped with a word. */
  checkKept(): void {
    if (this.hasLostReports) return;
    for (const { id, epoch } of this.clients.values()) {
      if (!epoch.isKept) continue;
      for (const message of epoch.owed) {
        const isRight =
          epoch.seen.has(message) ||
          this.excused.has(`${id} ${message.no}`) ||
          (this.isSlow && !this.isStillOwed(epoch, message));
        this.check(isRight, () => `${id} never got message ${message.no} on ${message.topic}`);
      }
    }
    for (const [filter, { owed, seen }] of this.groups) {
      for (const message of owed) {
        const isRight = seen.has(message) || this.excused.has(`workers ${message.no}`);
        this.check(isRight, () => `nobody of ${filter} got message ${message.no}`);
      }
    }
  }

  /** No subscription of the session has lasted since the message was handed over. */
  private isStillOwed({ grants, lapses }: Epoch, message: Message): boolean {
    const since = this.stories.get(message)!.firstHandedAt;
    return grants.some((grant) => {
      const { askedAt, firmAt, filter, qos, isShared } = grant;
      const hasLasted = firmAt <= since && (lapses.get(filter) ?? 0) < askedAt;
      return hasLasted && qos > 0 && !isShared && grant.matches(message.topic);
    });
  }

  /**
   * What a new subscriber of everything is sent, by topic: the last of one of the topic's publishers. `done`: the publisher has
   * seen the acknowledgement; before that it sends again, so that an older value may follow.
   */
  checkRetained(values: ReadonlyMap<string, Message>, done: (message: Message) => boolean): void {
    for (const [topic, list] of this.retained) {
      const publishers = new Set(list.map(({ publisher }) => publisher));
      const parts = [...publishers].map((each) => list.filter(({ publisher }) => publisher === each));
      const allowed = parts.flatMap((own) => own.slice(Math.max(0, own.findLastIndex(done))));
      const value = values.get(topic);
      const isGone = ({ payload, expirySec }: Message): boolean => payload.length === 0 || expirySec !== undefined;
      const isEmptyRight = !list.some(done) || allowed.some(isGone);
      const isRight = value ? allowed.includes(value) : isEmptyRight;
      const wanted = allowed.map(({ no, payload }) => (payload.length === 0 ? `none (${no})` : no));
      this.check(isRight, () => `the retained message of ${topic} is ${value?.no ?? "gone"}, not one of ${wanted}`);
    }
    for (const topic of values.keys()) this.check(this.retained.has(topic), () => `${topic} has a value from nowhere`);
  }
}
