/** The JSON of the server. Times are milliseconds since the Unix epoch. */

export type RunStatus = "running" | "paused" | "interrupted" | "succeeded" | "partial" | "failed" | "cancelled";

export type TaskState =
  | "waiting"
  | "queued"
  | "running"
  | "asking"
  | "model"
  | "retrying"
  | "succeeded"
  | "failed"
  | "skipped"
  | "cancelled";

export interface Counts {
  total: number;
  waiting: number;
  running: number;
  asking: number;
  retrying: number;
  succeeded: number;
  failed: number;
  skipped: number;
  cancelled: number;
}

export interface RunSummary {
  run: string;
  short: string;
  plan: string;
  status: RunStatus;
  started: number;
  ended: number | null;
  process?: string | number | null;
  seq: number;
  counts: Counts;
  cost_usd?: number | null;
  rerun_of?: string | null;
  goal?: string | null;
}

export interface Spent {
  calls: number;
  llm_calls: number;
  tokens_in: number;
  tokens_out: number;
  cost_usd?: number | null;
}

export interface RunHeader {
  run: string;
  short: string;
  plan: string;
  goal?: string | null;
  status: RunStatus;
  cause?: string | null;
  started: number;
  ended: number | null;
  now: number;
  downtime_ms?: number;
  process?: string | number | null;
  rerun_of?: string | null;
  reruns?: string[];
  counts: Counts;
  remaining_ms?: number | null;
  spent: Spent;
  budgets?: Record<string, unknown> | null;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
  answer_markdown_html?: string | null;
  problems?: string[];
  can?: { cancel?: boolean; resume?: boolean; retry?: boolean };
}

export type SegmentKind = "queued" | "running" | "person" | "model" | "pause";

export type Segment = [
  kind: SegmentKind,
  start: number,
  end: number | null,
  attempt: number,
  agent: string | null,
  outcome: string | null,
];

export interface TaskRow {
  id: string;
  parent?: string | null;
  name: string;
  kind: string;
  state: TaskState;
  agent?: string | null;
  tool?: string | null;
  attempts: number;
  started?: number | null;
  ended?: number | null;
  retry_at?: number | null;
  segments?: Segment[];
  progress?: { value: number; total?: number | null; message?: string | null } | null;
  error?: string | null;
  reason?: string | null;
  needs?: string[];
  children?: Counts | null;
  critical?: boolean;
  reused?: boolean;
  cost_usd?: number | null;
  tokens?: number | null;
  question?: string | null;
  effect?: string | null;
}

export interface GraphNode {
  id: string;
  x: number;
  y: number;
  w: number;
  h: number;
  /** The tasks of a node that stands for several of a flat plan. */
  members?: string[];
  name?: string;
  detail?: string;
  /** Set for a group whose tasks are drawn in its box. */
  is_group?: boolean;
  /** Set for a task with several calls. */
  is_repeated?: boolean;
}

export interface GraphEdge {
  from: string;
  to: string;
  points: [number, number][];
  dashed?: boolean;
}

export interface Graph {
  width: number;
  height: number;
  nodes: GraphNode[];
  edges: GraphEdge[];
}

export interface Field {
  name: string;
  title?: string | null;
  description?: string | null;
  type: "string" | "number" | "integer" | "boolean" | "enum" | "multi";
  required?: boolean;
  default?: unknown;
  options?: { value: string; label?: string | null }[];
  min?: number | null;
  max?: number | null;
  pattern?: string | null;
  format?: string | null;
  secret?: boolean;
}

export interface Question {
  id: string;
  kind: "form" | "approval" | "url";
  asker: string;
  task?: string | null;
  agent?: string | null;
  tool?: string | null;
  message: string;
  asked: number;
  deadline?: number | null;
  default?: unknown;
  status: "open" | "answered" | "cancelled";
  answer?: unknown;
  left_open_because?: string | null;
  answered_by?: string | null;
  fields?: Field[];
  arguments?: unknown;
  effect?: string | null;
  url?: string | null;
  host?: string | null;
}

export interface AgentRow {
  id: string;
  status: string;
  server?: string | null;
  protocol?: string | null;
  tools?: number | string[] | null;
  error?: string | null;
}

export interface RunPage {
  seq: number;
  run: RunHeader;
  tasks: TaskRow[];
  graph: Graph;
  questions: Question[];
  agents: AgentRow[];
}

export interface Patch {
  seq: number;
  /** What has changed in the header; what is `null` is absent now. */
  run?: Partial<RunHeader>;
  tasks?: TaskRow[];
  graph?: Graph;
  questions?: Question[];
  agents?: AgentRow[];
}

export interface Output {
  text?: string | null;
  html?: string | null;
  json?: unknown;
  truncated?: number | null;
  warning?: string | null;
  images?: { url: string; mime?: string }[];
  links?: { uri: string; title?: string | null; url?: string | null }[];
  files?: { name: string; bytes?: number | null; mime?: string | null; url?: string | null }[];
}

export interface LogLine {
  at: number;
  level: string;
  logger?: string | null;
  data: unknown;
}

export interface CallDetail {
  task: string;
  number: number;
  agent?: string | null;
  tool?: string | null;
  arguments?: unknown;
  started: number | null;
  ended: number | null;
  error?: string | null;
  next?: { agent?: string | null; at?: number | null; reason: string } | null;
  log?: LogLine[];
  stderr?: { at: number; text: string }[];
}

export interface Exchange {
  number: number;
  model?: string | null;
  started: number;
  ended: number | null;
  messages: { role: string; text: string }[];
  tools?: string[];
  tokens_in?: number | null;
  tokens_out?: number | null;
  cost_usd?: number | null;
  error?: string | null;
}

export interface TraceStep {
  at: number;
  from: string;
  to: string;
  what: string;
  detail?: unknown;
}

export interface TaskDetail {
  row: TaskRow;
  arguments?: unknown;
  output?: Output | null;
  calls?: CallDetail[];
  exchanges?: Exchange[];
  trace?: TraceStep[];
  help?: string | null;
  effect?: string | null;
  retry_effect?: string | null;
}

export interface RunEvent {
  seq: number;
  at: number;
  type: string;
  text: string;
  event: unknown;
}

export interface RetryPreview {
  again: string[];
  kept: string[];
  removed?: string[];
  refused?: string | null;
  /** The inputs that can be changed. */
  fields?: Field[];
}

export interface DiffSide {
  status?: string | null;
  agent?: string | null;
  ms?: number | null;
  text?: string | null;
}

export interface DiffRow {
  id: string;
  name?: string | null;
  a: DiffSide | null;
  b: DiffSide | null;
  same: boolean;
  reused?: boolean;
}

/** A value of both runs, as text. */
export interface DiffValue {
  name: string;
  a: string | null;
  b: string | null;
  same: boolean;
}

export interface Diff {
  a: RunHeader;
  b: RunHeader;
  tasks: DiffRow[];
  inputs: DiffValue[];
  outputs: DiffValue[];
}

export interface PlanSummary {
  file: string;
  name: string;
  description?: string | null;
  error?: string | null;
  schedule?: string | null;
}

export interface PlanTask {
  id: string;
  name: string;
  kind: string;
  agent?: string | null;
  tool?: string | null;
  effect?: string | null;
}

export interface PlanForm {
  file: string;
  name: string;
  description?: string | null;
  missing?: string | null;
  fields: Field[];
  graph: Graph;
  tasks: PlanTask[];
}

export interface Info {
  version: string;
  can_start: boolean;
  plans_dir: string | null;
}
