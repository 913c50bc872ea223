/**
 * A fault of the world (a wrong configuration, a port in use), as opposed to a bug. `code` is stable and may be relied
 * upon by scripts; `message` is for people, one problem per line.
 */
export class MantouError extends Error {
  override readonly name = "MantouError";
  readonly code: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: string, message: string, details: Readonly<Record<string, unknown>> = {}) {
    super(message);
    this.code = code;
    this.details = details;
  }
}

/** The error with the part of the configuration that it is about before its message; a bug as it is. */
export function inPart(part: string, error: unknown): unknown {
  if (!(error instanceof MantouError) || error.message.startsWith(part)) return error;
  return new MantouError(error.code, `${part}: ${error.message}`, error.details);
}
