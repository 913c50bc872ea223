/**
 * Dialogs are asked for by a call: `askForm` shows fields and does the work with what was entered, `askSure` asks yes or no. The
 * browser's own dialog element keeps the focus, closes at Escape and gives the focus back.
 */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Cell, useCell } from "./cell.ts";
import { Button, messageOf } from "./parts.tsx";
import { t } from "./words.ts";

export interface Field {
  readonly name: string;
  readonly label: string;
  readonly type?: "text" | "password" | "textarea" | "select" | "checkbox" | "datetime-local";
  readonly options?: readonly (readonly [string, string])[];
  readonly value?: string;
  readonly hint?: string;
  readonly isOptional?: boolean;
  readonly autocomplete?: string;
  /** Of a text area. */
  readonly rows?: number;
}

export type Values = Readonly<Record<string, string>>;

interface Form {
  readonly title: string;
  readonly text?: ComponentChildren;
  readonly fields: readonly Field[];
  readonly action: string;
  readonly isDanger?: boolean;
  /** Without it there is only something to read. */
  readonly run?: (values: Values) => Promise<unknown>;
}

const open = new Cell<Form | undefined>(undefined);

export function askForm(form: Form): void {
  open.set(form);
}

export function askSure(title: string, text: string, action: string, run: () => Promise<unknown>): void {
  open.set({ title, text, fields: [], action, run, isDanger: true });
}

export function showText(title: string, text: ComponentChildren): void {
  open.set({ title, text, fields: [], action: t("close") });
}

export function DialogHost() {
  const form = useCell(open);
  return form ? <FormDialog key={form.title} form={form} /> : null;
}

function FormDialog({ form }: { form: Form }) {
  const ref = useRef<HTMLDialogElement>(null);
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  useEffect(() => {
    if (!ref.current?.open) ref.current?.showModal();
  }, []);
  const close = (): void => ref.current?.close();
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    if (isBusy) return;
    if (!form.run) return close();
    setBusy(true);
    setError("");
    try {
      await form.run(valuesOf(event.currentTarget as HTMLFormElement));
      close();
    } catch (fault) {
      setError(messageOf(fault));
      setBusy(false);
    }
  };
  return (
    <dialog ref={ref} aria-labelledby="dialog-title" onClose={() => open.value === form && open.set(undefined)}>
      <form method="dialog" onSubmit={(event) => void submit(event)}>
        <h2 id="dialog-title">{form.title}</h2>
        {typeof form.text === "string" ? <p>{form.text}</p> : form.text}
        {form.fields.map((field) => (
          <FieldRow key={field.name} field={field} />
        ))}
        <p class="form-error" role="alert">
          {error}
        </p>
        <div class="actions end">
          {form.run && (
            <Button onClick={close} kind="quiet">
              {t("cancel")}
            </Button>
          )}
          <button type="submit" class={`button ${form.isDanger ? "danger" : "primary"}`} aria-busy={isBusy}>
            {form.action}
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** Of check boxes `true` or `false`. */
export function valuesOf(form: HTMLFormElement): Values {
  const inputs = [...form.elements].filter((each) => "name" in each && each.name !== "") as HTMLInputElement[];
  return Object.fromEntries(
    inputs.map((input) => [input.name, input.type === "checkbox" ? String(input.checked) : input.value]),
  );
}

export function FieldRow({ field }: { field: Field }) {
  const { name, label, type = "text", hint, value = "", isOptional = false, options = [], rows = 6 } = field;
  const id = useId();
  const common = {
    id,
    name,
    required: !isOptional,
    ...(hint !== undefined && { "aria-describedby": `${id}-hint` }),
    ...(field.autocomplete !== undefined && { autocomplete: field.autocomplete }),
  };
  if (type === "checkbox")
    return (
      <label class="check">
        <input id={id} name={name} type="checkbox" defaultChecked={value === "true"} />
        <span>{label}</span>
      </label>
    );
  return (
    <div class="field">
      <label for={id}>
        {label}
        {isOptional && <span class="optional"> {t("optional")}</span>}
      </label>
      {type === "select" ? (
        <select {...common} defaultValue={value}>
          {options.map(([choice, words]) => (
            <option key={choice} value={choice} selected={choice === value}>
              {words}
            </option>
          ))}
        </select>
      ) : type === "textarea" ? (
        <textarea {...common} rows={rows} spellcheck={false} defaultValue={value} />
      ) : (
        <input {...common} type={type as "text"} spellcheck={false} defaultValue={value} />
      )}
      {hint !== undefined && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}
