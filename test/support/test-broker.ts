/**
 * The engine without MQTT: a sink that writes down what it is given, and the few calls that every test of the engine
 * begins with. Topics, filters and payloads are strings here.
 */
import { Engine, type EngineOptions, MessageView, type Sink } from "#core/engine.ts";
import type { DropReason } from "#core/metrics.ts";
import { NEVER } from "#core/message.ts";

export interface Delivered {
  readonly topic: string;
  readonly payload: string;
  readonly qos: number;
  readonly isRetain: boolean;
  readonly isDup: boolean;
  readonly packetId: number;
  readonly ids: number[];
}

export class FakeSink implements Sink {
  isWritable = true;
  windowMax = 100;
  isRetryAllowed = true;
  /** Payloads longer than this are "larger than the peer takes". */
  payloadBytesMax = Infinity;
  session = -1;
  isPresent = false;
  readonly got: Delivered[] = [];
  readonly released: number[] = [];
  endedWith: number | undefined;
  /** Called within each delivery, as a fast client would answer. */
  onDeliver: (delivered: Delivered) => void = () => {};

  deliver(view: MessageView, flags: number, packetId: number): boolean {
    if (view.payloadEnd - view.payloadStart > this.payloadBytesMax) return false;
    const delivered = {
      topic: view.topicText(),
      payload: view.payload().toString(),
      qos: (flags >> 1) & 3,
      isRetain: (flags & 1) !== 0,
      isDup: (flags & 8) !== 0,
      packetId,
      ids: [...view.ids.subarray(0, view.idCount)],
    };
    this.got.push(delivered);
    this.onDeliver(delivered);
    return true;
  }

  release(packetId: number): void {
    this.released.push(packetId);
  }

  end(reasonCode: number): void {
    this.endedWith = reasonCode;
  }

  /** Payloads since the last call, in order. */
  take(): string[] {
    return this.got.splice(0).map(({ payload }) => payload);
  }
}

export interface Way {
  readonly isCleanStart?: boolean;
  /** 0 by default: the session ends with its connection. */
  readonly expirySec?: number;
  readonly will?: {
    topic: string;
    payload: string;
    delaySec?: number;
    qos?: number;
    isRetain?: boolean;
    expirySec?: number;
  };
  readonly sink?: FakeSink;
}

const START_MS = 1_000_000;

/** An engine whose drops are written down, and which does its work only when `turn` or `advance` is called. */
export class TestBroker {
  readonly engine: Engine;
  readonly drops: { clientId: string | undefined; reason: DropReason; payload: string }[] = [];
  workCount = 0;

  constructor(options: Partial<EngineOptions> = {}) {
    this.engine = new Engine({
      seed: 1,
      nowMs: START_MS,
      nowSec: START_MS / 1000,
      onWork: () => void this.workCount++,
      onBug: (error) => {
        throw error;
      },
      ...options,
    });
    this.engine.hooks.messageDropped.add((clientId, reason, message) => {
      this.drops.push({ clientId, reason, payload: message.payload.toString() });
    });
  }

  /** Reasons since the last call. */
  takeDrops(): DropReason[] {
    return this.drops.splice(0).map(({ reason }) => reason);
  }

  /** Opens and attaches; with a port that answers later it is only asked. */
  open(clientId: string, way: Way = {}): FakeSink {
    const sink = way.sink ?? new FakeSink();
    const { isCleanStart = false, expirySec = 0 } = way;
    const will = way.will && {
      view: viewOf(way.will.topic, way.will.payload, way.will),
      delaySec: way.will.delaySec ?? 0,
      expirySec: way.will.expirySec ?? NEVER,
    };
    this.engine.open({ clientId: Buffer.from(clientId), isCleanStart, expirySec, will }, sink, (opened) => {
      sink.session = opened.session;
      sink.isPresent = opened.isPresent;
      if (opened.session >= 0) this.engine.attach(opened.session);
    });
    return sink;
  }

  /** The connection is gone. */
  close(sink: FakeSink): void {
    this.engine.detach(sink.session);
  }

  subscribe(sink: FakeSink, filter: string, options = 0, id = 0): number {
    let code = -1;
    const items = [{ filter: Buffer.from(filter), options, id }];
    this.engine.subscribe(sink.session, items, (codes) => (code = codes[0]!));
    return code;
  }

  unsubscribe(sink: FakeSink, filter: string): number {
    return this.engine.unsubscribe(sink.session, [Buffer.from(filter)])[0]!;
  }

  /** Returns how many sessions get it. */
  publish(topic: string, payload: string, options: PublishOptions = {}): number {
    const view = viewOf(topic, payload, options);
    if (options.from) {
      view.publisher = options.from.session;
      view.publisherKey = this.engine.sessions.keyOf(options.from.session);
    }
    return this.engine.publish(view);
  }

  /** PUBACK for everything a sink has got at QoS 1. */
  ackAll(sink: FakeSink): void {
    const ids = sink.got.filter(({ qos }) => qos === 1).map(({ packetId }) => packetId);
    for (const id of ids) this.engine.acknowledge(sink.session, id, 0, 1);
  }

  advance(sec: number): void {
    for (let left = sec * 1000; left > 0; left -= 100) {
      const nowMs = this.engine.nowMs + Math.min(100, left);
      this.engine.tick(nowMs, nowMs / 1000);
    }
  }
}

export interface PublishOptions {
  qos?: number;
  isRetain?: boolean;
  expiryAtSec?: number;
  from?: FakeSink;
}

/** A message without frame, as an application publishes it. */
export function viewOf(topic: string, payload: string | Uint8Array, options: PublishOptions = {}): MessageView {
  const topicBytes = Buffer.from(topic);
  const view = new MessageView();
  view.bytes = Buffer.concat([topicBytes, Buffer.from(payload as string)]);
  view.topicEnd = view.propertiesStart = view.propertiesEnd = view.payloadStart = topicBytes.length;
  view.payloadEnd = view.bytes.length;
  view.qos = options.qos ?? 0;
  view.isRetain = options.isRetain ?? false;
  view.expiryAtSec = options.expiryAtSec ?? NEVER;
  return view;
}
