// HTTP connections that nobody asked for: bounded and counted, and MQTT goes on meanwhile.
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:tls";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, setDefaultTimeout, test } from "bun:test";
import type { Socket } from "bun";
import { socketControl } from "#admin/socket-control.ts";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";
import { isLinux } from "./process-facts.ts";

setDefaultTimeout(60_000);

const MAX = 50;
const CROWD = 400;

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`not in time: ${condition}`);
    await Bun.sleep(50);
  }
}

test.skipIf(!isLinux)(
  "a crowd on the HTTP ports makes them rest, MQTT does not notice, and they come back",
  async () => {
    const listen = ["tcp://127.0.0.1:0", "http://127.0.0.1:0", "admin://127.0.0.1:0"].flatMap((url) => [
      "--listen",
      url,
    ]);
    await using own = await startBroker([...listen, "--set", `broker.httpConnectionsMax=${MAX}`]);
    const call = socketControl(join(own.cwd, "data", "admin.sock"));
    const http = new URL(own.addresses.get("http-2")!.replace("ws:", "http:"));
    const admin = own.addresses.get("admin")!;
    const before = new WebSocket(own.addresses.get("http-2")!, ["mqtt"]);
    await new Promise((resolve) => before.addEventListener("open", resolve, { once: true }));
    const answers = (): Promise<boolean> =>
      Promise.all([fetch(`${http.origin}/status`), fetch(`${admin}/status`)]).then(
        (all) => all.every(({ ok }) => ok),
        () => false,
      );
    expect(await answers()).toBe(true);
    const crowd: Socket[] = [];
    for (let i = 0; i < CROWD; i++) {
      const socket = { data() {}, error() {} };
      await Bun.connect({ hostname: "127.0.0.1", port: Number(http.port), socket }).then(
        (each) => crowd.push(each),
        () => {},
      );
    }
    await until(async () => (await call("alarms.list", {})).active.some(({ id }) => id === "http_connections_high"));
    expect(await answers()).toBe(false);
    expect((await call("metrics.read", {}))["http.rested"]).toBeGreaterThan(0);
    const harness = harnessOf(tcpTarget(own.url));
    const client = await harness.connect({ clientId: "meanwhile" });
    await client.publish("t", "x", { qos: 1 });
    expect(before.readyState).toBe(WebSocket.OPEN);
    for (const each of crowd) each.terminate();
    await until(answers);
    expect((await call("alarms.list", {})).active).toEqual([]);
    expect(before.readyState).toBe(WebSocket.OPEN);
    before.close();
    await harness.stop();
  },
);

/** The serial number of the certificate that a port shows. */
function serialOf(url: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

test("the administrators' certificate is replaced at SIGHUP; one that cannot be used changes nothing", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mantou-admin-tls-"));
  const pem = (name: string): string => join(import.meta.dir, "../unit/transport/pem", name);
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const use = (name: string): void => {
    copyFileSync(pem(`${name}.key`), key);
    copyFileSync(pem(`${name}.pem`), cert);
  };
  use("server");
  await using own = await startBroker([
    "--listen",
    "tcp://127.0.0.1:0",
    "--listen",
    `admin://127.0.0.1:0?cert=${cert}&key=${key}`,
  ]);
  const admin = own.addresses.get("admin")!;
  const first = await serialOf(admin);
  use("server-new");
  process.kill(own.pid, "SIGHUP");
  // One that is just being made may be reset with the old listener.
  await until(async () => (await serialOf(admin).catch(() => first)) !== first);
  const second = await serialOf(admin);
  copyFileSync(pem("server.key"), key); // does not belong to it
  process.kill(own.pid, "SIGHUP");
  await Bun.sleep(300);
  expect(await serialOf(admin)).toBe(second);
  rmSync(folder, { recursive: true });
});
