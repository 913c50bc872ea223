/** What executables are built for. */

export interface Target {
  readonly name: string;
  /** For `bun build --target`. */
  readonly bun: string;
  /** Of the executable's file. */
  readonly suffix: "" | ".exe";
  readonly archive: "tar.gz" | "zip";
  /** Architecture of Debian and RPM packages; undefined where there are none. */
  readonly deb?: string;
  readonly rpm?: string;
}

/** x64 without `baseline` needs a processor with AVX2 (2013 or later). */
export const targets: readonly Target[] = [
  { name: "linux-x64", bun: "bun-linux-x64", suffix: "", archive: "tar.gz", deb: "amd64", rpm: "x86_64" },
  { name: "linux-x64-baseline", bun: "bun-linux-x64-baseline", suffix: "", archive: "tar.gz" },
  { name: "linux-arm64", bun: "bun-linux-arm64", suffix: "", archive: "tar.gz", deb: "arm64", rpm: "aarch64" },
  { name: "linux-x64-musl", bun: "bun-linux-x64-musl", suffix: "", archive: "tar.gz" },
  { name: "linux-arm64-musl", bun: "bun-linux-arm64-musl", suffix: "", archive: "tar.gz" },
  { name: "darwin-x64", bun: "bun-darwin-x64", suffix: "", archive: "tar.gz" },
  { name: "darwin-arm64", bun: "bun-darwin-arm64", suffix: "", archive: "tar.gz" },
  { name: "windows-x64", bun: "bun-windows-x64", suffix: ".exe", archive: "zip" },
];

/** Of this machine; undefined where there is none. */
export function hostTarget(): Target | undefined {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  return targets.find(({ name }) => name === `${platform}-${process.arch}`);
}
