// Every kind of link keeps the contract.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { describe } from "bun:test";
import { parseAddressBlock } from "#transport/address-rules.ts";
import { type Ends, linkContract } from "#test/contract/link-contract.ts";
import { type ByteClient, StreamClient, WebSocketClient } from "./clients.ts";
import { listen, type Listening, type ListeningOptions, pem, serverTls } from "./listening.ts";

const mutual = { ...serverTls, ca: pem("ca.pem"), verify: "required" } as const;
const clientPem = { cert: readFileSync(pem("client.pem")), key: readFileSync(pem("client.key")) };
const webSocket = { path: "/mqtt", origins: [] };
const fromLoopback = [parseAddressBlock("127.0.0.0/8")!];

async function ends(options: ListeningOptions, connect: (listening: Listening) => Promise<ByteClient>): Promise<Ends> {
  const listening = await listen(options);
  const [client, protocol] = await Promise.all([connect(listening), listening.next()]);
  return {
    client,
    protocol,
    listening,
    async [Symbol.asyncDispose]() {
      client.destroy();
      await listening[Symbol.asyncDispose]();
    },
  };
}

const onPort = ({ port }: Listening) => ({ host: "127.0.0.1", port });

describe("links", () => {
  linkContract("tcp", () => ends({}, (at) => StreamClient.connect(onPort(at))));

  linkContract("tls", () => ends({ tls: serverTls }, (at) => StreamClient.connect(onPort(at), {})));

  linkContract("unix", () => {
    const folder = mkdtempSync(join(tmpdir(), "mantou-"));
    const path = join(folder, "socket");
    return ends({ bind: { path } }, async () => {
      const client = await StreamClient.connect({ path });
      rmSync(folder, { recursive: true });
      return client;
    });
  });

  linkContract("ws", () =>
    ends({ webSocket }, async (at) => WebSocketClient.connect(await StreamClient.connect(onPort(at)))),
  );

  linkContract("wss", () =>
    ends({ webSocket, tls: serverTls }, async (at) =>
      WebSocketClient.connect(await StreamClient.connect(onPort(at), {})),
    ),
  );

  linkContract("ws behind a proxy", () =>
    ends({ webSocket, proxyFrom: fromLoopback }, async (at) => {
      const header = Buffer.from("PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n");
      return WebSocketClient.connect(await StreamClient.connect(onPort(at), undefined, header));
    }),
  );

  linkContract("wss with client certificates", () =>
    ends({ webSocket, tls: mutual }, async (at) =>
      WebSocketClient.connect(await StreamClient.connect(onPort(at), clientPem)),
    ),
  );

  linkContract("tcp with a byte rate", () =>
    ends({ readRateBytes: 100e6, readBurstBytes: 64 * 1024 }, (at) => StreamClient.connect(onPort(at))),
  );
});
