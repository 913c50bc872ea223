/** A process of a run with several: serves one crew (crew-process.ts) until the process that started it is gone. */
import { Crew, type CrewShare, type RunTimes } from "./crew.ts";
import type { FromWorker, ToWorker } from "./crew-process.ts";

let crew: Crew | undefined;

function send(message: FromWorker): void {
  process.send!(message);
}

async function serve(message: Extract<ToWorker, { call: string }>): Promise<unknown> {
  if (message.call === "create") {
    crew = new Crew(message.argument as CrewShare, (credit) => send({ credit }));
    return undefined;
  }
  return message.call === "run" ? crew!.run(message.argument as RunTimes) : crew![message.call]();
}

process.on("message", (message: ToWorker) => {
  if ("credit" in message) return void crew?.credit(message.credit);
  serve(message).then(
    (value) => send({ answer: message.number, value }),
    (error: unknown) => send({ answer: message.number, error: error instanceof Error ? error.message : String(error) }),
  );
});
process.on("disconnect", () => process.exit(1));
// A Ctrl-C reaches the whole group; the process that started this one ends the run in order.
process.on("SIGINT", () => {});
