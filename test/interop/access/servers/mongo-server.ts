/** The server of `mongo-process.ts`, as the tests start and stop it. */
import { fileURLToPath } from "node:url";
import { type Document, MongoClient } from "mongodb";
import { certify } from "./certificate.ts";
import type { ServerProgram } from "./database-server.ts";

export function mongoProgram(tls: boolean): ServerProgram {
  return {
    name: "a server of MongoDB's protocol",
    program: process.execPath,
    refusesRoot: false,
    prepare: (folder, run) => certify(folder, run),
    command: (folder, port) => [
      process.execPath,
      fileURLToPath(import.meta.resolve("./mongo-process.ts")),
      `${port}`,
      folder,
      tls ? "tls" : "plain",
    ],
    ping: (port) => mongoRun(mongoUri(port, tls), (client) => client.db("mqtt").command({ ping: 1 })),
  };
}

/** `tls`: any certificate is good. */
export function mongoUri(port: number, tls = false, options = ""): string {
  const insecure = tls ? "&tls=true&tlsInsecure=true" : "";
  return `mongodb://mantou:server%20pw@127.0.0.1:${port}/?authSource=admin&directConnection=true${insecure}${options}`;
}

export function insert(uri: string, collection: string, documents: readonly Document[]): Promise<void> {
  return mongoRun(uri, (client) =>
    client
      .db("mqtt")
      .collection(collection)
      .insertMany([...documents]),
  );
}

async function mongoRun(uri: string, act: (client: MongoClient) => Promise<unknown>): Promise<void> {
  const client = new MongoClient(uri, {
    serverSelectionTimeoutMS: 1000,
    connectTimeoutMS: 1000,
    socketTimeoutMS: 2000,
  });
  try {
    await act(client);
  } finally {
    await client.close(true);
  }
}
