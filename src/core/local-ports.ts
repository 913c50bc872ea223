/** The ports of a broker that is one process, lets everybody in and keeps nothing: each request completes at once. */
import { ALLOW, type Access, type AuthenticateRequest, type Fabric, type Store, type Verdict } from "./ports.ts";

export class OpenAccess implements Access {
  readonly isOpen = true;

  authenticate(request: AuthenticateRequest): void {
    // Nobody here knows a method, and an unknown one must be refused. [MQTT-4.12.0-1]
    request.complete({ reasonCode: request.method === undefined ? 0 : 0x8c });
  }

  authorizePublish(): Verdict {
    return ALLOW;
  }

  whenDecided(): void {}

  authorizeSubscribe(_client: unknown, filters: readonly Buffer[], complete: (verdicts: Verdict[]) => void): void {
    complete(filters.map(() => ALLOW));
  }
}

/** Keeps nothing: the engine asks `isVolatile` and notes nothing. */
export class VolatileStore implements Store {
  readonly isVolatile = true;
  readonly isWritable = true;
  readonly durableSeq = 0;
  onDurable = (): void => {};

  whenReady(action: () => void): void {
    action();
  }

  fetch(_session: number, complete: () => void): void {
    complete();
  }

  append(): number {
    return 0;
  }

  enqueue(): number {
    return 0;
  }

  assign(): number {
    return 0;
  }

  settle(): void {}
  shift(): void {}
  withdraw(): void {}
  forget(): void {}

  isDurable(): boolean {
    return true;
  }

  retain(): number {
    return 0;
  }

  refill(): void {}

  dropPage(): boolean {
    return false;
  }
}

export class LocalFabric implements Fabric {
  readonly isLocal = true;
  readonly forwarding = null;
  private epoch = 0;

  claim(_clientId: Buffer, complete: (epoch: number) => void): void {
    complete(++this.epoch);
  }

  announce(_filter: Buffer, _isNew: boolean, complete: () => void): void {
    complete();
  }

  weigh(): void {}
  withdraw(): void {}
}
