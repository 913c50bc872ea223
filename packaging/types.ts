/**
 * `types/`: declarations of the package's entries, made when it is packed and gone afterwards.
 *
 * The sources are TypeScript and run as they are, but whoever imports them should not have them checked by the rules of another project.
 * What is `#core/x.ts` within the package is a relative path in them.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import manifest from "../package.json" with { type: "json" };
import { run } from "./run.ts";

const ROOT = resolve(import.meta.dir, "..");
const OUT = join(ROOT, "types");

const folder = mkdtempSync(join(tmpdir(), "mantou-types-"));
try {
  rmSync(OUT, { recursive: true, force: true });
  const project = join(folder, "tsconfig.json");
  writeFileSync(
    project,
    JSON.stringify({
      extends: join(ROOT, "tsconfig.json"),
      compilerOptions: {
        noEmit: false,
        declaration: true,
        emitDeclarationOnly: true,
        rootDir: join(ROOT, "src"),
        outDir: OUT,
        typeRoots: [join(ROOT, "node_modules")],
      },
      include: [],
      files: Object.values(manifest.exports).map((entry) => join(ROOT, entry.default)),
    }),
  );
  await run([process.execPath, "--bun", join(ROOT, "node_modules/.bin/tsc"), "-p", project]);
  for (const name of readdirSync(OUT, { recursive: true, encoding: "utf8" }).filter((each) => each.endsWith(".d.ts"))) {
    const path = join(OUT, name);
    const text = readFileSync(path, "utf8").replace(/"#([a-z]+\/[^"]+)"/g, (_, inside: string) => {
      const way = relative(dirname(path), join(OUT, inside));
      return `"${way.startsWith(".") ? way : `./${way}`}"`;
    });
    writeFileSync(path, text);
  }
} finally {
  rmSync(folder, { recursive: true });
}
