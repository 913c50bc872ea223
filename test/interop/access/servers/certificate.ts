import { join } from "node:path";
import type { Run } from "./database-server.ts";

/** A certificate that signs itself, for 127.0.0.1 and no other name: `cert.pem`, `key.pem`. */
export async function certify(folder: string, run: Run): Promise<void> {
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const key = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-keyout",
    join(folder, "key.pem"),
  ];
  await run(["openssl", "req", "-x509", ...key, "-days", "2", "-out", join(folder, "cert.pem"), ...subject]);
}
