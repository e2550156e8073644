import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { get, report, runPath } from "../data/api";
import type { RunEvent } from "../data/contract";
import { count, firstLine } from "../data/format";
import { notifyError } from "../data/live";
import type { RunStore } from "../data/run-store";
import { Dialog } from "../parts/dialog";
import { Copy, Json } from "../parts/json";
import { pushKeys } from "../parts/keys";
import { Empty, Text, Time } from "../parts/text";
import { VirtualList } from "../parts/virtual";

const ROW_HEIGHT = 30;
const PAGE = 2000;

/** The events of the journal, with their numbers. They are read while the tab is open, page by page. */
export function EventsView({ store, filter }: { store: RunStore; filter: string }) {
  const events = useRef<RunEvent[]>([]);
  const [, setLength] = useState(0);
  const [chosen, setChosen] = useState<RunEvent | null>(null);
  const [current, setCurrent] = useState(-1);
  const list = useRef<VirtualList>(null);
  const reading = useRef(false);
  const seq = store.seq.value;

  useEffect(() => {
    let stopped = false;
    const read = async (): Promise<void> => {
      if (reading.current) return;
      reading.current = true;
      try {
        for (;;) {
          // The first event has the number 0.
          const after = events.current.at(-1)?.seq ?? -1;
          const query = after < 0 ? `?limit=${PAGE}` : `?after=${after}&limit=${PAGE}`;
          const path = `${runPath(store.run)}/events${report ? "" : query}`;
          const page = await get<{ events: RunEvent[] }>(path);
          if (stopped) return;
          const fresh = page.events.filter((event) => event.seq > after);
          events.current.push(...fresh);
          setLength(events.current.length);
          if (report || fresh.length === 0 || (events.current.at(-1)?.seq ?? 0) >= store.seq.peek()) return;
        }
      } catch (error) {
        if (!stopped) notifyError(error);
      } finally {
        reading.current = false;
      }
    };
    if ((events.current.at(-1)?.seq ?? -1) < seq) void read();
    return () => {
      stopped = true;
    };
  }, [seq]);

  const text = filter.toLowerCase();
  const shownEvents = text
    ? events.current.filter((event) => event.text.toLowerCase().includes(text) || event.type.toLowerCase().includes(text))
    : events.current;

  useLayoutEffect(() =>
    pushKeys((event) => {
      const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
      if (step) {
        const next = Math.max(0, Math.min(shownEvents.length - 1, current + step));
        setCurrent(next);
        list.current?.scrollTo(next);
        requestAnimationFrame(() => list.current?.element?.querySelector<HTMLElement>(`[data-index="${next}"]`)?.focus({ preventScroll: true }));
        return true;
      }
      return false;
    }),
  );

  if (shownEvents.length === 0) return <Empty title={text ? "No event matches" : "No events yet"} />;
  const gaps = hasGap(events.current);
  return (
    <div class="events">
      {gaps !== null && (
        <p class="callout error" role="alert">
          The events after number {count(gaps)} are missing. Reload the page.
        </p>
      )}
      <VirtualList
        handle={list}
        class="event-list"
        count={shownEvents.length}
        rowHeight={ROW_HEIGHT}
        stick
        pinned={current}
        attributes={{ role: "list", "aria-label": "Events" }}
        row={(index, top) => {
          const event = shownEvents[index];
          if (!event) return null;
          return (
            <div
              key={event.seq}
              role="listitem"
              class="row event-row"
              style={{ top: `${top}px`, height: `${ROW_HEIGHT}px` }}
              onClick={() => setChosen(event)}
            >
              <span class="event-seq">{event.seq}</span>
              <Time at={event.at} exact />
              <button
                type="button"
                class="event-type"
                data-index={index}
                tabIndex={index === Math.max(0, current) ? 0 : -1}
                aria-label={`Event ${event.seq}: ${event.type}`}
                onFocus={() => setCurrent(index)}
              >
                {event.type}
              </button>
              <span class="event-text">
                <Text>{firstLine(event.text)}</Text>
              </span>
            </div>
          );
        }}
      />
      {chosen && (
        <Dialog title={`Event ${chosen.seq}`} close={() => setChosen(null)} wide>
          <p>
            <span class="tag">{chosen.type}</span> <Time at={chosen.at} exact />
          </p>
          <p class="event-full">
            <Text>{chosen.text}</Text>
          </p>
          <div class="block">
            <Json value={chosen.event} />
          </div>
          <Copy text={() => JSON.stringify(chosen.event, null, 2)} label="Copy JSON" />
        </Dialog>
      )}
    </div>
  );
}

/** Returns the number after which an event is missing. */
export function hasGap(events: { seq: number }[]): number | null {
  for (let index = 1; index < events.length; index += 1) {
    const [before, event] = [events[index - 1], events[index]];
    if (before && event && event.seq !== before.seq + 1) return before.seq;
  }
  return null;
}
