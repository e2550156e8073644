/**
 * Handles a key and returns whether it did. Handlers are set before the page is painted, so that a key sees what the key
 * before it has changed. No two handlers of a page want the same key.
 */
type Handler = (event: KeyboardEvent) => boolean | undefined;

const handlers: Handler[] = [];

export function pushKeys(handler: Handler): () => void {
  handlers.push(handler);
  return () => {
    const at = handlers.lastIndexOf(handler);
    if (at >= 0) handlers.splice(at, 1);
  };
}

const isEditing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement &&
  (target.isContentEditable ||
    target instanceof HTMLTextAreaElement ||
    target instanceof HTMLSelectElement ||
    (target instanceof HTMLInputElement && !["checkbox", "radio", "button"].includes(target.type)));

export function listenToKeys(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (isEditing(event.target)) {
      if (event.key === "Escape") (event.target as HTMLElement).blur();
      return;
    }
    for (const handler of [...handlers].reverse()) {
      if (handler(event)) {
        event.preventDefault();
        return;
      }
    }
  });
}

export const KEYS: [keys: string, what: string][] = [
  ["j k", "next and previous row"],
  ["Enter", "open the details of a task"],
  ["Escape", "close the details"],
  ["g", "graph"],
  ["t", "timeline"],
  ["l", "list"],
  ["e", "events"],
  ["s", "summary"],
  ["f", "next failure"],
  ["a", "answer the next question"],
  ["/", "search"],
  ["\u2190 \u2191 \u2192 \u2193", "along the edges of the graph; open and close groups in lists"],
  ["+ \u2212 0", "zoom in, zoom out, and show everything"],
  ["?", "this help"],
];
