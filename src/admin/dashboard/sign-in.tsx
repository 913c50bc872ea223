/** Signing in, and changing one's own password. */
import { useEffect, useState } from "preact/hooks";
import { ApiError, changePassword, hasExpired, session, signIn } from "./api.ts";
import { useCell } from "./cell.ts";
import { LanguageChoice, Mark, ThemeChoice } from "./choices.tsx";
import { askForm, FieldRow, valuesOf } from "./dialogs.tsx";
import { notify } from "./notices.tsx";
import { messageOf } from "./parts.tsx";
import { t } from "./words.ts";

export function SignIn() {
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const isExpired = useCell(hasExpired);
  useEffect(() => {
    document.title = `${t("signIn")} · mantou`;
    document.querySelector<HTMLElement>("[name=username]")?.focus();
  }, []);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    if (isBusy) return;
    const { username = "", password = "" } = valuesOf(event.currentTarget as HTMLFormElement);
    setBusy(true);
    try {
      await signIn(username, password);
      if (session.value?.mustChangePassword) askPassword();
    } catch (fault) {
      setError(messageOf(fault));
      setBusy(false);
    }
  };
  return (
    <main class="sign-in">
      <form onSubmit={(event) => void submit(event)}>
        <h1>
          <Mark /> mantou
        </h1>
        <p class="about">{t("signInText")}</p>
        {isExpired && <p class="banner warn">{t("expired")}</p>}
        <FieldRow field={{ name: "username", label: t("username"), autocomplete: "username" }} />
        <FieldRow
          field={{ name: "password", label: t("password"), type: "password", autocomplete: "current-password" }}
        />
        <p class="form-error" role="alert">
          {error}
        </p>
        <button type="submit" class="button primary" aria-busy={isBusy}>
          {t("signIn")}
        </button>
        <p class="hint">{t("signInHint")}</p>
      </form>
      <footer class="sign-in-foot">
        <LanguageChoice />
        <ThemeChoice />
      </footer>
    </main>
  );
}

export function askPassword(): void {
  const own = session.value!;
  askForm({
    title: t("changePassword"),
    text: (
      <>
        {own.mustChangePassword && (
          <p>
            {t("defaultPasswordTitle")} {t("defaultPasswordText")}
          </p>
        )}
        <input hidden type="text" autocomplete="username" defaultValue={own.username} />
      </>
    ),
    fields: [
      { name: "oldPassword", label: t("oldPassword"), type: "password", autocomplete: "current-password" },
      {
        name: "password",
        label: t("newPassword"),
        type: "password",
        hint: t("passwordHint"),
        autocomplete: "new-password",
      },
      { name: "repeated", label: t("repeatPassword"), type: "password", autocomplete: "new-password" },
    ],
    action: t("changePassword"),
    async run({ oldPassword = "", password = "", repeated }) {
      if (password !== repeated) throw new ApiError("passwords_differ", "", 400);
      await changePassword(own.username, oldPassword, password);
      notify(t("passwordChanged"));
    },
  });
}
