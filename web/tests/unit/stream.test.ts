// @vitest-environment node
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { connection, Stream } from "../../src/data/stream";

class FakeSource extends EventTarget {
  static all: FakeSource[] = [];
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  isClosed = false;

  constructor(readonly url: string) {
    super();
    FakeSource.all.push(this);
  }

  close(): void {
    this.isClosed = true;
  }

  send(name: string, data: unknown): void {
    this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) }));
  }
}

const latest = (): FakeSource => {
  const source = FakeSource.all.at(-1);
  if (!source) throw new Error("no stream was opened");
  return source;
};

describe("stream", () => {
  const listeners = new Map<string, () => void>();
  const page = {
    hidden: false,
    addEventListener: (name: string, listener: () => void) => listeners.set(name, listener),
    removeEventListener: (name: string) => listeners.delete(name),
  };
  let seq = 5;
  let stream: Stream;
  const received: unknown[] = [];
  const reconnected = vi.fn();

  beforeEach(() => {
    vi.useFakeTimers();
    FakeSource.all = [];
    received.length = 0;
    seq = 5;
    page.hidden = false;
    vi.stubGlobal("EventSource", FakeSource);
    vi.stubGlobal("document", page);
    vi.stubGlobal("fetch", async () => new Response("{}"));
    stream = new Stream({ url: () => `/api/stream?after=${seq}`, on: { patch: (data) => received.push(data) }, reconnected });
  });

  afterEach(() => {
    stream.close();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("passes events on and continues after the last one that the page has", async () => {
    latest().onopen?.();
    expect(connection.value).toBe("live");
    latest().send("patch", { seq: 6 });
    expect(received).toEqual([{ seq: 6 }]);
    seq = 6;
    latest().onerror?.();
    expect(latest().isClosed).toBe(true);
    await vi.advanceTimersByTimeAsync(600);
    expect(FakeSource.all).toHaveLength(2);
    expect(latest().url).toBe("/api/stream?after=6");
    latest().onopen?.();
    expect(reconnected).toHaveBeenCalledOnce();
    expect(connection.value).toBe("live");
  });

  it("says that the connection is lost only if it stays so", async () => {
    latest().onopen?.();
    latest().onerror?.();
    expect(connection.value).toBe("live");
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await vi.advanceTimersByTimeAsync(3000);
      latest().onerror?.();
    }
    expect(connection.value).toBe("lost");
    await vi.advanceTimersByTimeAsync(6000);
    latest().onopen?.();
    expect(connection.value).toBe("live");
  });

  it("closes while the page is hidden", async () => {
    latest().onopen?.();
    page.hidden = true;
    listeners.get("visibilitychange")?.();
    expect(latest().isClosed).toBe(true);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(FakeSource.all).toHaveLength(1);
    page.hidden = false;
    listeners.get("visibilitychange")?.();
    expect(FakeSource.all).toHaveLength(2);
  });
});
