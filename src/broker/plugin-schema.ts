/**
 * The `modules` and `plugins` sections of the configuration. What stands in a plugin's options the plugin itself checks when it
 * is loaded; those of the modules are known here.
 */
import { z } from "zod";
import { modules } from "#modules/module-table.ts";

type Shapes = { [K in keyof typeof modules]: (typeof modules)[K]["config"] };
type ModulesSchema = z.ZodPrefault<
  z.ZodObject<{ [K in keyof Shapes]: z.ZodType<z.output<Shapes[K]>> }, z.core.$strict>
>;

export const modulesSchema = z
  .strictObject(
    Object.fromEntries(Object.entries(modules).map(([key, { config }]) => [key, (config as z.ZodObject).prefault({})])),
  )
  .prefault({}) as unknown as ModulesSchema;

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
