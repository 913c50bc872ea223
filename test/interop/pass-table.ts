/**
 * The pass table of the interop suite: which foreign client did what with the broker, per protocol version.
 *
 * Each test file has one `PassTable`; when the file ends, its table goes to stdout and replaces the section of that
 * client in one Markdown file ($MANTOU_INTEROP_TABLE, else mantou-interop.md in the OS's temp folder). `bun test` tells
 * nobody when its last file has ended, so the file is complete when all have run, whatever their order.
 */
import { afterAll, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const versions = ["3.1", "3.1.1", "5.0"] as const;

export type Version = (typeof versions)[number];

type Outcome = "pass" | "FAIL" | `skipped: ${string}`;

const TITLE = "# Interoperability\n";

export class PassTable {
  readonly #client: string;
  readonly #rows = new Map<string, Map<Version, Outcome>>();

  constructor(client: string) {
    this.#client = client;
    afterAll(() => {
      const section = this.#section();
      console.log(`\n${section}`);
      writeSection(this.#client, section);
    });
  }

  test(version: Version, feature: string, run: () => Promise<void>): void {
    test(`${this.#client}, MQTT ${version}: ${feature}`, async () => {
      // So that a test that runs into its time-out is a failure in the table too.
      this.#record(version, feature, "FAIL");
      await run();
      this.#record(version, feature, "pass");
    });
  }

  skip(version: Version, feature: string, why: string): void {
    test.skip(`${this.#client}, MQTT ${version}: ${feature} (${why})`, () => {});
    this.#record(version, feature, `skipped: ${why}`);
  }

  #record(version: Version, feature: string, outcome: Outcome): void {
    const row = this.#rows.get(feature) ?? new Map<Version, Outcome>();
    this.#rows.set(feature, row.set(version, outcome));
  }

  #section(): string {
    const rows = [...this.#rows].map(([feature, row]) => [
      feature,
      ...versions.map((version) => row.get(version) ?? ""),
    ]);
    const lines = [["", ...versions], ["---", ...versions.map(() => "---")], ...rows];
    return `## ${this.#client}\n\n${lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("")}`;
  }
}

function writeSection(client: string, section: string): void {
  const path = process.env["MANTOU_INTEROP_TABLE"] ?? join(tmpdir(), "mantou-interop.md");
  const old = existsSync(path) ? readFileSync(path, "utf8") : TITLE;
  const others = old.split(/\n(?=## )/).filter((part) => part.startsWith("## ") && !part.startsWith(`## ${client}\n`));
  writeFileSync(
    path,
    [TITLE.trimEnd(), ...[...others, section].map((part) => part.trimEnd()).toSorted()].join("\n\n") + "\n",
  );
}
