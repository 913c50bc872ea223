/**
 * `bun run build` as a release is made, for this machine: the executable is run, the archive unpacked, the packages inspected, installed
 * into a scratch root by dpkg and rpm, and run from there. For other systems only the table of targets is looked at.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VERSION } from "#broker/version.ts";
import { serviceOfPackage } from "#packaging/files.ts";
import { has, run } from "#packaging/run.ts";
import { hostTarget, targets } from "#packaging/targets.ts";
import { startBroker } from "#test/support/broker-process.ts";
import { harnessOf, tcpTarget } from "#test/support/harness.ts";

setDefaultTimeout(180_000);

const host = hostTarget();
const isLinux = process.platform === "linux";
const hasDeb = isLinux && has("dpkg-deb") && has("dpkg") && host?.deb !== undefined;
const hasRpm = isLinux && has("rpmbuild") && host?.rpm !== undefined;
const dir = mkdtempSync(join(tmpdir(), "mantou-build-"));
const executable = join(dir, "mantou");
const deb = join(dir, `mantou_${VERSION}_${host?.deb}.deb`);
const rpm = join(dir, `mantou-${VERSION}-1.${host?.rpm}.rpm`);

beforeAll(async () => {
  const packages = [...(hasDeb ? ["--deb"] : []), ...(hasRpm ? ["--rpm"] : [])];
  await run([process.execPath, "packaging/build.ts", "--archive", "--out", dir, ...packages]);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Starts it, keeps a message, ends it, and finds the message again. */
async function smoke(command: string, data: string, ...more: readonly string[]): Promise<void> {
  const flags = ["--data", data, ...more];
  for (const round of [1, 2]) {
    const broker = await startBroker(flags, { command: [command] });
    const harness = harnessOf(tcpTarget(broker.url));
    const client = await harness.connect();
    if (round === 1) await client.publish("kept", "x", { qos: 1, retain: true });
    else {
      await client.subscribe("kept", 1);
      await client.expect("publish", { topic: "kept", retain: true });
    }
    await harness.stop();
    await broker.stop();
  }
}

describe("the executable", () => {
  test("says its version, runs, keeps messages on disk and ends with 0", async () => {
    expect(await run([executable, "--version"])).toBe(`mantou ${VERSION}\n`);
    await smoke(executable, join(dir, "data"));
    await smoke(executable, join(dir, "workers"), "--workers", "2");
  });

  test("has the dashboard in it, with headers as from source", async () => {
    const broker = await startBroker(["--listen", "tcp://127.0.0.1:0", "--listen", "admin://127.0.0.1:0"], {
      command: [executable],
    });
    const admin = broker.addresses.get("admin")!;
    const page = await fetch(admin);
    expect(page.headers.get("content-security-policy")).toContain("default-src 'none'; script-src 'self'");
    const files = [...(await page.text()).matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path!);
    expect(files.map((path) => path.replace(/.*\./, "")).toSorted()).toEqual(["css", "js", "svg"]);
    for (const path of files) {
      const file = await fetch(`${admin}${path}`);
      expect([file.status, file.headers.get("cache-control")]).toEqual([200, "public, max-age=31536000, immutable"]);
      expect((await file.text()).length).toBeGreaterThan(100);
    }
    await broker.stop();
  });

  test("does not read what lies in its working directory", async () => {
    const cwd = join(dir, "hostile");
    mkdirSync(cwd);
    writeFileSync(join(cwd, "bunfig.toml"), `preload = ["./evil.js"]\n`);
    writeFileSync(join(cwd, "evil.js"), `console.log("evil"); process.exit(66);\n`);
    writeFileSync(join(cwd, ".env"), "MANTOU__LOG__LEVEL=nonsense\n");
    expect(await run([executable, "config", "check"], { cwd })).not.toContain("evil");
  });
});

describe("the archive", () => {
  test("has one folder with the executable and what belongs to it, and a right checksum", async () => {
    const name = `mantou-${VERSION}-${host!.name}`;
    await run(["sha256sum", "--check", "--strict", "SHA256SUMS"], { cwd: dir });
    expect(readFileSync(join(dir, "SHA256SUMS"), "utf8")).toContain(`  ${name}.tar.gz\n`);
    await run(["tar", "-xzf", join(dir, `${name}.tar.gz`), "-C", dir]);
    for (const file of ["LICENSE", "README.md", "CHANGELOG.md", "docs/mantou.example.yaml", "docs/plugins.md"])
      expect(existsSync(join(dir, name, file))).toBe(true);
    expect(await run([join(dir, name, "mantou"), "--version"])).toBe(`mantou ${VERSION}\n`);
  });
});

