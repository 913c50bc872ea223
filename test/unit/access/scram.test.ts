import { describe, expect, test } from "bun:test";
import { createHash, createHmac, pbkdf2Sync } from "node:crypto";
import type { ScramRow } from "#access/access-db.ts";
import { beginScram, finishScram, makeScramKeys, SCRAM_MECHANISMS } from "#access/scram.ts";
import { clientFinal } from "./scram-client.ts";

const keys = await makeScramKeys(Buffer.from("pencil"), 5000);
const keysOf =
  (mechanism: string) =>
  (username: string): ScramRow | undefined =>
    username === "user" || username === "a,b=c" ? keys.find((row) => row.mechanism === mechanism) : undefined;

for (const mechanism of SCRAM_MECHANISMS) {
  const digest = mechanism === "SCRAM-SHA-256" ? "sha256" : "sha512";
  const begin = (first: string | undefined, secret = Buffer.from("ours")) =>
    beginScram(first === undefined ? first : Buffer.from(first), mechanism, { keysOf: keysOf(mechanism), secret });

  describe(mechanism, () => {
    test("who knows the password is let in and told so in a way only the broker can", () => {
      for (const first of ["n,,n=user,r=abc", "y,,n=user,r=abc", "n,a=user,n=user,r=abc", "n,,n=a=2Cb=3Dc,r=abc"]) {
        const { state, reply } = begin(first)!;
        expect(reply.toString()).toStartWith("r=abc");
        const { data, expected } = clientFinal("pencil", first, reply.toString(), digest);
        expect(finishScram(data, mechanism, state)?.toString()).toBe(expected);
      }
    });

    test("a wrong password, an unknown user, another nonce, header or exchange are refused", () => {
      const first = "n,,n=user,r=abc";
      const run = (password: string, opening: string, change?: (final: string) => string) => {
        const { state, reply } = begin(opening)!;
        return finishScram(clientFinal(password, opening, reply.toString(), digest, change).data, mechanism, state);
      };
      expect(run("Pencil", first)).toBeUndefined();
      expect(run("pencil", "n,,n=nobody,r=abc")).toBeUndefined();
      expect(run("pencil", first, (final) => `${final}x`)).toBeUndefined();
      expect(run("pencil", first, (final) => final.replace("biws", "eSws"))).toBeUndefined();
      const [one, two] = [begin(first)!, begin(first)!];
      const { data } = clientFinal("pencil", first, one.reply.toString(), digest);
      expect(finishScram(data, mechanism, two.state)).toBeUndefined();
      for (const text of ["", "c=biws", `c=biws,r=x,p=`, "p=AAAA"])
        expect(finishScram(Buffer.from(text), mechanism, one.state)).toBeUndefined();
      expect(finishScram(undefined, mechanism, one.state)).toBeUndefined();
    });

    test("nobody learns from the first answer who exists", () => {
      const saltOf = (name: string): string => /s=([^,]+)/.exec(begin(`n,,n=${name},r=abc`)!.reply.toString())![1]!;
      expect(saltOf("nobody")).toBe(saltOf("nobody"));
      expect(saltOf("nobody")).not.toBe(saltOf("somebody"));
      const others = begin("n,,n=nobody,r=abc", Buffer.from("another's"))!;
      expect(others.reply.toString()).not.toContain(saltOf("nobody"));
      expect(saltOf("nobody")).toHaveLength(saltOf("user").length);
    });

    test("what is malformed, asks for channel binding or for another identity is refused at once", () => {
      for (const first of [
        "",
        "n",
        "n,,",
        "n,,n=,r=a",
        "n,,n=user",
        "n,,n=user,r=",
        "p=tls-unique,,n=user,r=a",
        "n,a=admin,n=user,r=a",
        "n,,n=us=er,r=a",
        "n,,m=x,n=user,r=a",
        `n,,n=user,r=${"a".repeat(5000)}`,
      ])
        expect({ first, begun: begin(first) }).toEqual({ first, begun: undefined });
      expect(begin(undefined)).toBeUndefined();
    });
  });
}

test("RFC 7677's example", () => {
  const mechanism = "SCRAM-SHA-256";
  const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");
  const salted = pbkdf2Sync("pencil", salt, 4096, 32, "sha256");
  const hmac = (key: Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();
  const storedKey = createHash("sha256").update(hmac(salted, "Client Key")).digest();
  const row: ScramRow = { mechanism, salt, iterations: 4096, storedKey, serverKey: hmac(salted, "Server Key") };
  const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
  const bare = "n=user,r=rOprNGfwEbeRWgbNEkqO";
  const signed = `${bare},r=${nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`;
  const state = { username: "user", header: "n,,", nonce, signed, keys: row, isKnown: true };
  const final = `c=biws,r=${nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=`;
  expect(finishScram(Buffer.from(final), mechanism, state)?.toString()).toBe(
    "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
  );
});
