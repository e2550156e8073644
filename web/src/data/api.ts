import { signal } from "@preact/signals";
import { go } from "./route";

/** An error of the server, with its help. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly help?: string,
  ) {
    super(message);
  }
}

/** Whether the server knows this browser; `false` shows how to open the page. */
export const signedIn = signal(true);

/**
 * The responses that a report contains, by path. A report is one file without a server, so it has them instead of a
 * connection.
 */
interface Report {
  run: string;
  responses: Record<string, unknown>;
}

function embeddedReport(): Report | null {
  const text = typeof document === "undefined" ? null : document.getElementById("kapell-report")?.textContent;
  return text ? (JSON.parse(text) as Report) : null;
}

export const report: Report | null = embeddedReport();

async function request<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  if (report) {
    const found = report.responses[path];
    if (found === undefined) throw new ApiError(404, "report::absent", "The report does not contain this.");
    return found as T;
  }
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      credentials: "same-origin",
      cache: "no-store",
      signal: signal ?? null,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "connection", "kapell does not answer.", "Check that `kapell serve` is still running.");
  }
  if (response.status === 401) signedIn.value = false;
  const text = await response.text();
  let json: unknown = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    // The body of a proxy's error page, which the status describes better.
  }
  if (!response.ok) {
    const error = (json as { error?: { code?: string; message?: string; help?: string } } | null)?.error;
    throw new ApiError(
      response.status,
      error?.code ?? `http::${response.status}`,
      error?.message ?? `The server answered with status ${response.status}.`,
      error?.help,
    );
  }
  return json as T;
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => request<T>("GET", path, undefined, signal);

export const post = <T>(path: string, body: unknown = {}): Promise<T> => request<T>("POST", path, body);

export const runPath = (run: string): string => `/api/runs/${encodeURIComponent(run)}`;

/** Exchanges the token of the address for a cookie, and removes it from the address and the history. */
export async function openSession(): Promise<void> {
  const token = /^#t=([^&/]+)/.exec(location.hash)?.[1];
  if (!token || report) return;
  go("#/runs", true);
  try {
    await post("/api/session", { token: decodeURIComponent(token) });
    signedIn.value = true;
  } catch {
    signedIn.value = false;
  }
}