/** What both kinds of packages put into a root. */
async function expectInstalled(root: string): Promise<void> {
  expect(statSync(join(root, "usr/bin/mantou")).mode & 0o7777).toBe(0o755);
  expect(await run([join(root, "usr/bin/mantou"), "--version"])).toBe(`mantou ${VERSION}\n`);
  await run([join(root, "usr/bin/mantou"), "config", "check", "--config", join(root, "etc/mantou/mantou.yaml")]);
  const page = await run(["gzip", "-dc", join(root, "usr/share/man/man1/mantou.1.gz")]);
  for (const command of ["start", "config check", "store backup", "users add", "bans add"])
    expect(page).toContain(`.SS "${command.replaceAll("-", "\\-")}`);
  expect(readFileSync(join(root, "usr/lib/systemd/system/mantou.service"), "utf8")).toBe(serviceOfPackage());
  // The pages that the first page names are there.
  const docs = join(root, "usr/share/doc/mantou");
  const links = readFileSync(join(docs, "README.md"), "utf8").matchAll(/\]\((docs\/[^)#]+)/g);
  for (const [, page] of links) expect([page, existsSync(join(docs, page!))]).toEqual([page, true]);
  await smoke(join(root, "usr/bin/mantou"), join(root, "var/lib/mantou"));
}

describe.skipIf(!hasDeb)(`the Debian package${hasDeb ? "" : " (needs dpkg-deb)"}`, () => {
  const root = join(dir, "debian");
  // Its scripts are run without chroot, with the scratch root in DPKG_ROOT.
  const dpkg = (...args: string[]): Promise<string> =>
    run([
      "dpkg",
      `--root=${root}`,
      "--force-script-chrootless",
      "--force-not-root",
      "--force-depends",
      "--log=/dev/null",
      ...args,
    ]);

  test("says what it is, and has nothing that is not root's", async () => {
    expect((await run(["dpkg-deb", "--field", deb, "Package", "Version", "Architecture"])).split("\n")).toEqual([
      "Package: mantou",
      `Version: ${VERSION}`,
      `Architecture: ${host!.deb}`,
      "",
    ]);
    const lines = (await run(["dpkg-deb", "--contents", deb])).trim().split("\n");
    for (const line of lines) expect(line).toMatch(/^(drwxr-xr-x|-rw-r--r--|-rwxr-xr-x) root\/root /);
  });

  test("installs, runs, is upgraded without touching the configuration, and goes", async () => {
    mkdirSync(join(root, "var/lib/dpkg/info"), { recursive: true });
    mkdirSync(join(root, "var/lib/dpkg/updates"));
    for (const name of ["status", "available"]) writeFileSync(join(root, "var/lib/dpkg", name), "");
    await dpkg("--install", deb);
    expect(await dpkg("--status", "mantou")).toContain("Status: install ok installed");
    await expectInstalled(root);
    await run(["md5sum", "--check", "--quiet", join(root, "var/lib/dpkg/info/mantou.md5sums")], { cwd: root });
    const config = join(root, "etc/mantou/mantou.yaml");
    writeFileSync(config, "node: { data: /srv/mantou }\n");
    await dpkg("--force-confold", "--install", deb);
    expect(readFileSync(config, "utf8")).toBe("node: { data: /srv/mantou }\n");
    await dpkg("--remove", "mantou");
    expect(existsSync(join(root, "usr/bin/mantou"))).toBe(false);
    expect(existsSync(config)).toBe(true);
    await dpkg("--purge", "mantou");
    expect(existsSync(config)).toBe(false);
  });
});

describe.skipIf(!hasRpm)(`the RPM package${hasRpm ? "" : " (needs rpmbuild)"}`, () => {
  const root = join(dir, "rpm");
  const tool = (...args: string[]): Promise<string> => run(["rpm", "--root", root, ...args]);

  test("says what it is, and what of it is configuration", async () => {
    const query = (...args: string[]): Promise<string> => run(["rpm", "--query", "--package", rpm, ...args]);
    expect(await query("--queryformat", "%{NAME} %{VERSION} %{ARCH} %{LICENSE}")).toBe(
      `mantou ${VERSION} ${host!.rpm} Apache-2.0`,
    );
    expect(await query("--configfiles")).toBe("/etc/mantou/mantou.yaml\n");
    expect(await query("--list")).not.toContain(".build-id");
    expect(await query("--queryformat", "[%{FILEUSERNAME} %{FILEGROUPNAME}\\n]")).toMatch(/^(root root\n)+$/);
  });

  test("installs, runs, and goes", async () => {
    mkdirSync(root);
    // Debian's own database knows no glibc; the scripts want a shell in the root.
    await tool("--install", "--nodeps", "--noscripts", rpm);
    expect(await tool("--verify", "--nodeps", "mantou")).toBe("");
    await expectInstalled(root);
    await tool("--erase", "--noscripts", "mantou");
    expect(existsSync(join(root, "usr/bin/mantou"))).toBe(false);
  });
});

test.skipIf(!has("mandoc") || !hasDeb)(`the manual page is one${has("mandoc") ? "" : " (needs mandoc)"}`, async () => {
  const page = join(dir, "mantou.1");
  writeFileSync(page, Bun.gunzipSync(await Bun.file(await unpacked("usr/share/man/man1/mantou.1.gz")).bytes()));
  expect(await run(["mandoc", "-T", "lint", "-W", "warning", page])).toBe("");
  expect(await run(["mandoc", "-T", "utf8", page])).toContain("User Commands");
});

/** A file of the Debian package. */
async function unpacked(path: string): Promise<string> {
  const to = join(dir, "unpacked");
  await run(["dpkg-deb", "--extract", deb, to]);
  return join(to, path);
}

test.skipIf(!has("systemd-analyze"))(
  "systemd finds no fault in the unit, but that the program is not installed here",
  async () => {
    const unit = join(dir, "mantou.service");
    writeFileSync(unit, serviceOfPackage().replace("/usr/bin/mantou", executable));
    expect(
      await run(["systemd-analyze", "verify", unit]).catch((error: unknown) => (error as Error).message),
    ).not.toMatch(/mantou\.service:\d+/);
  },
);

test("the Dockerfile copies what the build makes, runs as nobody in particular, and starts what is there", async () => {
  const lines = readFileSync("packaging/Dockerfile", "utf8")
    .split("\n")
    .filter((line) => /^[A-Z]+ /.test(line));
  const of = (word: string): string => lines.find((line) => line.startsWith(`${word} `))!.slice(word.length + 1);
  expect(lines[0]).toMatch(/^FROM debian:/);
  const [, from, to] = of("COPY").split(" ");
  expect(from).toBe("dist/mantou");
  expect(readFileSync(".dockerignore", "utf8").split("\n")).toEqual(["*", `!${from}`, ""]);
  expect(JSON.parse(of("ENTRYPOINT"))).toEqual([to]);
  expect(lines.findIndex((line) => line.startsWith("USER mantou"))).toBeGreaterThan(
    lines.findIndex((line) => line.startsWith("RUN useradd")),
  );
  const command = JSON.parse(of("CMD")) as string[];
  expect(command[2]).toBe(of("VOLUME"));
  await run([executable, "config", "check", ...command.slice(1)]);
});

test("every target has a name of its own, and this machine's is among them", () => {
  expect(host).toBeDefined();
  for (const key of ["name", "bun"] as const)
    expect(new Set(targets.map((target) => target[key])).size).toBe(targets.length);
});

test("an application compiled with a broker inside keeps its messages on disk", async () => {
  const app = join(dir, "app");
  const installed = join(app, "node_modules/mantou");
  mkdirSync(installed, { recursive: true });
  for (const name of ["src", "package.json"]) cpSync(name, join(installed, name), { recursive: true });
  symlinkSync(join(process.cwd(), "node_modules"), join(installed, "node_modules"));
  writeFileSync(
    join(app, "app.ts"),
    `import { Broker } from "mantou";
    const broker = await Broker.start({ node: { data: "./data" } });
    broker.subscribe("count", ({ payload }) => console.log(payload.toString()));
    await broker.publishSafely("count", String(Date.now()), { isRetain: true });
    await broker.close();`,
  );
  const entries = ["app.ts", "node_modules/mantou/src/store/writer-thread-sqlite.ts"];
  await run([process.execPath, "build", "--compile", ...entries, "--outfile", "app"], { cwd: app });
  const first = (await run(["./app"], { cwd: app })).trim();
  const second = (await run(["./app"], { cwd: app })).trim().split("\n");
  expect(second).toHaveLength(2);
  expect(second[0]).toBe(first);
});
