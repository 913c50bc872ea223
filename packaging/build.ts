/**
 * `bun run build`: one executable with everything inside; on request for other systems, in archives and packages.
 *
 *   bun run build                                    dist/mantou, for this machine
 *   bun run build --target linux-arm64 --archive     repeatable; `all` is every target
 *   bun run build --archive --deb --rpm              dist/mantou-0.1.0-linux-x64.tar.gz, .deb, .rpm and SHA256SUMS
 *
 * For another system Bun takes its own executable for that system from the npm registry, once; `--bun FILE` names one that is
 * already there. What could not be built is said, and the exit code is 1.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { VERSION } from "#broker/version.ts";
import { documents } from "./files.ts";
import { makeDeb, makeRpm } from "./packages.ts";
import { has, run } from "./run.ts";
import { hostTarget, type Target, targets } from "./targets.ts";

/** What runs on threads of its own has to be named. */
const ENTRIES = ["src/main.ts", "src/store/writer-thread-sqlite.ts", "src/modules/journal-thread-sqlite.ts"];

interface Wish {
  readonly outDir: string;
  readonly bun: string | undefined;
  readonly isArchived: boolean;
  readonly packages: readonly ("deb" | "rpm")[];
  readonly dateSec: number;
}

async function compile(target: Target, outfile: string, bun: string | undefined): Promise<void> {
  mkdirSync(dirname(outfile), { recursive: true });
  const isHost = target.name === hostTarget()?.name && bun === undefined;
  await run([
    process.execPath,
    "build",
    "--compile",
    "--no-compile-autoload-bunfig",
    "--no-compile-autoload-dotenv",
    ...(isHost ? [] : [`--target=${target.bun}`]),
    ...(bun === undefined ? [] : [`--compile-executable-path=${resolve(bun)}`]),
    ...ENTRIES,
    "--outfile",
    outfile,
  ]);
}

/** Resolves with the archive's path. Its one folder has the executable, the licence and what there is to read. */
async function archive(target: Target, executable: string, { outDir, dateSec }: Wish): Promise<string> {
  const name = `mantou-${VERSION}-${target.name}`;
  const dir = mkdtempSync(join(tmpdir(), "mantou-archive-"));
  try {
    const folder = join(dir, name);
    mkdirSync(folder);
    cpSync(executable, join(folder, `mantou${target.suffix}`));
    for (const file of ["LICENSE", ...documents()]) cpSync(file, join(folder, file));
    const file = resolve(outDir, `${name}.${target.archive}`);
    if (target.archive === "zip") {
      rmSync(file, { force: true });
      await run(["zip", "-q", "-r", "-X", file, name], { cwd: dir });
    } else {
      const owner = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", `--mtime=@${dateSec}`];
      await run(["tar", ...owner, "-czf", file, "-C", dir, name]);
    }
    return file;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Resolves with the paths of what was made. */
async function build(target: Target, isOnly: boolean, wish: Wish): Promise<string[]> {
  const { outDir, bun, isArchived, packages, dateSec } = wish;
  const executable = join(outDir, isOnly ? "" : target.name, `mantou${target.suffix}`);
  await compile(target, executable, bun);
  const made = [executable];
  if (isArchived) made.push(await archive(target, executable, wish));
  for (const kind of packages) {
    const architecture = target[kind];
    if (architecture === undefined) continue;
    const make = kind === "deb" ? makeDeb : makeRpm;
    made.push(await make({ executable, architecture, outDir: resolve(outDir), dateSec }));
  }
  return made;
}

/** As `sha256sum` writes it, and `sha256sum --check` reads it. */
function writeChecksums(outDir: string, files: readonly string[]): void {
  const sum = (file: string): string => new Bun.CryptoHasher("sha256").update(readFileSync(file)).digest("hex");
  const lines = files.map((file) => `${sum(file)}  ${basename(file)}\n`);
  writeFileSync(join(outDir, "SHA256SUMS"), lines.toSorted().join(""));
}

function chosen(names: readonly string[]): readonly Target[] {
  if (names.includes("all")) return targets;
  if (names.length === 0) {
    const host = hostTarget();
    if (!host) throw new Error(`there is no target for ${process.platform} ${process.arch}`);
    return [host];
  }
  return names.map((name) => {
    const target = targets.find((each) => each.name === name);
    if (!target)
      throw new Error(`--target: found ${name}, allowed: ${targets.map((each) => each.name).join(", ")}, all`);
    return target;
  });
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      target: { type: "string", multiple: true, default: [] },
      out: { type: "string", default: "dist" },
      bun: { type: "string" },
      archive: { type: "boolean", default: false },
      deb: { type: "boolean", default: false },
      rpm: { type: "boolean", default: false },
    },
  });
  const packages = (["deb", "rpm"] as const).filter((kind) => values[kind]);
  const { SOURCE_DATE_EPOCH } = process.env;
  const dateSec = Number(SOURCE_DATE_EPOCH ?? (await run(["git", "log", "-1", "--format=%ct"]).catch(() => "0")));
  const wish = { outDir: values.out, bun: values.bun, isArchived: values.archive, packages, dateSec };
  for (const [program, isNeeded] of [
    ["dpkg-deb", values.deb],
    ["rpmbuild", values.rpm],
  ] as const)
    if (isNeeded && !has(program)) throw new Error(`${program} is not there: install it, or leave its package out`);
  const list = chosen(values.target);
  const released: string[] = [];
  let failedCount = 0;
  for (const target of list) {
    try {
      const [executable, ...rest] = await build(target, list.length === 1, wish);
      for (const file of [executable, ...rest]) process.stdout.write(`${file}\n`);
      released.push(...rest);
    } catch (error) {
      failedCount++;
      process.stderr.write(`${target.name}: ${(error as Error).message}\n`);
    }
  }
  if (released.length > 0) writeChecksums(values.out, released);
  return failedCount === 0 ? 0 : 1;
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`${(error as Error).message}\n`);
  return 1;
});
