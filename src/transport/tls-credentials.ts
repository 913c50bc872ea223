/**
 * A TLS listener's certificates: read from files, chosen by server name, read again when a file has changed.
 *
 *   files ─► contexts: first certificate (the default) │ exact names │ *.names     one BoringSSL context each
 *
 * The names of a certificate are its DNS names, so nobody writes them down twice. Files are compared by content every few
 * seconds, which sees renames, links that are moved and edits alike. What does not fit together (a new certificate whose key is
 * still the old one) changes nothing: the old certificates serve until the files are right. Connections never notice.
 */
import { constants, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createSecureContext, type SecureContext } from "node:tls";
import { MantouError } from "#base/error.ts";

type Verify = "none" | "optional" | "required";

/** Paths of PEM files, and how strict to be. */
export interface TlsOptions {
  /** The first is the default, for clients that name no server or an unknown one. */
  readonly certificates: readonly { readonly cert: string; readonly key: string }[];
  /** Whose client certificates are trusted. */
  readonly ca?: string | undefined;
  readonly crl?: string | undefined;
  readonly verify: Verify;
  readonly versionMin: "1.2" | "1.3";
  /** OpenSSL's list; TLS 1.2 only. */
  readonly ciphers?: string | undefined;
}

/** What Bun.serve takes for each certificate. */
export interface ServeTls {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly serverName?: string;
  readonly ciphers?: string;
  readonly secureOptions?: number;
}

type Contents = ReadonlyMap<string, Buffer>;

interface Built {
  readonly contexts: readonly SecureContext[];
  /** Index of the certificate by exact name, or by `*.rest`. */
  readonly byName: ReadonlyMap<string, number>;
}

export class TlsCredentials {
  private built: Built;
  private contents: Contents;
  private readonly files: readonly string[];
  /** What the configuration calls each of them. */
  private readonly keys: ReadonlyMap<string, string>;

  /** Throws MantouError `certificate_invalid`. */
  constructor(readonly options: TlsOptions) {
    this.keys = keysOf(options);
    this.files = [...this.keys.keys()];
    this.contents = new Map(this.files.map((file) => [file, this.readNow(file)]));
    this.built = build(options, this.contents);
  }

  get isNameNeeded(): boolean {
    return this.built.contexts.length > 1;
  }

  /** For `secureContext` of an upgrade; `serverName` in lower case. */
  contextFor(serverName: string): unknown {
    const { byName, contexts } = this.built;
    const wild = `*${serverName.slice(Math.max(0, serverName.indexOf(".")))}`;
    const context = contexts[byName.get(serverName) ?? byName.get(wild) ?? 0];
    return (context as SecureContext & { context: unknown }).context;
  }

  /** The same for Bun.serve. */
  forServe(): ServeTls[] {
    const { certificates, ciphers, versionMin } = this.options;
    const common = {
      ...(ciphers !== undefined && { ciphers }),
      ...(versionMin === "1.3" && { secureOptions: constants.SSL_OP_NO_TLSv1_2 }),
    };
    const pairs = certificates.map(({ cert, key }) => ({
      cert: this.contents.get(cert)!,
      key: this.contents.get(key)!,
      ...common,
    }));
    const named = [...this.built.byName].map(([serverName, index]) => ({ serverName, ...pairs[index] }));
    return [pairs[0], ...(pairs.length > 1 ? named : [])];
  }

  /**
   * Reads the files again; true when something has changed and is in use now. Throws MantouError `certificate_invalid` when what is
   * there now cannot be used: the old certificates stay.
   */
  async refresh(): Promise<boolean> {
    const contents = new Map<string, Buffer>();
    for (const file of this.files) {
      try {
        contents.set(file, await readFile(file));
      } catch (error) {
        throw this.unreadable(file, error);
      }
    }
    if (this.files.every((file) => contents.get(file)!.equals(this.contents.get(file)!))) return false;
    this.built = build(this.options, contents);
    this.contents = contents;
    return true;
  }

  private readNow(file: string): Buffer {
    try {
      return readFileSync(file);
    } catch (error) {
      throw this.unreadable(file, error);
    }
  }

  private unreadable(file: string, error: unknown): MantouError {
    const { code, message } = error as NodeJS.ErrnoException;
    const words = `${this.keys.get(file)}: ${file}: cannot be read: ${code ?? message}`;
    return new MantouError("certificate_invalid", words, { file });
  }
}

function keysOf({ certificates, ca, crl }: TlsOptions): Map<string, string> {
  const keys = new Map<string, string>();
  const put = (file: string | undefined, key: string): void => {
    if (file !== undefined && !keys.has(file)) keys.set(file, key);
  };
  for (const [index, { cert, key }] of certificates.entries()) {
    const list = index === 0 ? "" : `moreCertificates.${index - 1}.`;
    put(cert, `${list}cert`);
    put(key, `${list}key`);
  }
  put(ca, "ca");
  put(crl, "crl");
  return keys;
}

function build(options: TlsOptions, contents: Contents): Built {
  const { certificates, ca, crl, ciphers, versionMin } = options;
  const byName = new Map<string, number>();
  const contexts = certificates.map(({ cert, key }, index) => {
    const names = namesOf(cert, contents.get(cert)!);
    for (const name of names) if (!byName.has(name)) byName.set(name, index);
    try {
      return createSecureContext({
        cert: contents.get(cert)!,
        key: contents.get(key)!,
        minVersion: `TLSv${versionMin}`,
        ...(ca !== undefined && { ca: contents.get(ca)! }),
        ...(crl !== undefined && { crl: contents.get(crl)! }),
        ...(ciphers !== undefined && { ciphers }),
      });
    } catch (error) {
      const files = [cert, key, ca, crl].filter((file) => file !== undefined).join(", ");
      throw new MantouError("certificate_invalid", `${files}: ${reasonOf(error)}`, { cert, key });
    }
  });
  return { contexts, byName };
}

const REASONS: Readonly<Record<string, string>> = {
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: "the key does not belong to the certificate",
  ERR_OSSL_PEM_NO_START_LINE: "found no PEM text, allowed: certificates and an unencrypted key in PEM",
  ERR_SSL_NO_CIPHER_MATCH: "ciphers names none that is known",
};

function reasonOf(error: unknown): string {
  const { code = "", message } = error as NodeJS.ErrnoException;
  return REASONS[code] ?? `cannot be used: ${message}`;
}

/** The DNS names that a certificate is for, in lower case. */
function namesOf(file: string, pem: Buffer): string[] {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch {
    throw new MantouError("certificate_invalid", `${file}: found no certificate, allowed: a certificate in PEM`, {
      file,
    });
  }
  const names = (certificate.subjectAltName ?? "").split(", ").filter((name) => name.startsWith("DNS:"));
  return names.map((name) => name.slice(4).toLowerCase());
}
