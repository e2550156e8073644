import { useState } from "preact/hooks";
import { count, shown } from "../data/format";
import { notify, notifyError } from "../data/live";

const PAGE = 100;
const MAX_TEXT = 2000;

function Primitive({ value }: { value: unknown }) {
  const [all, setAll] = useState(false);
  if (typeof value !== "string") return <span class={`json-${value === null ? "null" : typeof value}`}>{String(value)}</span>;
  const cut = !all && value.length > MAX_TEXT;
  return (
    <span class="json-string">
      <bdi>{shown(cut ? value.slice(0, MAX_TEXT) : value)}</bdi>
      {cut && (
        <button type="button" class="link-button" onClick={() => setAll(true)}>
          … {count(value.length - MAX_TEXT)} more characters
        </button>
      )}
    </span>
  );
}

function Entries({ value }: { value: object }) {
  const [limit, setLimit] = useState(PAGE);
  const entries = Array.isArray(value) ? value.map((item, index) => [String(index), item] as const) : Object.entries(value);
  return (
    <ul class="json-entries">
      {entries.slice(0, limit).map(([key, item]) => (
        <li key={key}>
          <Node name={key} value={item} />
        </li>
      ))}
      {entries.length > limit && (
        <li>
          <button type="button" class="link-button" onClick={() => setLimit(limit + PAGE)}>
            {count(entries.length - limit)} more
          </button>
        </li>
      )}
    </ul>
  );
}

const sizeOf = (value: object): number => (Array.isArray(value) ? value.length : Object.keys(value).length);

function Node({ name, value }: { name?: string; value: unknown }) {
  const [opened, setOpened] = useState(false);
  const label = name !== undefined && (
    <span class="json-key">
      <bdi>{shown(name)}</bdi>
    </span>
  );
  if (value === null || typeof value !== "object" || sizeOf(value) === 0) {
    return (
      <div class="json-leaf">
        {label}
        {value !== null && typeof value === "object" ? (
          <span class="json-null">{Array.isArray(value) ? "empty list" : "empty object"}</span>
        ) : (
          <Primitive value={value} />
        )}
      </div>
    );
  }
  const size = sizeOf(value);
  return (
    <details open={opened} onToggle={(event) => setOpened((event.currentTarget as HTMLDetailsElement).open)}>
      <summary>
        {label}
        <span class="json-size">{Array.isArray(value) ? `list of ${count(size)}` : `${count(size)} ${size === 1 ? "key" : "keys"}`}</span>
      </summary>
      {opened && <Entries value={value} />}
    </details>
  );
}

/** JSON as a tree whose branches are made when they are opened. */
export function Json({ value }: { value: unknown }) {
  if (value === null || typeof value !== "object" || sizeOf(value) === 0) return <Node value={value} />;
  return (
    <div class="json">
      <Entries value={value} />
    </div>
  );
}

export function Copy({ text, label = "Copy" }: { text: () => string; label?: string }) {
  return (
    <button
      type="button"
      class="button small"
      onClick={() =>
        navigator.clipboard
          .writeText(text())
          .then(() => notify({ kind: "done", text: "Copied." }))
          .catch(notifyError)
      }
    >
      {label}
    </button>
  );
}
