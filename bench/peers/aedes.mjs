// aedes as a peer to measure: node aedes.mjs PORT. JavaScript, not TypeScript, because Node.js runs it.
import { createServer } from "node:net";
import { Aedes } from "aedes";

const broker = await Aedes.createBroker({ queueLimit: 1e9 });
createServer(broker.handle).listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 1024 });
