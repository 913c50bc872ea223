/** Access rules in a file of one of three syntaxes; read again when it changes, from when on every topic is judged anew. */
import { z } from "zod";
import { parseErlangRules } from "#access/acl-erlang.ts";
import { parseMosquittoRules } from "#access/acl-mosquitto.ts";
import { type AclRule, decideByRules } from "#access/acl-rule.ts";
import { parseYamlRules } from "#access/acl-yaml.ts";
import { type Backend, backendKind } from "#access/backend.ts";
import { choice, text } from "#access/option.ts";
import { WatchedFile } from "#access/watched-file.ts";

const PARSERS: Readonly<Record<string, (text: string, file: string) => AclRule[]>> = {
  yaml: parseYamlRules,
  emqttd: parseErlangRules,
  mosquitto: parseMosquittoRules,
};

export const aclFile = backendKind({
  type: "acl-file",
  roles: ["authorize"],
  options: z.strictObject({
    file: text("path of the file"),
    format: choice(["yaml", "emqttd", "mosquitto"], "emqttd: acl.config; mosquitto: acl_file").default("yaml"),
  }),
  make({ file, format }, parts): Backend {
    const rules = new WatchedFile(file, PARSERS[format], parts, () => parts.invalidate());
    return {
      name: parts.name,
      check: async () => rules.load(),
      start: async () => rules.start(),
      stop: async () => rules.stop(),
      health: () => rules.health({ rules: rules.value.length }),
      authorize: (question, answer) => answer(decideByRules(rules.value, question)),
    };
  },
});
