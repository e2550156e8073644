import { select } from "d3-selection";
import { type ZoomTransform, zoom, zoomIdentity } from "d3-zoom";
import { Component, createRef } from "preact";
import type { Counts, Graph, GraphNode, TaskState } from "../data/contract";
import { count, shown } from "../data/format";
import { pushKeys } from "../parts/keys";
import { barParts, done, StateShape, WORDS } from "../parts/state";
import { type Box, Drawing, overlaps } from "./geometry";

/** What a node shows. */
export interface NodeContent {
  name: string;
  kind: string;
  state: TaskState | null;
  /** The second line. */
  detail: string;
  counts?: Counts | null;
  critical?: boolean;
  /** Whether the node is a frame around its members. */
  frame?: boolean;
  dimmed?: boolean;
  /** What a screen reader says. */
  label: string;
  /** Compared to find out whether the node has changed. */
  key: unknown;
}

interface Props {
  graph: Graph;
  content: (node: GraphNode) => NodeContent;
  cursor: string | null;
  selected: string | null;
  critical: boolean;
  toggleCritical?: () => void;
  move: (id: string) => void;
  open: (id: string) => void;
  /** Where the place and the zoom are kept while another view is shown. */
  memory: { transform?: ZoomTransform };
  label: string;
}

interface State {
  transform: ZoomTransform;
  width: number;
  height: number;
}

/** Below this scale, nodes are drawn as one path for each state: texts could not be read. */
const FAR = 0.3;
const MARGIN = 24;

/** The graph: only what is in view is in the document, and nothing but a new topology moves a node. */
export class GraphView extends Component<Props, State> {
  override state: State = { transform: this.props.memory.transform ?? zoomIdentity, width: 0, height: 0 };
  private readonly svg = createRef<SVGSVGElement>();
  private readonly behavior = zoom<SVGSVGElement, unknown>().scaleExtent([0.02, 2.5]).clickDistance(4);
  private drawing = new Drawing(this.props.graph);
  private observer: ResizeObserver | null = null;
  private removeKeys: (() => void) | null = null;
  private placed = this.props.memory.transform !== undefined;
  /** Whether a person has not moved the graph since it was fitted: then a panel beside it fits it again. */
  private fitted = false;

