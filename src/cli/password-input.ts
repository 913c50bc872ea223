/**
 * A password from standard input: typed at a terminal, which does not show it, twice; or everything up to the end of a pipe or
 * file, without one line end.
 */
import { MantouError } from "#base/error.ts";

/** What a password comes from, as `process.stdin` is. */
export interface PasswordInput extends AsyncIterable<Uint8Array> {
  /** Somebody types. */
  readonly isTTY?: boolean;
  /** In raw mode a terminal shows nothing and hands over each key. */
  setRawMode?(isRaw: boolean): unknown;
}

const PASSWORD_BYTES_MAX = 65_535;
const RETURN = 0x0d;
const LINE_FEED = 0x0a;
const CONTROL_C = 0x03;
const CONTROL_D = 0x04;
const CONTROL_H = 0x08;
const CONTROL_U = 0x15;
const DELETE = 0x7f;

/** 1 to 65,535 bytes, or MantouError `password_invalid` or `cancelled`. `show` prints a prompt. */
export async function readPassword(source: PasswordInput, show: (text: string) => void): Promise<Buffer> {
  const password = source.isTTY ? await askTwice(source, show) : await readAll(source);
  if (password.length > 0 && password.length <= PASSWORD_BYTES_MAX) return password;
  const found = password.length === 0 ? "nothing" : "more";
  throw new MantouError("password_invalid", `password: found ${found}, allowed: 1 to ${PASSWORD_BYTES_MAX} bytes`);
}

/** Up to the end of the input, not much more than is allowed. */
async function readAll(source: PasswordInput): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > PASSWORD_BYTES_MAX + "\r\n".length) break;
  }
  const all = Buffer.concat(chunks);
  const end = all.at(-1) !== LINE_FEED ? 0 : all.at(-2) === RETURN ? 2 : 1;
  return all.subarray(0, all.length - end);
}

async function askTwice(source: PasswordInput, show: (text: string) => void): Promise<Buffer> {
  const keys = keysOf(source);
  source.setRawMode?.(true);
  try {
    const first = await typedLine("Password: ", keys, show);
    const second = await typedLine("Once more: ", keys, show);
    if (first.equals(second)) return first;
    throw new MantouError("password_invalid", "password: found two different ones, allowed: the same twice");
  } finally {
    source.setRawMode?.(false);
  }
}

async function* keysOf(source: PasswordInput): AsyncGenerator<number, void, void> {
  for await (const chunk of source) yield* chunk;
}

/** What is typed up to the end of the line, as UTF-8. */
async function typedLine(
  prompt: string,
  keys: AsyncGenerator<number, void, void>,
  show: (text: string) => void,
): Promise<Buffer> {
  show(prompt);
  const bytes: number[] = [];
  for (;;) {
    const { value: key, done } = await keys.next();
    if (done || key === CONTROL_C || key === CONTROL_D) {
      show("\n");
      throw new MantouError("cancelled", "cancelled: nothing is changed");
    }
    if (key === RETURN || key === LINE_FEED) {
      show("\n");
      return Buffer.from(bytes);
    }
    if (key === CONTROL_U) bytes.length = 0;
    else if (key === CONTROL_H || key === DELETE) eraseCharacter(bytes);
    else if (bytes.length <= PASSWORD_BYTES_MAX) bytes.push(key);
  }
}

function eraseCharacter(bytes: number[]): void {
  // All bytes but the first of a character in UTF-8 begin with the bits 10.
  while (((bytes.pop() ?? 0) & 0xc0) === 0x80);
}
