import type { Graph, GraphEdge, GraphNode } from "../data/contract";

export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

export const overlaps = (a: Box, b: Box): boolean => a.x <= b.x + b.w && b.x <= a.x + a.w && a.y <= b.y + b.h && b.y <= a.y + a.h;

/** A graph with what drawing and moving in it need: boxes of edges, neighbors, and the direction of its edges. */
export class Drawing {
  readonly byId: Map<string, GraphNode>;
  readonly neighbors = new Map<string, Set<string>>();
  readonly edges: { edge: GraphEdge; box: Box; path: string; arrow: string }[];
  readonly vertical: boolean;

  constructor(readonly graph: Graph) {
    this.byId = new Map(graph.nodes.map((node) => [node.id, node]));
    let down = 0;
    for (const { from, to, points } of graph.edges) {
      this.connect(from, to);
      this.connect(to, from);
      down += entersFromAbove(this.byId.get(to), points.at(-1));
    }
    this.vertical = down >= 0;
    this.edges = graph.edges
      .filter((edge) => edge.points.length > 1)
      .map((edge) => ({ edge, box: boxOf(edge.points), path: curve(edge.points, this.vertical), arrow: arrow(edge.points, this.vertical) }));
  }

  private connect(from: string, to: string): void {
    const set = this.neighbors.get(from);
    if (set) set.add(to);
    else this.neighbors.set(from, new Set([to]));
  }

  /** Returns the node that an arrow key leads to: along an edge if there is one in that direction. */
  towards(id: string, key: string): string | null {
    const node = this.byId.get(id);
    if (!node) return this.graph.nodes[0]?.id ?? null;
    // Across the ranks, along an edge; within a rank, to the next node beside it.
    const alongRanks = this.vertical === (key === "ArrowUp" || key === "ArrowDown");
    const near = alongRanks ? this.neighbors.get(id) : undefined;
    let best: string | null = null;
    let bestScore = Number.POSITIVE_INFINITY;
    for (const other of this.graph.nodes) {
      if (other.id === id) continue;
      const dx = other.x + other.w / 2 - (node.x + node.w / 2);
      const dy = other.y + other.h / 2 - (node.y + node.h / 2);
      const [along, across] =
        key === "ArrowRight" ? [dx, dy] : key === "ArrowLeft" ? [-dx, dy] : key === "ArrowDown" ? [dy, dx] : [-dy, dx];
      if (along <= 1) continue;
      // Neighbors come first, whatever their distance; the others only if they are rather ahead than aside.
      if (!near?.has(other.id) && Math.abs(across) > along * (alongRanks ? 3 : 0.5)) continue;
      const score = along + Math.abs(across) * 2 + (near?.has(other.id) ? 0 : 1e6);
      if (score < bestScore) {
        bestScore = score;
        best = other.id;
      }
    }
    return best;
  }

  /** Returns the innermost node at a point: of nodes within others, the smallest. */
  at(x: number, y: number): GraphNode | null {
    let found: GraphNode | null = null;
    for (const node of this.graph.nodes) {
      const inside = x >= node.x && x <= node.x + node.w && y >= node.y && y <= node.y + node.h;
      if (inside && (!found || node.w * node.h < found.w * found.h)) found = node;
    }
    return found;
  }
}

/** Returns 1 if an edge ends at the upper or lower side of a node, -1 if at another side, and 0 if at none. */
function entersFromAbove(node: GraphNode | undefined, end: [number, number] | undefined): number {
  if (!node || !end) return 0;
  const near = (a: number, b: number): boolean => Math.abs(a - b) < 2;
  if (near(end[1], node.y) || near(end[1], node.y + node.h)) return 1;
  return near(end[0], node.x) || near(end[0], node.x + node.w) ? -1 : 0;
}

function boxOf(points: [number, number][]): Box {
  let [left, top, right, bottom] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const [x, y] of points) {
    left = Math.min(left, x);
    top = Math.min(top, y);
    right = Math.max(right, x);
    bottom = Math.max(bottom, y);
  }
  return { x: left, y: top, w: right - left, h: bottom - top };
}

const round = (value: number): number => Math.round(value * 10) / 10;

/** Returns a smooth path through the points that leaves and enters nodes in the direction of the ranks. */
export function curve(points: [number, number][], vertical: boolean): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let path = `M${round(first[0])} ${round(first[1])}`;
  let [px, py] = first;
  for (const [x, y] of rest) {
    // The wider an edge is, the longer it keeps the direction of the ranks, so that its arrow points at the node.
    const [along, across] = vertical ? [y - py, Math.abs(x - px)] : [x - px, Math.abs(y - py)];
    const reach = along * Math.min(0.9, Math.max(0.5, across / (Math.abs(along) * 3 + 1)));
    path += vertical
      ? `C${round(px)} ${round(py + reach)} ${round(x)} ${round(y - reach)} ${round(x)} ${round(y)}`
      : `C${round(px + reach)} ${round(py)} ${round(x - reach)} ${round(y)} ${round(x)} ${round(y)}`;
    [px, py] = [x, y];
  }
  return path;
}

function arrow(points: [number, number][], vertical: boolean): string {
  const last = points.at(-1);
  const before = points.at(-2);
  if (!last || !before) return "";
  const [x, y] = [round(last[0]), round(last[1])];
  if (vertical) {
    const back = last[1] >= before[1] ? -7 : 7;
    return `M${x} ${y}l-4 ${back}h8z`;
  }
  const back = last[0] >= before[0] ? -7 : 7;
  return `M${x} ${y}l${back} -4v8z`;
}