  override componentDidMount(): void {
    const svg = this.svg.current;
    if (!svg) return;
    this.behavior.on("zoom", (event: { transform: ZoomTransform; sourceEvent: unknown }) => {
      if (event.sourceEvent) this.fitted = false;
      this.props.memory.transform = event.transform;
      this.setState({ transform: event.transform });
    });
    const selection = select(svg);
    selection.call(this.behavior).on("dblclick.zoom", null);
    if (this.placed) selection.call(this.behavior.transform, this.state.transform);
    this.observer = new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = svg;
      if (width === 0) return;
      const before = this.state.width;
      this.setState({ width, height }, () => {
        const { graph, selected } = this.props;
        if (graph.nodes.length > 0 && (!this.placed || (this.fitted && width !== before))) this.fit(0.55);
        // The panel of a task takes a part of the view.
        if (selected) this.reveal(selected);
      });
    });
    this.observer.observe(svg);
    this.removeKeys = pushKeys((event) => this.onKey(event));
  }

  override componentWillUnmount(): void {
    this.observer?.disconnect();
    this.removeKeys?.();
  }

  override componentWillReceiveProps(next: Props): void {
    if (next.graph !== this.props.graph) this.drawing = new Drawing(next.graph);
  }

  override componentDidUpdate(previous: Props): void {
    if (!this.placed && this.state.width > 0 && this.props.graph.nodes.length > 0) this.fit(0.55);
    const chosen = this.props.cursor ?? this.props.selected;
    if (chosen && chosen !== (previous.cursor ?? previous.selected)) this.reveal(chosen);
  }

  private view(margin: number): Box {
    const { transform, width, height } = this.state;
    return {
      x: -transform.x / transform.k - margin,
      y: -transform.y / transform.k - margin,
      w: width / transform.k + 2 * margin,
      h: height / transform.k + 2 * margin,
    };
  }

  private set(transform: ZoomTransform): void {
    if (this.svg.current) select(this.svg.current).call(this.behavior.transform, transform);
  }

  /** Shows the whole graph, or its start if it would be smaller than `min`. */
  fit(min = 0): void {
    const { width, height } = this.state;
    const { graph } = this.props;
    if (width === 0 || graph.width === 0) return;
    this.placed = this.fitted = true;
    const whole = Math.min((width - 2 * MARGIN) / graph.width, (height - 2 * MARGIN) / graph.height, 1.15);
    const k = Math.max(whole, min);
    const isWhole = k === whole;
    const first = graph.nodes[0];
    const x =
      graph.width * k + 2 * MARGIN <= width || isWhole
        ? (width - graph.width * k) / 2
        : this.drawing.vertical && first
          ? Math.min(MARGIN, Math.max(width - MARGIN - graph.width * k, width / 2 - (first.x + first.w / 2) * k))
          : MARGIN;
    const y =
      graph.height * k + 2 * MARGIN <= height || isWhole
        ? (height - graph.height * k) / 2
        : !this.drawing.vertical && first
          ? Math.min(MARGIN, Math.max(height - MARGIN - graph.height * k, height / 2 - (first.y + first.h / 2) * k))
          : MARGIN;
    this.set(zoomIdentity.translate(x, y).scale(k));
  }

  private zoomBy(factor: number): void {
    this.fitted = false;
    if (this.svg.current) select(this.svg.current).call(this.behavior.scaleBy, factor);
  }

  /** Moves the view so that a node is in it; a node in view moves nothing. */
  reveal(id: string): void {
    const node = this.drawing.byId.get(id);
    const { transform, width, height } = this.state;
    if (!node || width === 0) return;
    const k = Math.max(transform.k, FAR + 0.05);
    const left = node.x * k + transform.x;
    const top = node.y * k + transform.y;
    const fits = k === transform.k && left >= 0 && top >= 0 && left + node.w * k <= width && top + node.h * k <= height;
    if (fits) return;
    this.set(zoomIdentity.translate(width / 2 - (node.x + node.w / 2) * k, height / 2 - (node.y + node.h / 2) * k).scale(k));
  }

  private onKey(event: KeyboardEvent): boolean {
    const { cursor, selected, graph, move, open } = this.props;
    const at = cursor ?? selected;
    const known = at !== null && this.drawing.byId.has(at) ? at : null;
    switch (event.key) {
      case "ArrowLeft":
      case "ArrowRight":
      case "ArrowUp":
      case "ArrowDown": {
        const next = known ? this.drawing.towards(known, event.key) : graph.nodes[0]?.id;
        if (next) move(next);
        return true;
      }
      case "j":
      case "k": {
        const index = graph.nodes.findIndex((node) => node.id === known);
        const next = graph.nodes[Math.max(0, Math.min(graph.nodes.length - 1, index < 0 ? 0 : index + (event.key === "j" ? 1 : -1)))];
        if (next) move(next.id);
        return true;
      }
      case "Enter": {
        const target = event.target;
        if (target instanceof Element && target.closest("a,button,summary,input")) return false;
        if (!known) return false;
        open(known);
        return true;
      }
      case "+":
      case "=":
        this.zoomBy(1.4);
        return true;
      case "-":
        this.zoomBy(1 / 1.4);
        return true;
      case "0":
        this.fit();
        return true;
      default:
        return false;
    }
  }

  private onClick(event: MouseEvent): void {
    const svg = this.svg.current;
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    const [x, y] = this.state.transform.invert([event.clientX - box.left, event.clientY - box.top]);
    const node = this.drawing.at(x, y);
    if (node) this.props.open(node.id);
  }

  override render({ content, cursor, selected, critical, label }: Props, { transform, width, height }: State) {
    const far = transform.k < FAR;
    const view = this.view(40);
    const ready = width > 0 && height > 0;
    const nodes = ready ? this.drawing.graph.nodes.filter((node) => overlaps(node, view)) : [];
    const at = cursor ?? selected;
    const contents = new Map(nodes.map((node) => [node.id, content(node)]));
    const isCritical = (id: string): boolean => {
      const node = this.drawing.byId.get(id);
      return node !== undefined && (contents.get(id) ?? content(node)).critical === true;
    };
    let [plain, arrows, dashed, strong, strongArrows] = ["", "", "", "", ""];
    if (ready) {
      for (const { edge, box, path, arrow } of this.drawing.edges) {
        if (!overlaps(box, view)) continue;
        if (critical && isCritical(edge.from) && isCritical(edge.to)) {
          strong += path;
          strongArrows += arrow;
        } else {
          if (edge.dashed) dashed += path;
          else plain += path;
          arrows += arrow;
        }
      }
    }
    const active = at !== null && contents.has(at) && !far ? nodeId(this.drawing, at) : undefined;
    return (
      <div class="graph">
        <svg
          ref={this.svg}
          class="graph-svg"
          role="application"
          aria-label={label}
          aria-roledescription="graph"
          aria-activedescendant={active}
          tabIndex={0}
          onClick={(event) => this.onClick(event)}
        >
          <g transform={`translate(${transform.x} ${transform.y}) scale(${transform.k})`}>
            <g class={far ? "edges far" : "edges"}>
              <path class="edge" d={plain} />
              <path class="edge dashed" d={dashed} />
              {!far && <path class="arrow" d={arrows} />}
              <path class="edge strong" d={strong} />
              {!far && <path class="arrow strong" d={strongArrows} />}
            </g>
            {far ? (
              <FarNodes nodes={nodes} contents={contents} at={at} />
            ) : (
              [...nodes]
                .sort((a, b) => Number(contents.get(b.id)?.frame ?? false) - Number(contents.get(a.id)?.frame ?? false))
                .map((node) => {
                  const item = contents.get(node.id);
                  return (
                    item && (
                      <Node
                        key={node.id}
                        id={nodeId(this.drawing, node.id)}
                        node={node}
                        item={item}
                        current={node.id === at}
                        selected={node.id === selected}
                        critical={critical && item.critical === true}
                      />
                    )
                  );
                })
            )}
          </g>
        </svg>
        <div class="graph-buttons" role="group" aria-label="Zoom">
          <button type="button" class="button small" aria-label="Zoom in" onClick={() => this.zoomBy(1.4)}>
            +
          </button>
          <button type="button" class="button small" aria-label="Zoom out" onClick={() => this.zoomBy(1 / 1.4)}>
            −
          </button>
          <button type="button" class="button small" onClick={() => this.fit()}>
            Fit
          </button>
          {this.props.toggleCritical && (
            <button type="button" class="button small" aria-pressed={critical} onClick={this.props.toggleCritical}>
              Critical path
            </button>
          )}
        </div>
      </div>
    );
  }
}

