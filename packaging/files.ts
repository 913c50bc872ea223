/** What stands beside the executable in a package, and where. The same tree for Debian and RPM. */
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { manPage } from "./man.ts";

const CONFIG = `# mantou: what is written here takes the place of a default. docs/configuration.md has every key; see also
#   mantou config show --config /etc/mantou/mantou.yaml      what is in effect, and where it comes from
#   mantou config check --config /etc/mantou/mantou.yaml
#
# listeners:
#   - { name: tcp, type: tcp, bind: 0.0.0.0:1883 }
node:
  data: /var/lib/mantou
`;

/** For systemd-sysusers: whom the service runs as. */
const SYSUSERS = `u mantou - "mantou MQTT broker" /var/lib/mantou\n`;

/** Paths of what an administrator may change and an upgrade keeps. */
export const CONFIG_FILES = ["/etc/mantou/mantou.yaml"];

/** After installation and removal, for both kinds of packages. `DPKG_ROOT` is set where dpkg installs into another tree. */
export const AFTER_INSTALL = `if command -v systemd-sysusers >/dev/null 2>&1; then
  systemd-sysusers \${DPKG_ROOT:+--root="$DPKG_ROOT"} mantou.conf || true
fi
if [ -z "\${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi`;

/** Running brokers go on until somebody restarts them: an upgrade cuts nobody off. */
export const BEFORE_REMOVAL = `if [ -z "\${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then systemctl disable --now mantou || true; fi`;

/** What there is to read, from the top of the repository: the first pages, and docs/. */
export function documents(): string[] {
  const files = readdirSync("docs", { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const pages = files.map(({ parentPath, name }) => join(parentPath, name)).toSorted();
  return ["README.md", "CHANGELOG.md", ...pages];
}

/** Lays the tree below `root`; returns the paths of its files, from its top. */
export async function layTree(root: string, executable: string, dateSec: number): Promise<string[]> {
  const paths: string[] = [];
  process.umask(0o022);
  const put = (path: string, content: string | Uint8Array, mode = 0o644): void => {
    const at = join(root, path);
    mkdirSync(dirname(at), { recursive: true, mode: 0o755 });
    writeFileSync(at, content);
    chmodSync(at, mode);
    paths.push(path);
  };
  mkdirSync(join(root, "usr/bin"), { recursive: true, mode: 0o755 });
  cpSync(executable, join(root, "usr/bin/mantou"));
  chmodSync(join(root, "usr/bin/mantou"), 0o755);
  paths.push("/usr/bin/mantou");
  put("/etc/mantou/mantou.yaml", CONFIG);
  put("/usr/lib/systemd/system/mantou.service", serviceOfPackage());
  put("/usr/lib/sysusers.d/mantou.conf", SYSUSERS);
  put("/usr/share/man/man1/mantou.1.gz", gzipSync(await manPage(dateSec), { level: 9 }));
  put("/usr/share/doc/mantou/copyright", copyright());
  for (const name of documents()) put(`/usr/share/doc/mantou/${name}`, readFileSync(name));
  return paths;
}

/** The unit of tuning/, which runs a checkout, with the places of a package. */
export function serviceOfPackage(): string {
  const unit = readFileSync("tuning/mantou.service", "utf8");
  const places: readonly (readonly [from: RegExp, to: string])[] = [
    [
      /^# mantou as a systemd service\.[\s\S]*?(?=\n\[Unit\])/,
      "# mantou as a systemd service: systemctl enable --now mantou. To change a line, write it in a\n# drop-in (systemctl edit mantou) rather than here.\n",
    ],
    [/^Documentation=.*$/m, "Documentation=man:mantou(1) file:///usr/share/doc/mantou/README.md"],
    [/^WorkingDirectory=.*$/m, "WorkingDirectory=/var/lib/mantou"],
    [/^ExecStart=.*$/m, "ExecStart=/usr/bin/mantou start --config /etc/mantou/mantou.yaml"],
  ];
  return places.reduce((text, [from, to]) => {
    if (!from.test(text)) throw new Error(`tuning/mantou.service has no ${from.source}`);
    return text.replace(from, to);
  }, unit);
}

function copyright(): string {
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: mantou

Files: *
Copyright: the mantou contributors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
Comment:
 The executable contains Bun, which has licences of its own: https://bun.com/docs/project/licensing
`;
}
