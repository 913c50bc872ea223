/**
 * Events to Redis, a command each, in order on one connection (in a cluster, one a node). A batch is no transaction: when its answer is
 * lost, commands that were carried out are sent again.
 */
import { RedisServer, WrongType } from "#access/backends/redis-server.ts";
import type { ServerPlace } from "#access/backends/sql-server.ts";
import type { BrokerEvent } from "./event.ts";
import { Refused } from "./spool.ts";
import type { TargetOf } from "./storage-options.ts";
import { fillTemplate, type StorageTemplate, templateOf, textOf } from "./storage-template.ts";
import type { StoredRow, Writer } from "./storage-writer.ts";

export class RedisWriter implements Writer {
  private readonly server: RedisServer;
  private readonly commands: readonly { readonly verb: string; readonly args: readonly StorageTemplate[] }[];

  /** @throws MantouError where options do not fit each other, or a secret or a file is missing */
  constructor(
    { server, rules, queue }: TargetOf<"redis">,
    place: ServerPlace,
    private readonly node: string,
  ) {
    this.server = new RedisServer(server, queue.deadlineMs, place);
    this.commands = rules.map(({ command }) => {
      const [verb, ...words] = command.trim().split(/\s+/);
      return { verb: verb!.toUpperCase(), args: words.map(templateOf) };
    });
    this.server.start();
  }

  async write(rows: readonly StoredRow[], signal: AbortSignal): Promise<void> {
    const answers = await Promise.allSettled(
      rows.map(({ rule, event }) => this.server.ask(this.wordsOf(rule, event), signal)),
    );
    const faults = answers.flatMap((answer) => (answer.status === "rejected" ? [answer.reason as Error] : []));
    const failure = faults.find((fault) => !(fault instanceof WrongType));
    if (failure) throw failure;
    if (faults.length > 0) throw new Refused(faults[0]!.message);
  }

  stop(): void {
    this.server.stop();
  }

  private wordsOf(rule: number, event: BrokerEvent): (string | Buffer)[] {
    const { verb, args } = this.commands[rule]!;
    const words = args.map((template) => {
      const value = fillTemplate(template, event, this.node);
      return Buffer.isBuffer(value) ? value : textOf(value);
    });
    return [verb, ...words];
  }
}
