import { useSignal } from "@preact/signals";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { TaskRow } from "../data/contract";
import { duration, plural, shown } from "../data/format";
import { lastingUntil } from "../data/live";
import { pushKeys } from "../parts/keys";
import { StateIcon, WORDS } from "../parts/state";
import { Empty } from "../parts/text";
import { VirtualList } from "../parts/virtual";
import { callText, NameCell } from "./list-view";
import { useRows, type ViewProps } from "./rows";
import { activity, percent, SEGMENT_WORDS, type Span, segmentWords, ticks, within, zoomed } from "./time-scale";

const ROW_HEIGHT = 32;
const BUCKETS = 160;

export function TimelineView(props: ViewProps) {
  const { rows, current, list, attributes } = useRows(props);
  const { store, selected } = props;
  const chosen = useSignal<Span | null>(null);
  const header = store.header.value;
  const clock = lastingUntil();
  const start = header?.started ?? 0;
  const end = Math.max(start + 1, header?.ended ?? clock);
  const whole: Span = [start, end + (end - start) * 0.02];
  const span = chosen.value ?? whole;
  const marks = ticks(span, start, 8);
  const version = store.version.value;
  const profile = useMemo(() => activity(store.rows.values(), whole, clock, BUCKETS), [version, Math.floor(clock / 1000)]);

  const zoom = (factor: number): void => {
    chosen.value = zoomed(span, whole, factor);
  };
  const shift = (share: number): void => {
    if (chosen.value) chosen.value = within([span[0] + (span[1] - span[0]) * share, span[1] + (span[1] - span[0]) * share], whole);
  };
  useLayoutEffect(() =>
    pushKeys((event) => {
      if (event.key === "+" || event.key === "=") zoom(0.5);
      else if (event.key === "-") zoom(2);
      else if (event.key === "0") chosen.value = null;
      else if (event.key === "<") shift(-0.4);
      else if (event.key === ">") shift(0.4);
      else return false;
      return true;
    }),
  );

  const row = (index: number, top: number) => {
    const item = rows[index];
    if (!item) return null;
    const task = item.row;
    return (
      <div
        {...attributes(index, item, top, ROW_HEIGHT)}
        class={`row time-row ${selected === task.id ? "selected" : ""}`}
      >
        <NameCell item={item} toggle={() => store.setOpen(task.id, !item.open)} />
        <div role="gridcell" class="c-icon">
          <StateIcon state={task.state} size={14} />
          <span class="visually-hidden">{WORDS[task.state]}</span>
        </div>
        <div role="gridcell" class="c-bar">
          <Bar task={task} span={span} clock={clock} />
        </div>
      </div>
    );
  };

  return (
    <div class="timeline">
      <div class="view-tools">
        <Legend />
        <div class="tool-buttons" role="group" aria-label="Time">
          <button type="button" class="button small" disabled={!chosen.value} onClick={() => shift(-0.4)} aria-label="Earlier">
            ←
          </button>
          <button type="button" class="button small" disabled={!chosen.value} onClick={() => shift(0.4)} aria-label="Later">
            →
          </button>
          <button type="button" class="button small" onClick={() => zoom(0.5)} aria-label="Zoom in">
            +
          </button>
          <button type="button" class="button small" disabled={!chosen.value} onClick={() => zoom(2)} aria-label="Zoom out">
            −
          </button>
          <button
            type="button"
            class="button small"
            disabled={!chosen.value}
            onClick={() => {
              chosen.value = null;
            }}
          >
            Whole run
          </button>
        </div>
      </div>
      <Overview
        profile={profile}
        whole={whole}
        chosen={chosen.value}
        choose={(next) => {
          chosen.value = next;
        }}
      />
      {rows.length === 0 ? (
        <Empty title="No task matches">Change or clear the search.</Empty>
      ) : (
        <VirtualList
          handle={list}
          class="time-list"
          count={rows.length}
          rowHeight={ROW_HEIGHT}
          pinned={current}
          row={row}
          attributes={{ role: "treegrid", "aria-label": `Timeline of ${plural(rows.length, "task")}`, "aria-rowcount": rows.length + 1 }}
          header={
            <div role="row" class="time-row time-head" aria-rowindex={1}>
              <div role="columnheader">Task</div>
              <div role="columnheader" class="c-icon">
                <span class="visually-hidden">State</span>
              </div>
              <div role="columnheader" class="c-bar">
                <span class="visually-hidden">Time since the start</span>
                <svg width="100%" height="28" aria-hidden="true">
                  {marks.map((mark) => (
                    <g key={mark.at}>
                      <line class="tick" x1={`${percent(mark.at, span)}%`} x2={`${percent(mark.at, span)}%`} y1="20" y2="28" />
                      <text class="tick-text" x={`${percent(mark.at, span)}%`} y="15" text-anchor={percent(mark.at, span) < 3 ? "start" : "middle"}>
                        {mark.text}
                      </text>
                    </g>
                  ))}
                </svg>
              </div>
            </div>
          }
        />
      )}
    </div>
  );
}

