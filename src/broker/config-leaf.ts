/** Leaves of the configuration's schema. The error message of each is its list of allowed values. */
import { z } from "zod";

export { meta, numberLeaf } from "#plugins/option-leaf.ts";

export const choiceLeaf = <const T extends readonly [string, ...string[]]>(choices: T) =>
  z.enum(choices, { error: choices.length === 1 ? choices[0] : `one of ${choices.join(", ")}` });
