import { useState } from "preact/hooks";
import type { Field } from "../data/contract";
import { initialValues, problem, type Values } from "../data/form";
import { Text } from "./text";

interface Props {
  fields: Field[];
  given?: Record<string, unknown>;
  submit: (values: Values) => Promise<void>;
  label: string;
  busyLabel?: string;
  /** Further buttons, beside the one that submits. */
  children?: preact.ComponentChildren;
  idPrefix: string;
}

const INPUT_TYPES: Record<string, "email" | "url" | "date" | "text"> = { email: "email", uri: "url", date: "date", "date-time": "text" };

function Control({ field, id, value, set, invalid }: { field: Field; id: string; value: string | string[]; set: (value: string | string[]) => void; invalid: boolean }) {
  const described = `${id}-help`;
  const shared = { id, "aria-describedby": described, "aria-invalid": invalid, "aria-required": field.required ?? false };
  const choose = (type: "radio" | "checkbox", options: { value: string; label?: string | null }[]) => (
    <div class="options" role={type === "radio" ? "radiogroup" : "group"} aria-labelledby={`${id}-label`} aria-describedby={described} id={id}>
      {options.map((option) => {
        const chosen = Array.isArray(value) ? value.includes(option.value) : value === option.value;
        return (
          <label key={option.value} class="option">
            <input
              type={type}
              name={id}
              checked={chosen}
              onChange={() => {
                if (!Array.isArray(value)) set(option.value);
                else set(chosen ? value.filter((other) => other !== option.value) : [...value, option.value]);
              }}
            />
            <span>
              <Text>{option.label ?? option.value}</Text>
            </span>
          </label>
        );
      })}
    </div>
  );
  if (field.type === "boolean") {
    return choose("radio", [
      { value: "yes", label: "Yes" },
      { value: "no", label: "No" },
    ]);
  }
  if (field.type === "multi") return choose("checkbox", field.options ?? []);
  if (field.type === "enum" && (field.options?.length ?? 0) <= 6) return choose("radio", field.options ?? []);
  const typed = Array.isArray(value) ? "" : value;
  if (field.type === "enum") {
    return (
      <select {...shared} value={typed} onChange={(event) => set(event.currentTarget.value)}>
        <option value="">Choose…</option>
        {field.options?.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label ?? option.value}
          </option>
        ))}
      </select>
    );
  }
  const isJson = field.format === "json";
  if (field.type === "string" && !field.secret && (!field.format || isJson) && (isJson || typed.length > 80 || typed.includes("\n") || (field.max ?? 0) > 200)) {
    return <textarea {...shared} class={isJson ? "json-input" : undefined} spellcheck={!isJson} rows={4} value={typed} onInput={(event) => set(event.currentTarget.value)} />;
  }
  const numeric = field.type === "number" || field.type === "integer";
  return (
    <input
      {...shared}
      type={(field.secret ? "password" : (INPUT_TYPES[field.format ?? ""] ?? "text")) as "text"}
      inputMode={field.type === "integer" ? "numeric" : numeric ? "decimal" : undefined}
      autoComplete="off"
      spellcheck={false}
      value={typed}
      onInput={(event) => set(event.currentTarget.value)}
    />
  );
}

/** A flat form. It says what is wrong beside each field when it is submitted, and moves the focus there. */
export function Form({ fields, given, submit, label, busyLabel = "Sending…", children, idPrefix }: Props) {
  const [values, setValues] = useState<Values>(() => initialValues(fields, given));
  const [checked, setChecked] = useState(false);
  const [busy, setBusy] = useState(false);
  const wrong = new Map(fields.map((field) => [field.name, checked ? problem(field, values[field.name]) : null]));
  return (
    <form
      class="form"
      noValidate
      onSubmit={async (event) => {
        event.preventDefault();
        setChecked(true);
        const first = fields.findIndex((field) => problem(field, values[field.name]) !== null);
        if (first >= 0) {
          const control = document.getElementById(`${idPrefix}-${first}`);
          (control?.matches("input,select,textarea") ? control : control?.querySelector("input"))?.focus();
          return;
        }
        setBusy(true);
        try {
          await submit(values);
        } finally {
          setBusy(false);
        }
      }}
    >
      {fields.map((field, index) => {
        const id = `${idPrefix}-${index}`;
        const error = wrong.get(field.name);
        return (
          <div class="field" key={field.name}>
            <label id={`${id}-label`} for={id}>
              <Text>{field.title ?? field.name}</Text>
              {!field.required && <span class="optional">optional</span>}
            </label>
            <Control
              field={field}
              id={id}
              value={values[field.name] ?? ""}
              invalid={error != null}
              set={(value) => setValues((all) => ({ ...all, [field.name]: value }))}
            />
            <p class={error ? "field-error" : "field-help"} id={`${id}-help`} role={error ? "alert" : undefined}>
              {error ?? (field.description ? <Text>{field.description}</Text> : null)}
            </p>
          </div>
        );
      })}
      <div class="form-actions">
        <button type="submit" class="button primary" disabled={busy}>
          {busy ? busyLabel : label}
        </button>
        {children}
      </div>
    </form>
  );
}
