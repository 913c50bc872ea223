/** The mark of mantou, and the choices of language and theme. */
import { useCell } from "./cell.ts";
import { chooseTheme, theme, themes } from "./theme.ts";
import { chooseLanguage, language, languages, t } from "./words.ts";

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
      <path d="M4 22C4 12.6 9 7 16 7s12 5.600 12 15c0 2.200-1.300 3-3.200 3H7.200C5.300 25 4 24.200 4 22Z" />
      <path class="mark-fold" d="M16 11v4M11.500 12.800l1.400 3.400M20.500 12.800l-1.400 3.400" />
    </svg>
  );
}

export function LanguageChoice() {
  const chosen = useCell(language);
  return (
    <select
      class="choice"
      aria-label={t("language")}
      value={chosen}
      onChange={(event) => chooseLanguage(event.currentTarget.value as typeof chosen)}
    >
      {Object.entries(languages).map(([name, words]) => (
        <option key={name} value={name} lang={name}>
          {words}
        </option>
      ))}
    </select>
  );
}

export function ThemeChoice() {
  const chosen = useCell(theme);
  return (
    <select
      class="choice"
      aria-label={t("theme")}
      value={chosen}
      onChange={(event) => chooseTheme(event.currentTarget.value as typeof chosen)}
    >
      {themes.map((name) => (
        <option key={name} value={name}>
          {t(name)}
        </option>
      ))}
    </select>
  );
}
