import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { clock, duration, iso, seconds, shown, when } from "../data/format";
import { lastingUntil, now } from "../data/live";

/** A text of an agent or person: never markup, and without characters that hide or reorder it. */
export function Text({ children }: { children: string }) {
  return <bdi>{shown(children)}</bdi>;
}

/** A time for people, with the exact time as a tooltip. */
export function Time({ at, exact }: { at: number; exact?: boolean }) {
  return (
    <time dateTime={iso(at)} title={iso(at)}>
      {exact ? clock(at, true) : when(at, now.value)}
    </time>
  );
}

/** A time of the day, with the exact time as a tooltip. */
export function Clock({ at }: { at: number }) {
  return (
    <time class="number" dateTime={iso(at)} title={iso(at)}>
      {clock(at)}
    </time>
  );
}

/** The duration of what may be running: it counts until there is an end. */
export function Elapsed({ from, to }: { from: number; to: number | null | undefined }) {
  return <span class="number">{to == null ? seconds(lastingUntil() - from) : duration(to - from)}</span>;
}

/** A text that is long: its start, and the rest on request. */
export function Long({ text, max = 4000, class: className = "" }: { text: string; max?: number; class?: string }) {
  const [all, setAll] = useState(false);
  const cut = !all && text.length > max;
  return (
    <>
      <pre class={`block ${className}`} tabIndex={0}>
        <Text>{cut ? text.slice(0, max) : text}</Text>
      </pre>
      {cut && (
        <button type="button" class="button small" onClick={() => setAll(true)}>
          Show all {text.length.toLocaleString("en")} characters
        </button>
      )}
    </>
  );
}

export function Section({ title, count, open, children }: { title: string; count?: ComponentChildren; open?: boolean; children: ComponentChildren }) {
  return (
    <details class="section" open={open}>
      <summary>
        <h3>{title}</h3>
        {count != null && <span class="count">{count}</span>}
      </summary>
      <div class="section-body">{children}</div>
    </details>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
    </div>
  );
}
