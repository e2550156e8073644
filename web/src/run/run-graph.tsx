import { signal } from "@preact/signals";
import type { ZoomTransform } from "d3-zoom";
import type { Counts, GraphNode, TaskRow } from "../data/contract";
import { duration, plural, shown } from "../data/format";
import { taskFilter } from "../data/filter";
import { nodeMembers, nodeOf } from "../data/graph";
import { withQuery } from "../data/route";
import { countStates, groupState } from "../data/tree";
import { countWords } from "../parts/state";
import { Empty } from "../parts/text";
import { GraphView, groupDetail, type NodeContent, stateWord } from "./graph-view";
import { callText } from "./list-view";
import type { ViewProps } from "./rows";

const criticalPath = signal(true);
const memories = new WeakMap<object, { transform?: ZoomTransform }>();

function detailOf(row: TaskRow): string {
  if (row.children) return groupDetail(row.children);
  const call = callText(row);
  switch (row.state) {
    case "succeeded":
      return [row.reused ? "kept" : row.started != null && row.ended != null ? duration(row.ended - row.started) : "", call].filter(Boolean).join(" · ");
    case "failed":
      return [row.attempts > 1 ? plural(row.attempts, "attempt") : "failed", call].filter(Boolean).join(" · ");
    case "running":
      if (row.progress?.total) return [`${Math.round((row.progress.value / row.progress.total) * 100)} %`, row.progress.message ?? call].filter(Boolean).join(" · ");
      return [row.attempts > 1 ? `attempt ${row.attempts}` : "running", call].filter(Boolean).join(" · ");
    case "waiting":
      return call || "waiting";
    default:
      return [stateWord(row.state), call].filter(Boolean).join(" · ");
  }
}

function labelOf(row: TaskRow): string {
  const parts = [row.name, stateWord(row.state)];
  if (row.attempts > 1) parts.push(`attempt ${row.attempts}`);
  if (row.agent) parts.push(`on ${row.agent}`);
  if (row.children) parts.push(`a group: ${countWords(row.children)}`);
  if (row.needs?.length) parts.push(`needs ${row.needs.slice(0, 6).join(", ")}${row.needs.length > 6 ? ` and ${row.needs.length - 6} more` : ""}`);
  return shown(parts.join(", "));
}

export function RunGraph({ store, cursor, selected, filter, move, open }: ViewProps) {
  store.version.value;
  const graph = store.graph.value;
  const memory = memories.get(store) ?? {};
  memories.set(store, memory);
  if (graph.nodes.length === 0) {
    return store.rows.size === 0 ? (
      <Empty title="No tasks yet">The graph appears with the first tasks of the run.</Empty>
    ) : (
      <Empty title="No graph">
        This run has no drawing. <a href={withQuery({})}>The list and the timeline show everything.</a>
      </Empty>
    );
  }
  const accepts = taskFilter(filter);
  const inside = new Set(graph.nodes.map((node) => store.rows.get(node.id)?.parent).filter((parent): parent is string => typeof parent === "string"));

  const shownNode = (id: string | null): string | null => id && nodeOf(id, graph, store.tree.value.ancestors(id));
  const content = (node: GraphNode): NodeContent => {
    const row = store.rows.get(node.id);
    if (!row) {
      const rows = nodeMembers(node, store.tree.value).flatMap((id) => store.rows.get(id) ?? []);
      if (rows.length === 0) {
        const name = node.name ?? node.id;
        return { name, kind: "", state: null, detail: node.detail ?? "", frame: node.is_group, dimmed: accepts !== null, label: shown(name), key: node };
      }
      const counts: Counts = countStates(rows);
      const state = groupState(counts);
      const detail = groupDetail(counts);
      const name = node.name ?? node.id;
      return {
        name,
        kind: "group",
        state,
        detail,
        counts,
        frame: node.is_group,
        critical: rows.some((member) => member.critical),
        dimmed: accepts !== null && !rows.some(accepts),
        label: shown(`${name}, ${stateWord(state)}, a group: ${countWords(counts)}`),
        key: store.version.value,
      };
    }
    return {
      name: row.name,
      kind: row.kind,
      state: row.state,
      detail: detailOf(row),
      counts: row.children,
      critical: row.critical,
      frame: node.is_group ?? inside.has(row.id),
      dimmed: accepts !== null && !accepts(row) && !store.tree.value.members(row.id).some((id) => accepts(store.rows.get(id) ?? row)),
      label: labelOf(row),
      key: row,
    };
  };

  return (
    <GraphView
      graph={graph}
      content={content}
      cursor={shownNode(cursor.value)}
      selected={shownNode(selected)}
      critical={criticalPath.value}
      toggleCritical={() => {
        criticalPath.value = !criticalPath.value;
      }}
      memory={memory}
      move={move}
      open={open}
      label="Graph of the run. The arrow keys move along its edges, and Enter opens a task. The list shows the same."
    />
  );
}
