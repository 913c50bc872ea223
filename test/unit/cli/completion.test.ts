import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { runCli } from "#cli/cli.ts";
import { FakeHost } from "./fake-host.ts";

setDefaultTimeout(60_000); // the last one starts the program five times

async function complete(...words: string[]): Promise<string[]> {
  const host = new FakeHost();
  expect(await runCli(["complete", "--", ...words], host)).toBe(0);
  return host.stdout.split("\n").slice(0, -1);
}

describe("what may come next", () => {
  test("commands, their commands, their options; nothing that is hidden", async () => {
    expect(await complete()).toContainValues(["start", "stop", "doctor", "config"]);
    expect(await complete()).not.toContainAnyValues(["complete", "worker"]);
    expect(await complete("config")).toEqual(["check", "show", "schema"]);
    expect(await complete("start")).toContainValues(["--listen", "--detach"]);
  });

  test("words of ctl, from its usage", async () => {
    expect(await complete("ctl")).toContainValues(["clients", "vm", "help"]);
    expect(await complete("ctl", "clients")).toEqual(["list", "show", "kick"]);
    expect(await complete("ctl", "--json", "sessions", "list")).toEqual(["persistent", "transient"]);
    expect(await complete("ctl", "trace", "watch")).toEqual(["client", "topic", "address"]);
    expect(await complete("ctl", "trace", "client", "any id")).toEqual(["off"]);
    expect(await complete("ctl", "clients", "show")).toEqual([]);
    expect(await complete("ctl", "nothing")).toEqual([]);
  });
});

test.each(["bash", "zsh", "fish"])("there is a script for %s", async (shell) => {
  const host = new FakeHost();
  expect(await runCli(["completion", shell], host)).toBe(0);
  expect(host.stdout).toContain("complete -- ");
});

test("the script for bash does what it should", () => {
  const script = `
    mantou() { ${process.execPath} src/main.ts "$@"; }
    eval "$(mantou completion bash)"
    COMP_WORDS=(mantou ctl cli); COMP_CWORD=2; _mantou; echo "\${COMPREPLY[@]}"
    COMP_WORDS=(mantou st); COMP_CWORD=1; _mantou; echo "\${COMPREPLY[@]}"
  `;
  const { stdout, stderr } = Bun.spawnSync(["bash", "-c", script]);
  expect(stderr.toString()).toBe("");
  expect(stdout.toString()).toBe("clients\nstart stop store status\n");
});
