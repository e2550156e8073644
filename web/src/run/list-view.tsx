import type { TaskRow } from "../data/contract";
import { cost, count, firstLine, plural, short, shown } from "../data/format";
import type { VisibleRow } from "../data/tree";
import { CountsBar, countWords, State } from "../parts/state";
import { Clock, Elapsed, Empty, Text } from "../parts/text";
import { VirtualList } from "../parts/virtual";
import { useRows, type ViewProps } from "./rows";

const ROW_HEIGHT = 40;

/** What a row says beside its state: the error, the progress, or the reason. */
export function remark(row: TaskRow): string {
  if (row.error) return firstLine(row.error);
  if (row.progress && !row.ended) {
    const { value, total, message } = row.progress;
    return firstLine([total ? `${Math.round((value / total) * 100)} %` : String(value), message].filter(Boolean).join(" · "));
  }
  if (row.reason) return firstLine(row.reason);
  if (row.state === "waiting" && row.needs?.length) return firstLine(`after ${row.needs.slice(0, 5).join(", ")}${row.needs.length > 5 ? ` and ${row.needs.length - 5} more` : ""}`);
  return row.reused ? "kept from an earlier run" : "";
}

export const callText = (row: TaskRow): string => (row.agent && row.tool ? `${row.agent}.${row.tool}` : (row.tool ?? row.agent ?? ""));

export function ListView(props: ViewProps) {
  const { rows, current, list, attributes } = useRows(props);
  const { store, selected } = props;

  const row = (index: number, top: number) => {
    const item = rows[index];
    if (!item) return null;
    const { row: task } = item;
    return (
      <div
        {...attributes(index, item, top, ROW_HEIGHT)}
        class={`row grid-row ${selected === task.id ? "selected" : ""}`}
      >
        <NameCell item={item} toggle={() => store.setOpen(task.id, !item.open)} />
        <div role="gridcell" class="c-state">
          <State state={task.state} />
        </div>
        <div role="gridcell" class="c-call">
          <Text>{callText(task)}</Text>
        </div>
        <div role="gridcell" class="c-number c-attempts">
          {task.attempts > 0 ? task.attempts : ""}
        </div>
        <div role="gridcell" class="c-started">
          {task.started != null && <Clock at={task.started} />}
        </div>
        <div role="gridcell" class="c-number">
          {task.started != null && <Elapsed from={task.started} to={task.ended} />}
        </div>
        <div role="gridcell" class="c-number c-spent">
          {task.cost_usd != null ? cost(task.cost_usd) : task.tokens != null ? `${short(task.tokens)} tok` : ""}
        </div>
        <div role="gridcell" class={`c-remark ${task.error ? "error-text" : ""}`}>
          {task.children && !task.error ? (
            <span class="group-progress">
              <CountsBar counts={task.children} />
              <span>{countWords(task.children)}</span>
            </span>
          ) : (
            <Text>{remark(task)}</Text>
          )}
        </div>
      </div>
    );
  };

  return (
    <VirtualList
      handle={list}
      class="task-list"
      count={rows.length}
      rowHeight={ROW_HEIGHT}
      pinned={current}
      row={row}
      attributes={{ role: "treegrid", "aria-label": plural(rows.length, "task"), "aria-rowcount": rows.length + 1, "aria-colcount": 8 }}
      header={
        rows.length === 0 ? (
          <Empty title="No task matches">
            Change or clear the search.
          </Empty>
        ) : (
          <div role="row" class="grid-row grid-head" aria-rowindex={1}>
            <div role="columnheader">Task</div>
            <div role="columnheader">State</div>
            <div role="columnheader" class="c-call">
              Call
            </div>
            <div role="columnheader" class="c-number c-attempts">
              Attempts
            </div>
            <div role="columnheader" class="c-started">
              Started
            </div>
            <div role="columnheader" class="c-number">
              Duration
            </div>
            <div role="columnheader" class="c-number c-spent">
              Spent
            </div>
            <div role="columnheader" class="c-remark">
              What happens
            </div>
          </div>
        )
      }
    />
  );
}

/** The name of a task, indented by its level, with what opens its group. */
export function NameCell({ item, toggle }: { item: VisibleRow; toggle: () => void }) {
  return (
    <div role="gridcell" class={`c-name level-${Math.min(item.level, 8)}`}>
      {item.members > 0 ? (
        <button
          type="button"
          class={`toggle ${item.open ? "open" : ""}`}
          tabIndex={-1}
          aria-label={item.open ? `Close ${item.row.name}` : `Open ${item.row.name}`}
          onClick={(event) => {
            event.stopPropagation();
            toggle();
          }}
        >
          <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">
            <path d="M4 2.5L8 6 4 9.5" />
          </svg>
        </button>
      ) : (
        <span class="toggle-space" />
      )}
      <span class="name" title={`${shown(item.row.name)} (${shown(item.row.id)})`}>
        <Text>{item.name}</Text>
      </span>
      {item.members > 0 && <span class="member-count">{count(item.members)}</span>}
      {item.row.critical && <span class="visually-hidden">on the critical path</span>}
    </div>
  );
}
