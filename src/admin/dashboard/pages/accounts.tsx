/** Accounts of those who operate the broker. */
import type { Role } from "#admin/identity.ts";
import { ask, at } from "#admin/dashboard/api.ts";
import { askForm, askSure, type Field } from "#admin/dashboard/dialogs.tsx";
import { type Column, Table } from "#admin/dashboard/list.tsx";
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
  const remove = ({ username }: Account): void =>
    askSure(t("deleteAccount"), t("deleteAccountText", { name: username }), t("delete"), async () => {
      if (await act(ask("DELETE", at("admins", username)), t("deleted", { name: username }))) await accounts.reload();
    });
  const columns: Column<Account>[] = [
    {
      title: t("username"),
      cell: ({ username, isDefault }) => (
        <>
          <span class="id">{username}</span> {isDefault && <Badge tone="warn">{t("firstPassword")}</Badge>}
        </>
      ),
      share: 4,
    },
    { title: t("role"), cell: ({ role }) => t(role), isWide: true },
    {
      title: t("actions"),
      share: 4,
      cell: (account) => (
        <>
          <Button
            kind="quiet"
            label={t("changeOne", { name: account.username })}
            onClick={() => askAccount(accounts.reload, account)}
          >
            {t("change")}
          </Button>
          <Button kind="quiet" label={t("deleteOne", { name: account.username })} onClick={() => remove(account)}>
            {t("delete")}
          </Button>
        </>
      ),
    },
  ];
  return (
    <>
      <PageHead title={t("accounts")} about={t("accountsAbout")}>
        <Button kind="primary" onClick={() => askAccount(accounts.reload)}>
          {t("addAccount")}
        </Button>
      </PageHead>
      <Show of={accounts}>
        {({ items }) => (
          <Table label={t("accounts")} rows={items} keyOf={({ username }) => username} columns={columns} />
        )}
      </Show>
    </>
  );
}

function askAccount(then: () => Promise<void>, known?: Account): void {
  const password: Field = {
    name: "password",
    label: known ? t("newPassword") : t("password"),
    type: "password",
    isOptional: known !== undefined,
    hint: t("passwordHint"),
    autocomplete: "new-password",
  };
  askForm({
    title: known ? t("changeOne", { name: known.username }) : t("addAccount"),
    text: t("accountText"),
    fields: [
      ...(known ? [] : [{ name: "username", label: t("username"), autocomplete: "off" }]),
      password,
      { name: "role", label: t("role"), type: "select", value: known?.role ?? "viewer", options: roleOptions() },
    ],
    action: known ? t("save") : t("addAccount"),
    async run({ username = known?.username ?? "", ...wish }) {
      await ask("PUT", at("admins", username), { password: wish["password"], role: wish["role"] });
      notify(t("saved", { name: username }));
      await then();
    },
  });
}
