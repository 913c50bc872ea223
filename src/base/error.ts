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
