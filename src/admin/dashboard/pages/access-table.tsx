/** The built-in table: users with passwords, and client ids with addresses. */
import type { ClientIdRow, Page, User } from "#admin/dashboard/answers.ts";
import { ask, at } from "#admin/dashboard/api.ts";
import { askForm, askSure } from "#admin/dashboard/dialogs.tsx";
import { List, useRows } from "#admin/dashboard/list.tsx";
import { notify } from "#admin/dashboard/notices.tsx";
import { act, Badge, Button, Section } from "#admin/dashboard/parts.tsx";
import { t } from "#admin/dashboard/words.ts";

export function Users() {
  const rows = useRows((page) => ask<Page<User>>("GET", "/users", page), "");
  const put = (known?: User): void =>
    askForm({
      title: known ? t("setPassword") : t("addUser"),
      text: t("userText"),
      fields: [
        ...(known ? [] : [{ name: "username", label: t("username"), autocomplete: "off" }]),
        { name: "password", label: t("password"), type: "password" as const, autocomplete: "new-password" },
        {
          name: "isSuperuser",
          label: t("superuserHint"),
          type: "checkbox" as const,
          value: String(known?.isSuperuser ?? false),
        },
      ],
      action: known ? t("save") : t("addUser"),
      async run({ username = known?.username ?? "", password, isSuperuser }) {
        await ask("PUT", at("users", username), { password, isSuperuser: isSuperuser === "true" });
        notify(t("saved", { name: username }));
        await rows.reload();
      },
    });
  const remove = ({ username }: User): void =>
    askSure(t("deleteUser"), t("deleteUserText", { name: username }), t("delete"), async () => {
      if (await act(ask("DELETE", at("users", username)), t("deleted", { name: username }))) await rows.reload();
    });
  return (
    <Section
      title={t("users")}
      about={t("usersAbout")}
      actions={
        <Button kind="primary" onClick={() => put()}>
          {t("addUser")}
        </Button>
      }
    >
      <List
        label={t("users")}
        of={rows}
        keyOf={({ username }) => username}
        empty={{ title: t("noUsers"), text: t("noUsersText") }}
        columns={[
          { title: t("username"), cell: ({ username }) => <span class="id">{username}</span>, share: 4 },
          {
            title: t("superuser"),
            cell: ({ isSuperuser }) => (isSuperuser ? <Badge tone="warn">{t("superuser")}</Badge> : t("no")),
            isWide: true,
          },
          {
            title: t("actions"),
            share: 5,
            cell: (user) => (
              <>
                <Button kind="quiet" label={`${t("setPassword")}: ${user.username}`} onClick={() => put(user)}>
                  {t("setPassword")}
                </Button>
                <Button kind="quiet" label={t("deleteOne", { name: user.username })} onClick={() => remove(user)}>
                  {t("delete")}
                </Button>
              </>
            ),
          },
        ]}
      />
    </Section>
  );
}

export function ClientIds() {
  const rows = useRows((page) => ask<Page<ClientIdRow>>("GET", "/client-ids", page), "");
  const add = (): void =>
    askForm({
      title: t("addClientId"),
      text: t("clientIdText"),
      fields: [
        { name: "clientId", label: t("clientId"), autocomplete: "off" },
        { name: "password", label: t("password"), type: "password", isOptional: true, autocomplete: "new-password" },
        { name: "ranges", label: t("ranges"), isOptional: true, hint: t("rangesHint") },
      ],
      action: t("addClientId"),
      async run({ clientId = "", password, ranges = "" }) {
        await ask("PUT", at("client-ids", clientId), { password, ranges: ranges.split(/[\s,]+/).filter(Boolean) });
        notify(t("saved", { name: clientId }));
        await rows.reload();
      },
    });
  const remove = ({ clientId }: ClientIdRow): void =>
    askSure(t("deleteClientId"), t("deleteUserText", { name: clientId }), t("delete"), async () => {
      if (await act(ask("DELETE", at("client-ids", clientId)), t("deleted", { name: clientId }))) await rows.reload();
    });
  return (
    <Section
      title={t("clientIds")}
      about={t("clientIdsAbout")}
      actions={
        <Button kind="primary" onClick={add}>
          {t("addClientId")}
        </Button>
      }
    >
      <List
        label={t("clientIds")}
        of={rows}
        keyOf={({ clientId }) => clientId}
        empty={{ title: t("noClientIds"), text: t("noUsersText") }}
        columns={[
          { title: t("clientId"), cell: ({ clientId }) => <span class="id">{clientId}</span>, share: 4 },
          { title: t("ranges"), cell: ({ ranges }) => ranges.join(", ") || t("anywhere"), share: 3, isWide: true },
          {
            title: t("actions"),
            cell: (row) => (
              <Button kind="quiet" label={t("deleteOne", { name: row.clientId })} onClick={() => remove(row)}>
                {t("delete")}
              </Button>
            ),
          },
        ]}
      />
    </Section>
  );
}