function Bar({ task, span, clock }: { task: TaskRow; span: Span; clock: number }) {
  const segments = task.segments ?? [];
  const from = task.started ?? segments[0]?.[1];
  const to = task.ended ?? (from != null ? clock : null);
  const words = segments.length > 0 ? segmentWords(segments, clock, duration) : from != null && to != null ? duration(to - from) : "not started";
  const labelEnd = to != null ? percent(to, span) : 0;
  const labelStart = from != null ? percent(from, span) : 0;
  const text = from != null && to != null ? [callText(task).split(".")[0], duration(to - from)].filter(Boolean).join(" · ") : "";
  const after = labelEnd < 78;
  const visible = from != null && to != null && labelEnd >= 0 && labelStart <= 100;
  return (
    <svg class="bar-svg" width="100%" height={ROW_HEIGHT} role="img" aria-label={words}>
      <title>{words}</title>
      {task.children && from != null && to != null && (
        <rect
          class={`segment group-bar s-${task.state}`}
          x={`${percent(from, span)}%`}
          width={`${Math.max(0.15, percent(to, span) - percent(from, span))}%`}
          y="13"
          height="6"
          rx="3"
        />
      )}
      {!task.children &&
        segments.map(([kind, start, finish, attempt, , outcome]) => {
          const x = percent(start, span);
          const width = Math.max(0.2, percent(finish ?? clock, span) - x);
          const thin = kind === "queued" || kind === "pause";
          const state = kind === "running" ? (outcome === "failed" ? "failed" : outcome ? "succeeded" : "running") : kind;
          return (
            <rect
              key={`${kind}${start}${attempt}`}
              class={`segment k-${kind} o-${state}`}
              x={`${x}%`}
              width={`${width}%`}
              y={thin ? 14 : 9}
              height={thin ? 4 : 14}
              rx={thin ? 2 : 3}
            />
          );
        })}
      {task.critical && from != null && to != null && (
        <rect class="critical-line" x={`${percent(from, span)}%`} width={`${Math.max(0.3, percent(to, span) - percent(from, span))}%`} y="26" height="2" />
      )}
      {visible &&
        (after ? (
          <text class="bar-text" x={`${Math.max(0, labelEnd)}%`} dx="8" y="20">
            {shown(text)}
          </text>
        ) : labelStart > 22 ? (
          <text class="bar-text" x={`${labelStart}%`} dx="-8" y="20" text-anchor="end">
            {shown(text)}
          </text>
        ) : null)}
    </svg>
  );
}

function Legend() {
  return (
    <ul class="legend" aria-label="Legend">
      {(["succeeded", "failed"] as const).map((outcome) => (
        <li key={outcome}>
          <svg width="22" height="14" aria-hidden="true">
            <rect class={`segment k-running o-${outcome}`} width="22" x="0" y="1" height="12" rx="3" />
          </svg>
          {WORDS[outcome]}
        </li>
      ))}
      {(["running", "queued", "model", "person", "pause"] as const).map((kind) => (
        <li key={kind}>
          <svg width="22" height="14" aria-hidden="true">
            <rect
              class={`segment k-${kind} o-${kind}`}
              width="22"
              x="0"
              y={kind === "queued" || kind === "pause" ? 5 : 1}
              height={kind === "queued" || kind === "pause" ? 4 : 12}
              rx="3"
            />
          </svg>
          {SEGMENT_WORDS[kind]}
        </li>
      ))}
      <li>
        <svg width="22" height="14" aria-hidden="true">
          <rect class="critical-line" width="22" y="6" height="2" />
        </svg>
        critical path
      </li>
    </ul>
  );
}

/** How many tasks are active over the whole run; dragging chooses a part of it. */
function Overview({ profile, whole, chosen, choose }: { profile: number[]; whole: Span; chosen: Span | null; choose: (span: Span | null) => void }) {
  const element = useRef<SVGSVGElement>(null);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const max = Math.max(1, ...profile);
  const path = profile.map((value, index) => `${index === 0 ? "M" : "L"}${index} ${40 - (value / max) * 36}L${index + 1} ${40 - (value / max) * 36}`).join("");
  const at = (event: PointerEvent): number => {
    const box = element.current?.getBoundingClientRect();
    return box ? Math.max(0, Math.min(1, (event.clientX - box.left) / Math.max(1, box.width))) : 0;
  };
  const time = (share: number): number => whole[0] + (whole[1] - whole[0]) * share;
  const shownSpan = drag ? [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)] : chosen ? [percent(chosen[0], whole) / 100, percent(chosen[1], whole) / 100] : null;
  return (
    <div class="overview">
      <div class="overview-label">
        <span>Activity</span>
        <span class="muted">
          {chosen ? duration(chosen[1] - chosen[0]) : `at most ${plural(max, "task")} at once`}
        </span>
      </div>
      <svg
        ref={element}
        class="overview-svg"
        height="40"
        width="100%"
        viewBox={`0 0 ${BUCKETS} 40`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Tasks that run at once over the run: at most ${max}. Drag to choose a part.`}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          setDrag({ from: at(event), to: at(event) });
        }}
        onPointerMove={(event) => drag && setDrag({ ...drag, to: at(event) })}
        onPointerUp={() => {
          if (!drag) return;
          const [from, to] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
          setDrag(null);
          choose(to - from < 0.005 ? null : [time(from), time(to)]);
        }}
        onPointerCancel={() => setDrag(null)}
      >
        <path class="profile" d={`${path}L${BUCKETS} 40L0 40z`} />
        {shownSpan && (
          <g>
            <rect class="brush-out" x="0" width={Math.max(0, (shownSpan[0] ?? 0) * BUCKETS)} y="0" height="40" />
            <rect class="brush-out" x={(shownSpan[1] ?? 1) * BUCKETS} width={Math.max(0, BUCKETS - (shownSpan[1] ?? 1) * BUCKETS)} y="0" height="40" />
            <rect class="brush" x={(shownSpan[0] ?? 0) * BUCKETS} width={((shownSpan[1] ?? 1) - (shownSpan[0] ?? 0)) * BUCKETS} y="0" height="40" />
          </g>
        )}
      </svg>
    </div>
  );
}