const nodeId = (drawing: Drawing, id: string): string => `node-${drawing.graph.nodes.findIndex((node) => node.id === id)}`;

/** Nodes without texts: one path for each state. */
function FarNodes({ nodes, contents, at }: { nodes: GraphNode[]; contents: Map<string, NodeContent>; at: string | null }) {
  const paths = new Map<string, string>();
  for (const node of nodes) {
    const item = contents.get(node.id);
    const state = item?.frame ? "frame" : (item?.state ?? "plain");
    paths.set(state, `${paths.get(state) ?? ""}M${node.x} ${node.y}h${node.w}v${node.h}h${-node.w}z`);
  }
  const current = nodes.find((node) => node.id === at);
  return (
    <g>
      {[...paths].map(([state, path]) => (
        <path key={state} class={`far-node s-${state}`} d={path} />
      ))}
      {current && <rect class="far-current" x={current.x - 8} y={current.y - 8} width={current.w + 16} height={current.h + 16} rx="12" />}
    </g>
  );
}

let canvas: CanvasRenderingContext2D | null = null;
const fitted = new Map<string, string>();

/** Shortens a text to a width in pixels. */
function fitText(text: string, width: number, font: string): string {
  const key = `${font}|${Math.round(width)}|${text}`;
  const known = fitted.get(key);
  if (known !== undefined) return known;
  canvas ??= document.createElement("canvas").getContext("2d");
  let result = text.slice(0, 200);
  if (canvas) {
    canvas.font = font;
    if (canvas.measureText(result).width > width) {
      let [low, high] = [0, result.length];
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (canvas.measureText(`${result.slice(0, middle)}…`).width <= width) low = middle;
        else high = middle - 1;
      }
      result = `${result.slice(0, low).trimEnd()}…`;
    }
  }
  if (fitted.size > 20_000) fitted.clear();
  fitted.set(key, result);
  return result;
}

