import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
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
const PAGE = 500;
/** The number of events from which those that were read earlier are dropped. */
const MAX_KEPT = 10_000;

/**
 * The events of the journal, with their numbers. Those in view are read, page by page: the number of an event is its place.
 * A search is done by the server, and its results are read from the first one.
 */
export function EventsView({ store, filter }: { store: RunStore; filter: string }) {
  const [text, setText] = useState(filter);
  useEffect(() => {
    const timer = setTimeout(() => setText(filter), 250);
    return () => clearTimeout(timer);
  }, [filter]);
  const source = useMemo(() => (text ? new FoundEvents(store.run, text) : new AllEvents(store.run)), [store, text]);
  const [, setVersion] = useState(0);
  const [chosen, setChosen] = useState<RunEvent | null>(null);
  const [current, setCurrent] = useState(-1);
  const list = useRef<VirtualList>(null);
  const seq = store.seq.value;
  source.changed = () => setVersion((version) => version + 1);
  useEffect(() => () => {
    source.changed = null;
  }, [source]);
  source.update(seq);
  const { count: total } = source;

  useLayoutEffect(() =>
    pushKeys((event) => {
      const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
      if (step) {
        const next = Math.max(0, Math.min(total - 1, current + step));
        setCurrent(next);
        list.current?.scrollTo(next);
        requestAnimationFrame(() => list.current?.element?.querySelector<HTMLElement>(`[data-index="${next}"]`)?.focus({ preventScroll: true }));
        return true;
      }
      return false;
    }),
  );

  if (total === 0) return source.isReading ? <p class="muted">Reading…</p> : <Empty title={filter ? "No event matches" : "No events yet"} />;
  const gaps = source.gap;
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
        key={text}
        count={total}
        rowHeight={ROW_HEIGHT}
        stick={!store.header.value?.ended && text === ""}
        pinned={current}
        attributes={{ role: "list", "aria-label": "Events" }}
        row={(index, top) => {
          const event = source.at(index);
          if (!event) {
            return (
              <div key={index} role="listitem" class="row event-row muted" aria-busy="true" style={{ top: `${top}px`, height: `${ROW_HEIGHT}px` }}>
                <span class="event-seq">{filter ? "" : index}</span>…
              </div>
            );
          }
          return (
            <div
              key={index}
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

interface EventPage {
  events: RunEvent[];
  last?: number | null;
}

/** Reads pages of events, one request at a time. */
abstract class EventReader {
  changed: (() => void) | null = null;
  isReading = false;
  gap: number | null = null;

  constructor(protected readonly run: string) {}

  abstract readonly count: number;
  abstract at(index: number): RunEvent | null;
  /** Reads what is missing, now that the run has the event `seq`. */
  abstract update(seq: number): void;

  protected read(query: string, take: (page: EventPage) => void): void {
    if (this.isReading) return;
    this.isReading = true;
    get<EventPage>(`${runPath(this.run)}/events${report ? "" : `?limit=${PAGE}${query}`}`)
      .then(take, notifyError)
      .finally(() => {
        this.isReading = false;
        this.changed?.();
      });
  }
}

/** All events; those in view are read. */
class AllEvents extends EventReader {
  private events = new Map<number, RunEvent>();
  private last = -1;
  private wanted: number | null = null;

  get count(): number {
    return this.last + 1;
  }

  at(index: number): RunEvent | null {
    const event = this.events.get(index);
    if (!event) this.want(index);
    return event ?? null;
  }

  private want(index: number): void {
    if (this.wanted === null) queueMicrotask(() => this.update(this.last));
    this.wanted = index;
  }

  update(seq: number): void {
    this.last = report ? this.events.size - 1 : seq;
    const index = report && this.events.size === 0 ? 0 : this.wanted;
    if (index === null || this.isReading) return;
    this.wanted = null;
    if (this.events.has(index)) return;
    // The page of the event, from the first event of it that is missing.
    let first = index - (index % PAGE);
    while (this.events.has(first)) first += 1;
    this.read(first === 0 ? "" : `&after=${first - 1}`, ({ events }) => {
      this.gap = gapIn(events, report ? (events[0]?.seq ?? 0) : first) ?? this.gap;
      if (this.events.size > MAX_KEPT && !report) this.events.clear();
      for (const event of events) this.events.set(event.seq, event);
    });
  }
}

/** The events that contain a text. */
class FoundEvents extends EventReader {
  private readonly found: RunEvent[] = [];
  private looked = -1;
  private viewed = 0;

  constructor(
    run: string,
    private readonly text: string,
  ) {
    super(run);
  }

  get count(): number {
    return this.found.length;
  }

  at(index: number): RunEvent | null {
    this.viewed = Math.max(this.viewed, index);
    return this.found[index] ?? null;
  }

  update(seq: number): void {
    // More are read when a person comes near the end.
    if (this.looked >= seq || this.found.length > this.viewed + PAGE) return;
    const text = this.text.toLowerCase();
    const after = this.looked < 0 ? "" : `&after=${this.looked}`;
    this.read(`${after}&text=${encodeURIComponent(this.text)}`, ({ events, last }) => {
      const matches = report ? events.filter((event) => `${event.text} ${event.type}`.toLowerCase().includes(text)) : events;
      this.found.push(...matches);
      this.looked = Math.max(this.looked, report ? seq : (last ?? seq));
    });
  }
}

/** Returns the number after which an event is missing in a page that begins with `first`. */
export function gapIn(events: { seq: number }[], first: number): number | null {
  const index = events.findIndex((event, place) => event.seq !== first + place);
  return index < 0 ? null : first + index - 1;
}
