/** Every kind of backend, one line each. A new one is its file in `backends/`, its line here and its page in docs/access/. */
import type { BackendKind } from "./backend.ts";
import { aclFile } from "./backends/acl-file.ts";
import { address } from "./backends/address.ts";
import { anonymous } from "./backends/anonymous.ts";
import { certificate } from "./backends/certificate.ts";
import { clientId } from "./backends/client-id.ts";
import { cookie } from "./backends/cookie.ts";
import { http } from "./backends/http.ts";
import { jwt } from "./backends/jwt.ts";
import { ldap } from "./backends/ldap.ts";
import { mongodb } from "./backends/mongodb.ts";
import { redis } from "./backends/redis.ts";
import { ruleTable } from "./backends/rule-table.ts";
import { scram } from "./backends/scram.ts";
import { mysql, postgresql, sqlite } from "./backends/sql.ts";
import { userFile } from "./backends/user-file.ts";
import { userTable } from "./backends/user-table.ts";

export const backendKinds = [
  aclFile,
  address,
  anonymous,
  certificate,
  clientId,
  cookie,
  http,
  jwt,
  ldap,
  mongodb,
  mysql,
  postgresql,
  redis,
  ruleTable,
  scram,
  sqlite,
  userFile,
  userTable,
] as const satisfies readonly BackendKind[];
