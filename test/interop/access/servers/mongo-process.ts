/**
 * A server that speaks MongoDB's wire protocol, as a process of its own: `bun mongo-process.ts PORT FOLDER [tls]`. Queries
 * are mingo's, BSON is the driver's, SCRAM-SHA-256 is the broker's; documents live in a file. It knows hello, ping, find,
 * insert, delete, and user `mantou` with the password `server pw`.
 *
 *   message   length requestId responseTo opCode │ OP_MSG 2013: flags, sections (0 document, 1 identifier and documents)
 *                                                │ OP_QUERY 2004: flags, name, skip, limit, document (the driver's first hello)
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Query } from "mingo";
import { BSON, type Document } from "mongodb";
import type { ScramRow } from "#access/access-db.ts";
import { beginScram, finishScram, makeScramKeys, type ScramState } from "#access/scram.ts";

const [port, folder, tls] = process.argv.slice(2);
const file = join(folder, "documents.json");
const collections: Record<string, Document[]> = existsSync(file)
  ? (BSON.EJSON.parse(readFileSync(file, "utf8")) as Record<string, Document[]>)
  : {};
const keys: ScramRow = (await makeScramKeys(Buffer.from("server pw"), 4096))[0];

interface Peer {
  received: Buffer;
  scram: ScramState | undefined;
  isKnown: boolean;
}

const HELLO = {
  isWritablePrimary: true,
  ismaster: true,
  helloOk: true,
  maxBsonObjectSize: 16_777_216,
  maxMessageSizeBytes: 48_000_000,
  maxWriteBatchSize: 100_000,
  minWireVersion: 0,
  maxWireVersion: 21,
  readOnly: false,
  saslSupportedMechs: ["SCRAM-SHA-256"],
};

function answer(peer: Peer, command: Document): Document {
  const name = Object.keys(command)[0];
  const place = `${String(command["$db"])}.${String(command[name])}`;
  if (/^(hello|ismaster)$/i.test(name)) return HELLO;
  if (name === "saslStart" || name === "saslContinue") return authenticate(peer, command);
  if (!peer.isKnown && name !== "ping") throw new Error("command requires authentication");
  switch (name) {
    case "ping":
    case "endSessions":
      return {};
    case "find": {
      // As the server does it, a text is compared by its bytes; `collation` could only say otherwise.
      const found = new Query((command["filter"] as Document | undefined) ?? {})
        .find<Document>(collections[place] ?? [])
        .all();
      const limit = Number(command["limit"] ?? 0);
      return { cursor: { id: BSON.Long.ZERO, ns: place, firstBatch: limit > 0 ? found.slice(0, limit) : found } };
    }
    case "insert": {
      const documents = command["documents"] as Document[];
      const known = (collections[place] ??= []);
      const ids = new Set(known.map(({ _id }) => JSON.stringify(_id)));
      const isThere = documents.map(({ _id }) => ids.has(JSON.stringify(_id)));
      known.push(...documents.filter((_, index) => !isThere[index]));
      writeFileSync(file, BSON.EJSON.stringify(collections));
      const writeErrors = isThere.flatMap((is, index) =>
        is ? [{ index, code: 11_000, errmsg: "duplicate key" }] : [],
      );
      return { n: documents.length - writeErrors.length, ...(writeErrors.length > 0 && { writeErrors }) };
    }
    default:
      throw new Error(`no such command: ${name}`);
  }
}

function authenticate(peer: Peer, command: Document): Document {
  const payload = Buffer.from((command["payload"] as BSON.Binary).buffer);
  const first = peer.scram === undefined;
  if (first) {
    const begun = beginScram(payload, "SCRAM-SHA-256", {
      keysOf: (name) => (name === "mantou" ? keys : undefined),
      secret: Buffer.from("of a test"),
    });
    if (!begun) throw new Error("Authentication failed.");
    peer.scram = begun.state;
    return { conversationId: 1, done: false, payload: new BSON.Binary(begun.reply) };
  }
  const signature = finishScram(payload, "SCRAM-SHA-256", peer.scram!);
  peer.scram = undefined;
  if (!signature) throw new Error("Authentication failed.");
  peer.isKnown = true;
  return { conversationId: 1, done: true, payload: new BSON.Binary(signature) };
}

function replyTo(peer: Peer, message: Buffer): Buffer {
  const requestId = message.readInt32LE(4);
  const isQuery = message.readInt32LE(12) === 2004;
  const command = isQuery ? documentAt(message, message.indexOf(0, 20) + 9) : commandOf(message);
  let body: Document;
  try {
    body = { ...answer(peer, command), ok: 1 };
  } catch (error) {
    const text = (error as Error).message;
    const code = text.includes("requires") ? 13 : text.startsWith("Auth") ? 18 : 59;
    body = { ok: 0, errmsg: text, code };
  }
  const bytes = Buffer.from(BSON.serialize(body));
  // OP_REPLY: flags, cursor, start, count. OP_MSG: flags, kind of the section.
  const head = Buffer.alloc(16 + (isQuery ? 20 : 5));
  if (isQuery) head.writeInt32LE(1, 32);
  head.writeInt32LE(head.length + bytes.length, 0);
  head.writeInt32LE(requestId, 8);
  head.writeInt32LE(isQuery ? 1 : 2013, 12);
  return Buffer.concat([head, bytes]);
}

function documentAt(message: Buffer, at: number): Document {
  return BSON.deserialize(message.subarray(at, at + message.readInt32LE(at)));
}

function commandOf(message: Buffer): Document {
  let command: Document = {};
  for (let at = 20; at < message.length;) {
    const size = message.readInt32LE(at + 1);
    if (message[at] === 0) command = { ...documentAt(message, at + 1), ...command };
    else {
      const nameEnd = message.indexOf(0, at + 5);
      const documents: Document[] = [];
      for (let from = nameEnd + 1; from < at + 1 + size; from += message.readInt32LE(from))
        documents.push(documentAt(message, from));
      command = { ...command, [message.toString("utf8", at + 5, nameEnd)]: documents };
    }
    at += 1 + size;
  }
  return command;
}

Bun.listen<Peer>({
  hostname: "127.0.0.1",
  port: Number(port),
  ...(tls === "tls" && { tls: { cert: Bun.file(join(folder, "cert.pem")), key: Bun.file(join(folder, "key.pem")) } }),
  socket: {
    open(socket) {
      socket.data = { received: Buffer.alloc(0), scram: undefined, isKnown: false };
    },
    handshake() {},
    error() {},
    data(socket, chunk) {
      const peer = socket.data;
      peer.received = Buffer.concat([peer.received, chunk]);
      while (peer.received.length >= 16 && peer.received.length >= peer.received.readInt32LE(0)) {
        const size = peer.received.readInt32LE(0);
        const reply = replyTo(peer, peer.received.subarray(0, size));
        peer.received = peer.received.subarray(size);
        // Replies here are small enough for one write.
        socket.write(reply);
      }
    },
  },
});
