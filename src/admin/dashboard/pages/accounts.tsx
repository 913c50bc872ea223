/** Accounts of those who operate the broker. */
import type { Role } from "#admin/identity.ts";
import { ask, at } from "#admin/dashboard/api.ts";
import { askForm, askSure } from "#admin/dashboard/dialogs.tsx";
import { Table } from "#admin/dashboard/list.tsx";
import { notify } from "#admin/dashboard/notices.tsx";
import { act, Badge, Button, PageHead, Show, useLoaded } from "#admin/dashboard/parts.tsx";
import { t } from "#admin/dashboard/words.ts";

interface Account {
  readonly username: string;
  readonly role: Role;
  readonly isDefault: boolean;
}

export const roleOptions = (): (readonly [Role, string])[] =>
  (["viewer", "operator", "administrator"] as const).map((role) => [role, `${t(role)} – ${t(`${role}May`)}`]);

export function AccountsPage() {
  const accounts = useLoaded(() => ask<{ items: Account[] }>("GET", "/admins"));
  const put = (known?: Account): void =>
    askForm({
      title: known ? t("changeOne", { name: known.username }) : t("addAccount"),
      text: t("accountText"),
      fields: [
        ...(known ? [] : [{ name: "username", label: t("username"), autocomplete: "off" }]),
        {
          name: "password",
          label: known ? t("newPassword") : t("password"),
          type: "password" as const,
          isOptional: known !== undefined,
          hint: t("passwordHint"),
          autocomplete: "new-password",
        },
        {
          name: "role",
          label: t("role"),
          type: "select" as const,
          value: known?.role ?? "viewer",
          options: roleOptions(),
        },
      ],
      action: known ? t("save") : t("addAccount"),
      async run({ username = known?.username ?? "", password, role }) {
        await ask("PUT", at("admins", username), { password, role });
        notify(t("saved", { name: username }));
        await accounts.reload();
      },
    });
  const remove = ({ username }: Account): void =>
    askSure(t("deleteAccount"), t("deleteAccountText", { name: username }), t("delete"), async () => {
      if (await act(ask("DELETE", at("admins", username)), t("deleted", { name: username }))) await accounts.reload();
    });
  return (
    <>
      <PageHead title={t("accounts")} about={t("accountsAbout")}>
        <Button kind="primary" onClick={() => put()}>
          {t("addAccount")}
        </Button>
      </PageHead>
      <Show of={accounts}>
        {({ items }) => (
          <Table
            label={t("accounts")}
            rows={items}
            keyOf={({ username }) => username}
            columns={[
              {
                title: t("username"),
                cell: ({ username, isDefault }) => (
                  <>
                    <span class="id">{username}</span> {isDefault && <Badge tone="warn">{t("firstPassword")}</Badge>}
                  </>
                ),
                share: 3,
              },
              { title: t("role"), cell: ({ role }) => t(role) },
              {
                title: t("actions"),
                share: 3,
                cell: (account) => (
                  <>
                    <Button
                      kind="quiet"
                      label={t("changeOne", { name: account.username })}
                      onClick={() => put(account)}
                    >
                      {t("change")}
                    </Button>
                    <Button
                      kind="quiet"
                      label={t("deleteOne", { name: account.username })}
                      onClick={() => remove(account)}
                    >
                      {t("delete")}
                    </Button>
                  </>
                ),
              },
            ]}
          />
        )}
      </Show>
    </>
  );
}
