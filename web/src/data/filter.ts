import { signal } from "@preact/signals";
import type { TaskRow } from "./contract";

/** The tasks whose output contains a text, by the text in lowercase. The server searches outputs. */
export const outputMatches = signal<ReadonlyMap<string, ReadonlySet<string>>>(new Map());

interface Term {
  key: string;
  value: string;
  negated: boolean;
}

const KEYS = new Set(["state", "agent", "tool", "kind", "id", "output"]);

/** Parses `state:failed agent:research -kind:hook "two words"` into its terms. */
export function parseFilter(text: string): Term[] {
  const terms: Term[] = [];
  for (const match of text.matchAll(/(-?)(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/gi)) {
    const key = match[2]?.toLowerCase() ?? "";
    const known = KEYS.has(key);
    const value = (match[3] ?? match[4] ?? "").toLowerCase();
    if (value === "") continue;
    terms.push({
      key: known ? key : "",
      value: known || !match[2] ? value : `${match[2].toLowerCase()}:${value}`,
      negated: match[1] === "-",
    });
  }
  return terms;
}

function matches(row: TaskRow, term: Term): boolean {
  const value = term.value;
  switch (term.key) {
    case "state":
      return value.split(",").includes(row.state);
    case "agent":
      return (row.agent ?? "").toLowerCase().includes(value);
    case "tool":
      return (row.tool ?? "").toLowerCase().includes(value);
    case "kind":
      return row.kind.toLowerCase() === value;
    case "output":
      return outputMatches.value.get(value)?.has(row.id) ?? false;
    case "id":
      return row.id.toLowerCase().includes(value);
    default:
      return [row.id, row.name, row.agent, row.tool, row.error, row.reason, row.progress?.message].some((text) =>
        text?.toLowerCase().includes(value),
      );
  }
}

/** Returns the texts that outputs are searched for. */
export const outputTexts = (text: string): string[] => parseFilter(text).flatMap((term) => (term.key === "output" ? [term.value] : []));

/** Returns a predicate of all terms of a filter, or null if it has none. */
export function taskFilter(text: string): ((row: TaskRow) => boolean) | null {
  const terms = parseFilter(text);
  if (terms.length === 0) return null;
  return (row) => terms.every((term) => matches(row, term) !== term.negated);
}

/** Adds a state to the filter, or removes it if it is there. */
export function toggleState(text: string, state: string): string {
  const states = /(?:^|\s)state:(\S+)/.exec(text)?.[1]?.split(",") ?? [];
  const next = states.includes(state) ? states.filter((other) => other !== state) : [...states, state];
  const rest = text.replace(/(?:^|\s)state:\S+/g, " ").trim();
  return [next.length > 0 ? `state:${next.join(",")}` : "", rest].filter(Boolean).join(" ");
}

/** Returns the states that a filter names. */
export const filterStates = (text: string): string[] => /(?:^|\s)state:(\S+)/.exec(text)?.[1]?.split(",") ?? [];
