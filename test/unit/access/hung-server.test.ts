/** Servers that take connections and never answer: whoever is given up leaves no connection behind. */
import { afterEach, expect, test } from "bun:test";
import type { Backend, BackendKind } from "#access/backend.ts";
import { http } from "#access/backends/http.ts";
import { mysql, postgresql } from "#access/backends/sql.ts";
import { askAuthenticate, attemptOf, fixture } from "#test/contract/backend-contract.ts";
import { until } from "#test/unit/transport/until.ts";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

class MuteServer {
  openCount = 0;
  seenCount = 0;
  private readonly listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: () => {
        this.openCount++;
        this.seenCount++;
      },
      data() {},
      close: () => void this.openCount--,
    },
  });

  get port(): number {
    return this.listener.port;
  }

  stop(): void {
    this.listener.stop(true);
  }
}

const kinds: [BackendKind, (port: number) => object][] = [
  [http as BackendKind, (port) => ({ auth: { url: `http://127.0.0.1:${port}/auth` } })],
  ...[postgresql, mysql].map((kind): [BackendKind, (port: number) => object] => [
    kind as BackendKind,
    (port) => ({ server: { port, database: "d", username: "u" }, authQuery: "select '%u' as password" }),
  ]),
];

for (const [kind, optionsOf] of kinds)
  test(`${kind.type}: a connection whose question is given up is closed, and so is one at the stop`, async () => {
    const server = new MuteServer();
    const { parts, stop } = fixture(kind.type);
    const make = (deadlineMs: number): Backend =>
      kind.make(kind.options.parse({ ...optionsOf(server.port), guard: { deadlineMs } }), parts);
    const backend = make(200);
    const patient = make(600_000);
    ends.push(stop, () => server.stop());
    await backend.start!();
    const asked = ["a", "b", "c"].map((username) => askAuthenticate(backend, attemptOf({ username }, "x")));
    for (const answer of await Promise.all(asked)) expect(answer.verdict).toBe("unavailable");
    expect(server.seenCount).toBeGreaterThanOrEqual(3);
    await until(() => server.openCount === 0);

    await patient.start!();
    const last = askAuthenticate(patient, attemptOf({ username: "a" }, "x"));
    await until(() => server.openCount > 0);
    await patient.stop!();
    expect((await last).verdict).toBe("unavailable");
    await until(() => server.openCount === 0);
    await backend.stop!();
  }, 60_000);
