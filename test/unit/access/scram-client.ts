import { createHash, createHmac, pbkdf2Sync } from "node:crypto";

/** The client's side, written from RFC 5802 §3. */
export function clientFinal(
  password: string,
  first: string,
  reply: string,
  digest: string,
  change: (final: string) => string = (x) => x,
) {
  const { nonce, salt, iterations } = /^r=(?<nonce>[^,]+),s=(?<salt>[^,]+),i=(?<iterations>\d+)$/.exec(reply)!.groups!;
  const bytes = digest === "sha256" ? 32 : 64;
  const salted = pbkdf2Sync(password, Buffer.from(salt!, "base64"), Number(iterations), bytes, digest);
  const hmac = (key: Buffer, text: string): Buffer => createHmac(digest, key).update(text).digest();
  const header = /^[nyp][^,]*,[^,]*,/.exec(first)![0];
  const final = change(`c=${Buffer.from(header).toString("base64")},r=${nonce}`);
  const signed = `${first.slice(header.length)},${reply},${final}`;
  const clientKey = hmac(salted, "Client Key");
  const signature = hmac(createHash(digest).update(clientKey).digest(), signed);
  const proof = Buffer.from(clientKey.map((byte, i) => byte ^ signature[i]!));
  const expected = `v=${hmac(hmac(salted, "Server Key"), signed).toString("base64")}`;
  return { data: Buffer.from(`${final},p=${proof.toString("base64")}`), expected };
}
