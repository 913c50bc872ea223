/** Light, dark, or as the system has it. */
import { Cell } from "./cell.ts";

export const themes = ["system", "light", "dark"] as const;
export type Theme = (typeof themes)[number];

const STORED = "mantou.theme";

export const theme = new Cell<Theme>(themes.find((each) => each === localStorage.getItem(STORED)) ?? "system");
/** Set whenever colours may have changed, for what draws by itself. */
export const colours = new Cell({});

export function chooseTheme(chosen: Theme): void {
  localStorage.setItem(STORED, chosen);
  theme.set(chosen);
  applyTheme();
}

export function applyTheme(): void {
  const { dataset } = document.documentElement;
  if (theme.value === "system") delete dataset["theme"];
  else dataset["theme"] = theme.value;
  colours.set({});
}

const narrowScreen = matchMedia("(max-width: 760px)");

/** The screen is narrow, as a phone's: the style sheet draws the same line. */
export const isNarrow = new Cell(narrowScreen.matches);
narrowScreen.addEventListener("change", () => isNarrow.set(narrowScreen.matches));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => colours.set({}));
