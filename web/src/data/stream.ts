import { signal } from "@preact/signals";
import { get, report, signedIn } from "./api";

export type Connection = "connecting" | "live" | "lost";

/** The state of the stream of the present page. */
export const connection = signal<Connection>("connecting");

const RETRY_MS = [500, 1000, 2000, 5000];
/** A break is shown only if it lasts, so that a stream that the server cuts off does not flicker. */
const GRACE_MS = 1200;

export interface StreamOptions {
  /** Returns the address with the number of the last event that the page has. */
  url: () => string;
  on: Record<string, (data: unknown) => void>;
  /** Called when the stream is open again after a break. */
  reconnected?: () => void;
}

/**
 * A stream of server-sent events that reconnects by itself, and closes while the page is hidden: browsers permit six
 * connections to a host.
 */
export class Stream {
  private source: EventSource | null = null;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private grace: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private wasOpen = false;
  private closed = false;
  private readonly visibility = (): void => {
    if (document.hidden) this.disconnect();
    else if (!this.source) this.connect();
  };

  constructor(private readonly options: StreamOptions) {
    if (report) {
      connection.value = "live";
      return;
    }
    document.addEventListener("visibilitychange", this.visibility);
    this.connect();
  }

  close(): void {
    this.closed = true;
    document.removeEventListener("visibilitychange", this.visibility);
    this.disconnect();
  }

  private disconnect(): void {
    clearTimeout(this.retry);
    clearTimeout(this.grace);
    this.grace = undefined;
    this.source?.close();
    this.source = null;
  }

  private connect(): void {
    if (this.closed) return;
    const source = new EventSource(this.options.url());
    this.source = source;
    source.onopen = () => {
      clearTimeout(this.grace);
      this.grace = undefined;
      this.failures = 0;
      connection.value = "live";
      if (this.wasOpen) this.options.reconnected?.();
      this.wasOpen = true;
    };
    for (const [name, handle] of Object.entries(this.options.on)) {
      source.addEventListener(name, (event) => handle(JSON.parse((event as MessageEvent<string>).data)));
    }
    source.onerror = () => {
      this.grace ??= setTimeout(() => {
        connection.value = "lost";
      }, GRACE_MS);
      // The browser repeats a broken connection by itself, but not one that was refused. Both are repeated here, from
      // the last event that the page has.
      source.close();
      this.source = null;
      const delay = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)] ?? 5000;
      this.failures += 1;
      clearTimeout(this.retry);
      this.retry = setTimeout(() => void this.reconnect(), delay);
    };
  }

  private async reconnect(): Promise<void> {
    // The status of a refused stream is not visible to the page, so ask for it: 401 shows how to sign in.
    if (this.failures > 1) await get("/api/info").catch(() => undefined);
    if (!this.closed && !document.hidden && signedIn.value && !this.source) this.connect();
  }
}
