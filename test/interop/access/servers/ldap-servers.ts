/**
 * OpenLDAP's slapd as Debian has it, below `dc=example,dc=org`: people, who may read themselves, and groups. `cn=broker`
 * with the password `server pw` may read everything but passwords.
 */
import { Client } from "ldapts";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { certify } from "./certificate.ts";
import type { ServerProgram } from "./database-server.ts";

export const LDAP_PASSWORD = "server pw";
export const BROKER_DN = "cn=broker,dc=example,dc=org";

/** `ldap` also does StartTLS. */
export function slapd(scheme: "ldap" | "ldaps", ldif: string): ServerProgram {
  const modules = "/usr/lib/ldap";
  const configuration = (folder: string): string => join(folder, "slapd.conf");
  return {
    name: "OpenLDAP",
    program: "/usr/sbin/slapd",
    refusesRoot: false,
    async prepare(folder, run) {
      await certify(folder, run);
      const lines = [
        ...["core", "cosine", "nis", "inetorgperson"].map((schema) => `include /etc/ldap/schema/${schema}.schema`),
        `modulepath ${modules}`,
        ...(readdirSync(modules).includes("back_mdb.la") ? ["moduleload back_mdb"] : []),
        `TLSCertificateFile ${join(folder, "cert.pem")}`,
        `TLSCertificateKeyFile ${join(folder, "key.pem")}`,
        "database mdb",
        'suffix "dc=example,dc=org"',
        `directory ${join(folder, "data")}`,
        "maxsize 16777216",
        "dbnosync",
        "index uid eq",
        "access to attrs=userPassword by anonymous auth by * none",
        `access to * by dn.exact="${BROKER_DN}" read by self read by * none`,
      ];
      await run(["mkdir", join(folder, "data")]);
      await run(["tee", configuration(folder)], `${lines.join("\n")}\n`);
      await run(["/usr/sbin/slapadd", "-q", "-f", configuration(folder)], ldif);
    },
    command: (folder, port) => [
      "/usr/sbin/slapd",
      "-f",
      configuration(folder),
      "-h",
      `${scheme}://127.0.0.1:${port}/`,
      "-d",
      "0",
    ],
    async ping(port) {
      const tls = scheme === "ldaps" ? { tlsOptions: { rejectUnauthorized: false } } : {};
      const client = new Client({
        url: `${scheme}://127.0.0.1:${port}`,
        timeout: 2000,
        connectTimeout: 2000,
        ...tls,
      });
      try {
        await client.bind(BROKER_DN, LDAP_PASSWORD);
      } finally {
        await client.unbind();
      }
    },
  };
}

const person = (uid: string, password: string, name = uid): string => `
dn: uid=${name},ou=people,dc=example,dc=org
objectClass: inetOrgPerson
cn: ${uid}
sn: ${uid}
uid: ${uid}
userPassword: ${password}
`;

/** `soak` people besides, with the password `plain`. */
export function ldifOf(soakCount: number): string {
  const soaked = Array.from({ length: soakCount }, (_, at) => person(`soak${at}`, "plain"));
  return `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: example
dc: example

dn: ${BROKER_DN}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: broker
userPassword: ${LDAP_PASSWORD}

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=twins,dc=example,dc=org
objectClass: organizationalUnit
ou: twins

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups
${person("alice", "wonder")}${person("root", "toor")}${person("a+b,c=d", "odd", "a\\2Bb\\2Cc\\3Dd")}${person("*)(uid=*", "star")}
dn: uid=bare,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
cn: bare
sn: bare
uid: bare
${person("twin", "one").replace("ou=people", "ou=twins")}
dn: cn=twin,ou=twins,dc=example,dc=org
objectClass: inetOrgPerson
cn: twin
sn: twin
uid: twin
userPassword: one

dn: cn=admins,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: admins
member: uid=root,ou=people,dc=example,dc=org

dn: cn=homes,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: homes
member: uid=alice,ou=people,dc=example,dc=org
member: uid=soak0,ou=people,dc=example,dc=org

dn: cn=posix,ou=groups,dc=example,dc=org
objectClass: posixGroup
cn: posix
gidNumber: 7
memberUid: alice
${soaked.join("")}`;
}
