/** Short words on what was done or went wrong; they go by themselves and are read aloud. */
import { Cell, useCell } from "./cell.ts";
import { t } from "./words.ts";

interface Notice {
  readonly id: number;
  readonly text: string;
  readonly tone: "good" | "bad";
}

const SHOWN_MS = 6000;
const COUNT_MAX = 4;
const notices = new Cell<readonly Notice[]>([]);
let lastId = 0;

export function notify(text: string, tone: Notice["tone"] = "good"): void {
  const id = ++lastId;
  notices.set([...notices.value.slice(1 - COUNT_MAX), { id, text, tone }]);
  setTimeout(() => dismiss(id), SHOWN_MS);
}

function dismiss(id: number): void {
  notices.set(notices.value.filter((each) => each.id !== id));
}

export function Notices() {
  return (
    <div class="notices" role="status" aria-live="polite">
      {useCell(notices).map(({ id, text, tone }) => (
        <div key={id} class={`notice ${tone}`}>
          <span>{text}</span>
          <button type="button" class="button quiet" aria-label={t("close")} onClick={() => dismiss(id)}>
            ×
          </button>
        </div>
      ))}
    </div>
  );
}
