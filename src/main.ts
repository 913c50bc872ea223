#!/usr/bin/env bun
/** Process entry: `bun src/main.ts start …`, or the compiled `mantou start …`. */
import { runCli } from "#cli/cli.ts";
import { processHost } from "#cli/host.ts";

process.exit(await runCli(process.argv.slice(2), processHost()));
