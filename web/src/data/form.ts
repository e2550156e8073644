import type { Field } from "./contract";

/** The values of a form as a person typed them; a list for a choice of several. */
export type Values = Record<string, string | string[]>;

const text = (value: unknown): string =>
  typeof value === "string" ? value : typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);

/** Returns JSON as a value, or undefined. */
export function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

export function initialValues(fields: Field[], given: Record<string, unknown> = {}): Values {
  const values: Values = {};
  for (const field of fields) {
    const value = given[field.name] ?? field.default;
    if (field.type === "multi") values[field.name] = Array.isArray(value) ? value.map(text) : [];
    else if (value === undefined || value === null) values[field.name] = "";
    else if (typeof value === "boolean") values[field.name] = value ? "yes" : "no";
    else values[field.name] = text(value);
  }
  return values;
}

/** Returns what is wrong with a value, or null. The server checks it again. */
export function problem(field: Field, value: string | string[] | undefined): string | null {
  if (field.type === "multi") {
    const chosen = Array.isArray(value) ? value.length : 0;
    if (field.min != null && chosen < field.min) return `Choose at least ${field.min}.`;
    if (field.max != null && chosen > field.max) return `Choose at most ${field.max}.`;
    return field.required && chosen === 0 ? "Choose at least one." : null;
  }
  const typed = typeof value === "string" ? value : "";
  if (typed.trim() === "") return field.required ? "A value is required." : null;
  if (field.type === "number" || field.type === "integer") {
    const number = Number(typed);
    if (!Number.isFinite(number)) return "Expected a number.";
    if (field.type === "integer" && !Number.isInteger(number)) return "Expected a whole number.";
    if (field.min != null && number < field.min) return `Expected at least ${field.min}.`;
    if (field.max != null && number > field.max) return `Expected at most ${field.max}.`;
  }
  if (field.format === "json" && parsed(typed) === undefined) return "Expected JSON.";
  if (field.type === "string") {
    if (field.min != null && typed.length < field.min) return `Expected at least ${field.min} characters.`;
    if (field.max != null && typed.length > field.max) return `Expected at most ${field.max} characters.`;
  }
  return null;
}

/** Returns the values as texts by name, as an answer has them; empty ones are omitted. */
export function asTexts(fields: Field[], values: Values): Record<string, string> {
  const result: Record<string, string> = {};
  for (const field of fields) {
    const value = values[field.name];
    const typed = Array.isArray(value) ? value.join(",") : (value ?? "");
    if (typed !== "") result[field.name] = typed;
  }
  return result;
}

/** Returns the values as JSON, as the inputs of a plan have them; empty ones are omitted. */
export function asJson(fields: Field[], values: Values): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const field of fields) {
    const value = values[field.name];
    if (value === undefined || value === "" || (Array.isArray(value) && value.length === 0)) continue;
    if (typeof value === "string" && (field.type === "number" || field.type === "integer")) result[field.name] = Number(value);
    else if (field.type === "boolean") result[field.name] = value === "yes";
    else if (field.format === "json" && typeof value === "string") result[field.name] = parsed(value);
    else result[field.name] = value;
  }
  return result;
}
