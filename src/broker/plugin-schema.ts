/** The `plugins` section of the configuration. What stands in a plugin's options the plugin itself checks when it is loaded. */
import { z } from "zod";

const FROM_ALLOWED = "path of a file or folder that starts with ./ or /, or name of a package";
const OPTIONS_ALLOWED = "a mapping of the plugin's own options";

export const pluginsSchema = z
  .array(
    z.strictObject({
      from: z
        .string({ error: FROM_ALLOWED })
        .min(1, { error: FROM_ALLOWED })
        .meta({ description: "path of a plugin's file, of a folder of such files, or name of an npm package" }),
      options: z
        .record(z.string(), z.unknown(), { error: OPTIONS_ALLOWED })
        .optional()
        .meta({ description: "the plugin's own options" }),
    }),
    { error: "a list of plugins" },
  )
  .prefault([]);
