/** What `bun pm pack` makes, as another project has it: its types are checked by that project's rules, its program and its entries run. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { VERSION } from "#broker/version.ts";
import { run } from "#packaging/run.ts";

setDefaultTimeout(180_000);

const PACKAGES = resolve("node_modules");
const dir = mkdtempSync(join(tmpdir(), "mantou-package-"));
const app = join(dir, "app");
const installed = join(app, "node_modules/mantou");

beforeAll(async () => {
  // From a copy: it makes a folder beside the sources, for a moment.
  const copy = join(dir, "copy");
  for (const name of readdirSync(".").filter((each) => !/^(\.git|node_modules|test|bench|dist|data|log)$/.test(each)))
    cpSync(name, join(copy, name), { recursive: true });
  symlinkSync(PACKAGES, join(copy, "node_modules"));
  await run([process.execPath, "pm", "pack", "--destination", dir], { cwd: copy });
  mkdirSync(installed, { recursive: true });
  await run(["tar", "-xzf", join(dir, `mantou-${VERSION}.tgz`), "-C", installed, "--strip-components=1"]);
  // As `bun add` would, without a network.
  symlinkSync(PACKAGES, join(installed, "node_modules"));
  symlinkSync(join(PACKAGES, "bun-types"), join(app, "node_modules/bun-types"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("has what is used, and no more", () => {
  const names = ["CHANGELOG.md", "LICENSE", "README.md", "docs", "examples", "package.json", "src", "tuning", "types"];
  expect(
    readdirSync(installed)
      .filter((name) => name !== "node_modules")
      .toSorted(),
  ).toEqual(names);
});

test.each(["bundler", "nodenext"])(
  "has types for every entry, by the rules of a strict project (%s)",
  async (resolution) => {
    writeFileSync(
      join(app, "app.ts"),
      `import { Broker, type LocalMessage } from "mantou";
    import { Engine } from "mantou/core";
    import { decodeConnect } from "mantou/codec";
    import { definePlugin, z } from "mantou/plugin";
    export const plugin = definePlugin({
      name: "p", version: "1", description: "d", config: z.strictObject({ count: z.number().default(1) }),
      start(api) {
        const count: number = api.config.count;
        api.on("message.publish", (message) => void (message.payload = Buffer.from(message.topic + count)));
        // @ts-expect-error there is no such hook
        api.on("message.nothing", () => {});
      },
    });
    // @ts-expect-error it wants a seed and the time
    export const engine = () => new Engine({});
    // @ts-expect-error it is a function
    export const number: number = decodeConnect;
    await using broker = await Broker.start();
    const heard: LocalMessage[] = [];
    broker.subscribe("lamp/+", (message) => heard.push(message));
    broker.publish("lamp/1", "on");
    console.log(heard[0]?.payload.toString());`,
    );
    const strict = ["strict", "noUncheckedIndexedAccess", "exactOptionalPropertyTypes", "noUnusedLocals", "noEmit"];
    const compilerOptions = {
      ...Object.fromEntries(strict.map((name) => [name, true])),
      target: "esnext",
      module: resolution === "nodenext" ? "nodenext" : "esnext",
      moduleResolution: resolution,
      types: ["bun-types"],
      skipLibCheck: true,
    };
    writeFileSync(join(app, "package.json"), `{ "type": "module" }`);
    writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
    await run([process.execPath, "check", "--no-script"], { cwd: app });
    expect(await run([process.execPath, "app.ts"], { cwd: app })).toBe("on\n");
  },
);

test("has the command line: what `bunx mantou` runs", async () => {
  expect(await run([join(installed, "src/main.ts"), "--version"])).toBe(`mantou ${VERSION}\n`);
});

test.each([
  ["installed", join(installed, "src/main.ts"), VERSION],
  ["a checkout", resolve("src/main.ts"), `file:${resolve(".")}`],
])("makes a plugin that is right by its own rules (%s)", async (name, main, wanted) => {
  const plugin = join(app, name.replace(" ", "-"));
  await run([process.execPath, main, "plugin", "new", "my-thing", "--dir", plugin]);
  expect(await Bun.file(join(plugin, "package.json")).json()).toMatchObject({ devDependencies: { mantou: wanted } });
  // As `bun install` would, without a network.
  mkdirSync(join(plugin, "node_modules/@types"), { recursive: true });
  symlinkSync(resolve(main, "../.."), join(plugin, "node_modules/mantou"));
  symlinkSync(join(PACKAGES, "bun-types"), join(plugin, "node_modules/@types/bun"));
  await run([process.execPath, "check", "--no-script"], { cwd: plugin });
});
