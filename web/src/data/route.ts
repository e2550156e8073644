import { signal } from "@preact/signals";

/** The address within the page: it is in the fragment, so the server has one page and a report works without one. */
export interface Route {
  path: string[];
  query: URLSearchParams;
}

export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#\/?/, "");
  const split = text.indexOf("?");
  const path = split < 0 ? text : text.slice(0, split);
  return {
    path: path
      .split("/")
      .filter((part) => part !== "")
      .map(decode),
    query: new URLSearchParams(split < 0 ? "" : text.slice(split + 1)),
  };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Returns the fragment of an address; values that are empty are omitted. */
export function link(path: string[], query: Record<string, string | null | undefined> = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) parameters.set(name, value);
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export const route = signal<Route>(parseRoute(typeof location === "undefined" ? "" : location.hash));

export function listenToRoute(): void {
  addEventListener("hashchange", () => {
    route.value = parseRoute(location.hash);
  });
}

export function go(hash: string, replace = false): void {
  if (location.hash === hash) return;
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  route.value = parseRoute(hash);
}

/** Changes parameters of the present address; `null` removes one. */
export function setQuery(changes: Record<string, string | null>, replace = false): void {
  const query: Record<string, string> = Object.fromEntries(route.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query[name] = value;
    else delete query[name];
  }
  go(link(route.value.path, query), replace);
}

/** Returns the address with some parameters changed, for a link. */
export function withQuery(changes: Record<string, string | null>): string {
  const query: Record<string, string | null> = { ...Object.fromEntries(route.value.query), ...changes };
  return link(route.value.path, query);
}