/** The font of the page, which is known once its style is. */
let font: string | null = null;
const fontOf = (weight: number, size: number): string => {
  font ??= getComputedStyle(document.body).fontFamily;
  return `${weight} ${size}px ${font}`;
};

interface NodeProps {
  id: string;
  node: GraphNode;
  item: NodeContent;
  current: boolean;
  selected: boolean;
  critical: boolean;
}

class Node extends Component<NodeProps> {
  override shouldComponentUpdate(next: NodeProps): boolean {
    const { node, item, current, selected, critical } = this.props;
    return (
      next.node !== node ||
      next.current !== current ||
      next.selected !== selected ||
      next.critical !== critical ||
      next.item.key !== item.key ||
      next.item.detail !== item.detail ||
      next.item.dimmed !== item.dimmed
    );
  }

  override render({ id, node, item, current, selected, critical }: NodeProps) {
    const { w, h } = node;
    const name = shown(item.name);
    const classes = ["node", item.state ? `s-${item.state}` : "plain", selected && "selected", critical && "critical", item.dimmed && "dimmed", item.frame && "frame"];
    const counts = item.frame ? null : item.counts;
    const stacked = !item.frame && (counts != null || node.is_repeated === true);
    const inset = item.state ? 36 : 14;
    const two = h >= 42 && item.detail !== "";
    return (
      <g id={id} class={classes.filter(Boolean).join(" ")} transform={`translate(${node.x} ${node.y})`} role="img" aria-label={item.label}>
        {current && <rect class="cursor" x="-5" y="-5" width={w + 10} height={h + 10} rx="14" />}
        {stacked && <rect class="card behind" x="5" y="5" width={w} height={h} rx="10" />}
        <rect class="card" width={w} height={h} rx="10" />
        {item.state && !item.frame && <path class="strip" d={`M10 0a10 10 0 0 0 -10 10v${h - 20}a10 10 0 0 0 10 10q-5 -4 -5 -10v${20 - h}q0 -6 5 -10z`} />}
        {item.state && !item.frame && (
          <svg class={`state-icon s-${item.state}`} x="12" y={h / 2 - 8 - (counts ? 3 : 0)} width="16" height="16" viewBox="0 0 16 16">
            <StateShape state={item.state} />
          </svg>
        )}
        {item.frame ? (
          <>
            {item.state && (
              <svg class={`state-icon s-${item.state}`} x="12" y="8" width="12" height="12" viewBox="0 0 16 16">
                <StateShape state={item.state} />
              </svg>
            )}
            <text class="name" x={item.state ? 30 : 12} y="18">
              {fitText(item.detail ? `${name} · ${shown(item.detail)}` : name, w - 42, fontOf(600, 12))}
            </text>
          </>
        ) : (
          <>
            <text class="name" x={inset} y={h / 2 + (two ? -3 : 5) - (counts ? 3 : 0)}>
              {fitText(name, w - inset - 8, fontOf(600, 13))}
            </text>
            {two && (
              <text class="detail" x={inset} y={h / 2 + 14 - (counts ? 3 : 0)}>
                {fitText(shown(item.detail), w - inset - 8, fontOf(400, 11.5))}
              </text>
            )}
          </>
        )}
        {counts && (
          <g transform={`translate(12 ${h - 9})`}>
            <rect class="bar-empty" width={w - 24} height="4" rx="2" />
            {barParts(counts).map((part) => (
              <rect key={part.state} class={`bar s-${part.state}`} x={part.start * (w - 24)} width={part.size * (w - 24)} height="4" />
            ))}
          </g>
        )}
      </g>
    );
  }
}

/** The second line of a group: how much of it is done, and how much failed. */
export function groupDetail(counts: Counts): string {
  const progress = `${count(done(counts))} of ${count(counts.total)}`;
  if (counts.failed > 0) return `${count(counts.failed)} failed · ${progress}`;
  return counts.asking > 0 ? `${count(counts.asking)} asking · ${progress}` : `${progress} done`;
}

export const stateWord = (state: TaskState): string => WORDS[state] ?? state;
