import type { Signal } from "@preact/signals";
import { useComputed } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { TaskRow } from "../data/contract";
import { outputMatches, taskFilter } from "../data/filter";
import type { RunStore } from "../data/run-store";
import type { VisibleRow } from "../data/tree";
import { pushKeys } from "../parts/keys";
import type { VirtualList } from "../parts/virtual";

export interface ViewProps {
  store: RunStore;
  /** The row or node that the keyboard is at. */
  cursor: Signal<string | null>;
  /** The task in the panel. */
  selected: string | null;
  filter: string;
  /** Opens the panel of a task. */
  open: (id: string) => void;
  /** Moves the cursor, and the panel with it if it is open. */
  move: (id: string) => void;
}

/** The rows of the list and of the timeline, with the keys that move among them. */
export function useRows({ store, cursor, selected, filter, open, move }: ViewProps) {
  const list = useRef<VirtualList>(null);
  const accepts = useRef<{ text: string; accepts: ((row: TaskRow) => boolean) | null }>({ text: "", accepts: null });
  if (accepts.current.text !== filter) accepts.current = { text: filter, accepts: taskFilter(filter) };
  const opened = store.opened.value;
  const tree = store.tree.value;
  const version = store.version.value;
  const cache = useRef<{ key: unknown[]; rows: VisibleRow[]; index: Map<string, number> }>({ key: [], rows: [], index: new Map() });
  const key = [opened, tree, version, filter, outputMatches.value];
  if (key.some((part, at) => part !== cache.current.key[at])) {
    const rows = tree.visible(opened, accepts.current.accepts);
    cache.current = { key, rows, index: new Map(rows.map((item, at) => [item.row.id, at])) };
  }
  const { rows, index } = cache.current;
  const at = useComputed(() => cursor.value).value;
  const current = at === null ? -1 : (index.get(at) ?? -1);

  const goTo = (position: number): void => {
    const item = rows[Math.max(0, Math.min(rows.length - 1, position))];
    if (!item) return;
    move(item.row.id);
    list.current?.scrollTo(index.get(item.row.id) ?? 0);
    requestAnimationFrame(() => list.current?.element?.querySelector<HTMLElement>('[tabindex="0"][data-id]')?.focus({ preventScroll: true }));
  };

  useLayoutEffect(() =>
    pushKeys((event) => {
      const item = rows[current];
      switch (event.key) {
        case "j":
        case "ArrowDown":
          goTo(current + 1);
          return true;
        case "k":
        case "ArrowUp":
          goTo(current < 0 ? 0 : current - 1);
          return true;
        case "Home":
          goTo(0);
          return true;
        case "End":
          goTo(rows.length - 1);
          return true;
        case "PageDown":
        case "PageUp":
          goTo(current + (event.key === "PageDown" ? 20 : -20));
          return true;
        case "Enter": {
          const target = event.target;
          if (target instanceof HTMLElement && target.closest("a,button,summary,input")) return false;
          if (!item) return false;
          open(item.row.id);
          return true;
        }
        case "ArrowRight":
          if (!item) return false;
          if (item.members > 0 && !item.open) store.setOpen(item.row.id, true);
          else if (item.members > 0) goTo(current + 1);
          return true;
        case "ArrowLeft":
          if (!item) return false;
          if (item.members > 0 && item.open) store.setOpen(item.row.id, false);
          else if (item.row.parent) goTo(index.get(item.row.parent) ?? current);
          return true;
        default:
          return false;
      }
    }),
  );

  // What another view, the search for failures, or a link chose is scrolled into view, once its groups are open.
  const wanted = useRef<string | null>(null);
  useEffect(() => {
    wanted.current = selected ?? at;
    if (wanted.current !== null) store.reveal(wanted.current);
  }, [selected, at]);
  useEffect(() => {
    const position = wanted.current === null ? undefined : index.get(wanted.current);
    if (position === undefined || !list.current?.element?.clientHeight) return;
    list.current.scrollTo(position);
    wanted.current = null;
  });

  const focusable = Math.max(0, current);
  /** The attributes of the row at an index. */
  const attributes = (index: number, item: VisibleRow, top: number, height: number) => {
    const { id } = item.row;
    return {
      key: id,
      role: "row" as const,
      style: { top: `${top}px`, height: `${height}px` },
      "data-id": id,
      tabIndex: index === focusable ? 0 : -1,
      "aria-rowindex": index + 2,
      "aria-level": item.level,
      "aria-posinset": item.position,
      "aria-setsize": item.siblings,
      "aria-expanded": item.members > 0 ? item.open : undefined,
      "aria-selected": selected === id,
      onFocus: () => {
        cursor.value = id;
      },
      onClick: () => open(id),
    };
  };
  return { rows, current, list, attributes };
}
