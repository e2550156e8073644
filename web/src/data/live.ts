import { signal } from "@preact/signals";
import { ApiError } from "./api";

/** The text for screen readers about what changes by itself. */
export const announcement = signal("");

const INTERVAL_MS = 5000;
let pending: string | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;
let lastAt = 0;

/** Announces a text to screen readers, at most one in five seconds; of several, the latest. */
export function announce(text: string): void {
  pending = text;
  if (timer !== undefined) return;
  timer = setTimeout(
    () => {
      timer = undefined;
      if (pending === null || pending === announcement.value) return;
      announcement.value = pending;
      lastAt = Date.now();
    },
    Math.max(0, INTERVAL_MS - (Date.now() - lastAt)),
  );
}

export interface Message {
  id: number;
  kind: "done" | "error";
  text: string;
  help?: string;
  link?: { href: string; text: string };
}

export const messages = signal<Message[]>([]);
let nextMessage = 1;

export function dismiss(id: number): void {
  messages.value = messages.value.filter((message) => message.id !== id);
}

/** Shows the result of an action. Results disappear; errors stay until they are dismissed. */
export function notify(message: Omit<Message, "id">): void {
  const id = nextMessage++;
  messages.value = [...messages.value.slice(-3), { ...message, id }];
  if (message.kind === "done") setTimeout(() => dismiss(id), 6000);
}

export function notifyError(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  const known = error instanceof ApiError;
  notify({ kind: "error", text: error instanceof Error ? error.message : String(error), help: known ? error.help : undefined });
}

/** The time of the server, which advances once a second. */
export const now = signal(Date.now());
let offset = 0;

export function setServerTime(at: number): void {
  offset = at - Date.now();
  now.value = at;
}

/** The time at which the run of the page stands still, because no process drives it. */
export const frozenAt = signal<number | null>(null);

/** The time up to which what has not ended lasts so far. */
export const lastingUntil = (): number => frozenAt.value ?? now.value;

export function startClock(): void {
  setInterval(() => {
    if (!document.hidden) now.value = Date.now() + offset;
  }, 1000);
}
