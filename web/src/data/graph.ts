import type { Graph, GraphNode } from "./contract";
import { planId, type TaskTree } from "./tree";

/** What a drawing may contain beside the fields of a node: see `GraphNode`. */
type Point = [number, number] | { x: number; y: number };

/** The ID of a node that stands for several tasks of a flat plan: it differs from those of all tasks. */
export const clusterId = (id: string): string => `group:${id}`;

/** Returns the graph with pairs as points, and with an ID of its own for each node that stands for several tasks. */
export function normalizeGraph(graph: Graph): Graph {
  const ids = new Map(graph.nodes.filter((node) => (node.members?.length ?? 0) > 0).map((node) => [node.id, clusterId(node.id)]));
  const pair = (point: Point): [number, number] => (Array.isArray(point) ? point : [point.x, point.y]);
  return {
    ...graph,
    nodes: graph.nodes.map((node) => ({ ...node, id: ids.get(node.id) ?? node.id, members: ids.has(node.id) ? node.members : undefined })),
    edges: graph.edges.map((edge) => ({
      ...edge,
      from: ids.get(edge.from) ?? edge.from,
      to: ids.get(edge.to) ?? edge.to,
      points: (edge.points as Point[]).map(pair),
    })),
  };
}

/** Returns the node that shows a task: its own, that of its group, or the one that stands for it. */
export function nodeOf(id: string, graph: Graph, ancestors: string[]): string | null {
  const ids = new Set(graph.nodes.map((node) => node.id));
  const found = [id, planId(id), ...ancestors.toReversed()].find((candidate) => ids.has(candidate));
  return found ?? graph.nodes.find((node) => node.members?.includes(id))?.id ?? null;
}

/**
 * Returns the tasks that a node without a row stands for: those of a flat plan that are drawn as one, or the same task
 * of all items of a group.
 */
export function nodeMembers(node: GraphNode, tree: TaskTree): string[] {
  if (node.members) return node.members;
  return tree.rows.has(node.id) ? [] : (tree.sameTask.get(node.id) ?? []);
}
