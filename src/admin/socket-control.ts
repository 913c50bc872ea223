/** The control interface of a broker in another process, by its admin socket: for the command line. */
import { MantouError } from "#base/error.ts";
import type { Control } from "#broker/control.ts";
import { CALLS } from "./pages.ts";
import { MISSING } from "./rest.ts";

interface Failure {
  readonly error?: { readonly code: string; readonly message: string };
}

/** Each call rejects as the operation does, or with MantouError `broker_not_running` when nobody listens on `path`. */
export function socketControl(path: string): Control {
  const call = async (name: string, params: unknown, onMissing?: (node: number) => void): Promise<unknown> => {
    let response: Response;
    try {
      response = await fetch(`http://admin${CALLS}/${name}`, {
        unix: path,
        method: "POST",
        body: JSON.stringify(params),
      });
    } catch {
      throw new MantouError("broker_not_running", `no broker listens on ${path}`);
    }
    const answer: unknown = await response.json();
    const missing = response.headers.get(MISSING);
    for (const node of missing?.split(", ") ?? []) onMissing?.(Number(node));
    if (response.ok) return answer;
    const { code = "bug", message = `the broker answered ${response.status}` } = (answer as Failure).error ?? {};
    throw new MantouError(code, message);
  };
  return call as Control;
}
