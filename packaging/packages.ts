/**
 * Debian and RPM packages of an executable, by Debian's own tools.
 *
 *   layTree ─┬─► DEBIAN/control, conffiles, md5sums, postinst, prerm ─► dpkg-deb ─► mantou_0.1.0_amd64.deb
 *            └─► mantou.spec                                         ─► rpmbuild ─► mantou-0.1.0-1.x86_64.rpm
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { VERSION } from "#broker/version.ts";
import { AFTER_INSTALL, BEFORE_REMOVAL, CONFIG_FILES, layTree } from "./files.ts";
import { run } from "./run.ts";

const SUMMARY = "MQTT broker";
const TEXT =
  "An MQTT broker that speaks 3.1, 3.1.1 and 5.0, keeps sessions on disk before it acknowledges, and is one executable.";
/** glibc that Bun is linked against. */
const GLIBC_MIN = "2.27";

interface Wish {
  readonly executable: string;
  readonly architecture: string;
  readonly outDir: string;
  readonly dateSec: number;
}

async function inScratch<T>(work: (dir: string) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), "mantou-package-"));
  try {
    return await work(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Resolves with the package's path. */
export function makeDeb({ executable, architecture, outDir, dateSec }: Wish): Promise<string> {
  return inScratch(async (dir) => {
    const root = join(dir, "tree"); // the folder's own mode becomes that of `/`
    const paths = await layTree(root, executable, dateSec);
    const kib = Math.ceil(paths.reduce((sum, path) => sum + statSync(join(root, path)).size, 0) / 1024);
    const control = join(root, "DEBIAN");
    mkdirSync(control, { mode: 0o755 });
    const put = (name: string, text: string, mode = 0o644): void => {
      writeFileSync(join(control, name), text);
      chmodSync(join(control, name), mode);
    };
    put(
      "control",
      `Package: mantou
Version: ${VERSION}
Architecture: ${architecture}
Maintainer: the mantou contributors <mantou@localhost>
Installed-Size: ${kib}
Depends: libc6 (>= ${GLIBC_MIN})
Recommends: systemd
Section: net
Priority: optional
Description: ${SUMMARY}
 ${TEXT}
`,
    );
    put("conffiles", CONFIG_FILES.map((path) => `${path}\n`).join(""));
    const md5 = (path: string): string =>
      new Bun.CryptoHasher("md5").update(readFileSync(join(root, path))).digest("hex");
    const packed = paths.filter((path) => !CONFIG_FILES.includes(path));
    put("md5sums", packed.map((path) => `${md5(path)}  ${path.slice(1)}\n`).join(""));
    put("postinst", `#!/bin/sh\nset -e\n[ "$1" = configure ] || exit 0\n${AFTER_INSTALL}\n`, 0o755);
    put("prerm", `#!/bin/sh\nset -e\n[ "$1" = remove ] || exit 0\n${BEFORE_REMOVAL}\n`, 0o755);
    const file = join(outDir, `mantou_${VERSION}_${architecture}.deb`);
    await run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", root, file], {
      env: { SOURCE_DATE_EPOCH: String(dateSec) },
    });
    return file;
  });
}

/** Resolves with the package's path. */
export function makeRpm({ executable, architecture, outDir, dateSec }: Wish): Promise<string> {
  return inScratch(async (dir) => {
    const paths = await layTree(join(dir, "tree"), executable, dateSec);
    const spec = join(dir, "mantou.spec");
    const listed = paths.map((path) => (CONFIG_FILES.includes(path) ? `%config(noreplace) ${path}` : path));
    const docs = paths.filter((path) => path.startsWith("/usr/share/doc/")).map(dirname);
    const folders = [...new Set(docs)].toSorted().map((path) => `%dir ${path}`);
    writeFileSync(
      spec,
      `Name: mantou
Version: ${VERSION}
Release: 1
Summary: ${SUMMARY}
License: Apache-2.0
AutoReqProv: no
Requires: glibc >= ${GLIBC_MIN}
%description
${TEXT}
%install
cp -a ${join(dir, "tree")}/. %{buildroot}/
%post
${AFTER_INSTALL}
%preun
if [ "$1" = 0 ]; then
${BEFORE_REMOVAL}
fi
%files
%dir /etc/mantou
${folders.join("\n")}
${listed.join("\n")}
`,
    );
    // The executable carries the program behind its last section: nothing may be stripped off.
    const off = ["__os_install_post %{nil}", "debug_package %{nil}", "_build_id_links none"].flatMap((words) => [
      "--define",
      words,
    ]);
    await run(
      [
        "rpmbuild",
        "-bb",
        "--target",
        `${architecture}-linux`,
        "--define",
        `_topdir ${dir}`,
        "--define",
        `_rpmdir ${outDir}`,
        "--define",
        "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        "--define",
        "_binary_payload w3.zstdio",
        ...off,
        spec,
      ],
      { env: { SOURCE_DATE_EPOCH: String(dateSec) } },
    );
    return join(outDir, `mantou-${VERSION}-1.${architecture}.rpm`);
  });
}
