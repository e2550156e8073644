import { computed, type ReadonlySignal, signal } from "@preact/signals";
import { ApiError, get, report, runPath } from "./api";
import type { AgentRow, Graph, Patch, Question, RunHeader, RunPage, TaskRow } from "./contract";
import { normalizeGraph } from "./graph";
import { announce, frozenAt, setServerTime } from "./live";
import { Stream } from "./stream";
import { TaskTree } from "./tree";

const EMPTY_GRAPH: Graph = { width: 0, height: 0, nodes: [], edges: [] };

/** What the page has of a run: a snapshot, and the patches that followed. */
export class RunStore {
  readonly header = signal<RunHeader | null>(null);
  readonly graph = signal<Graph>(EMPTY_GRAPH);
  readonly questions = signal<Question[]>([]);
  readonly agents = signal<AgentRow[]>([]);
  readonly error = signal<ApiError | null>(null);
  /** The number of the last event in the snapshot or a patch. */
  readonly seq = signal(0);
  /** Increases with every change of a task; a row that changed is a new object. */
  readonly version = signal(0);
  readonly opened = signal<ReadonlyMap<string, boolean>>(new Map());
  readonly openQuestions = computed(() => this.questions.value.filter((question) => question.status === "open"));
  rows = new Map<string, TaskRow>();

  private readonly order = signal<string[]>([]);
  readonly tree: ReadonlySignal<TaskTree> = computed(() => new TaskTree(this.rows, this.order.value));
  private stream: Stream | null = null;
  private closed = false;

  constructor(readonly run: string) {
    void this.load();
  }

  close(): void {
    this.closed = true;
    this.stream?.close();
    frozenAt.value = null;
  }

  private async load(): Promise<void> {
    try {
      const page = await get<RunPage>(runPath(this.run));
      if (this.closed) return;
      this.replace(page);
      this.error.value = null;
    } catch (error) {
      if (this.closed) return;
      this.error.value = error instanceof ApiError ? error : new ApiError(0, "page", String(error));
      if (this.error.value.status === 0) setTimeout(() => !this.closed && void this.load(), 2000);
      return;
    }
    if (report || this.stream) return;
    this.stream = new Stream({
      url: () => `/api/stream?run=${encodeURIComponent(this.run)}&after=${this.seq.value}`,
      on: {
        patch: (data) => this.apply(data as Patch),
        // The server no longer has what came after the page's last event.
        reset: () => void this.load(),
      },
    });
  }

  replace(page: RunPage): void {
    this.rows = new Map(page.tasks.map((row) => [row.id, row]));
    this.order.value = page.tasks.map((row) => row.id);
    this.graph.value = normalizeGraph(page.graph);
    this.questions.value = page.questions;
    this.agents.value = page.agents;
    this.seq.value = page.seq;
    this.setHeader(page.run);
    this.version.value += 1;
  }

  /** Applies a patch. One that the page has already, from before a reconnect, changes nothing. */
  apply(patch: Patch): void {
    if (patch.seq < this.seq.value) return;
    const added: string[] = [];
    for (const row of patch.tasks ?? []) {
      if (!this.rows.has(row.id)) added.push(row.id);
      this.rows.set(row.id, row);
    }
    if (added.length > 0) this.order.value = insertAfterParents(this.order.value, added, this.rows);
    if (patch.graph) this.graph.value = normalizeGraph(patch.graph);
    if (patch.questions?.length) this.questions.value = merge(this.questions.value, patch.questions);
    if (patch.agents?.length) this.agents.value = merge(this.agents.value, patch.agents);
    if (patch.run) this.setHeader({ ...this.header.value, ...patch.run } as RunHeader);
    this.seq.value = patch.seq;
    if (patch.tasks?.length) this.version.value += 1;
  }

  private setHeader(header: RunHeader): void {
    this.header.value = header;
    // Without a process, no time passes for a run.
    const isDriven = header.ended == null && (header.can?.resume === undefined ? header.process != null : !header.can.resume);
    frozenAt.value = isDriven ? null : header.now;
    if (isDriven && !report) setServerTime(header.now);
    announce(describe(header, this.openQuestions.value.length));
  }

  setOpen(id: string, open: boolean): void {
    const opened = new Map(this.opened.value);
    opened.set(id, open);
    this.opened.value = opened;
  }

  /** Opens the groups of a task, so that lists show it. */
  reveal(id: string): void {
    const closed = this.tree.value.ancestors(id).filter((group) => !this.tree.value.isOpen(group, this.opened.value));
    if (closed.length === 0) return;
    const opened = new Map(this.opened.value);
    for (const group of closed) opened.set(group, true);
    this.opened.value = opened;
  }
}

export function describe(header: RunHeader, questions: number): string {
  const { succeeded, failed, skipped, cancelled, total } = header.counts;
  const parts = [`${header.status}: ${succeeded + failed + skipped + cancelled} of ${total} done`];
  if (failed > 0) parts.push(`${failed} failed`);
  if (questions > 0) parts.push(questions === 1 ? "1 question is open" : `${questions} questions are open`);
  return parts.join(", ");
}

function merge<T extends { id: string }>(all: T[], changed: T[]): T[] {
  const byId = new Map(all.map((item) => [item.id, item]));
  for (const item of changed) byId.set(item.id, item);
  return [...byId.values()];
}

/** Inserts added rows: each after the last row of its group; those without one at the end, but before a synthesis. */
export function insertAfterParents(order: string[], added: string[], rows: ReadonlyMap<string, TaskRow>): string[] {
  const byParent = new Map<string, string[]>();
  const rest: string[] = [];
  const existing = new Set(order);
  const known = new Set([...order, ...added]);
  for (const id of added) {
    const parent = rows.get(id)?.parent;
    const members = parent ? byParent.get(parent) : undefined;
    if (!parent || !known.has(parent)) rest.push(id);
    else if (members) members.push(id);
    else byParent.set(parent, [id]);
  }
  const isWithin = (id: string, group: string): boolean => {
    for (let at = rows.get(id)?.parent; at; at = rows.get(at)?.parent) if (at === group) return true;
    return false;
  };
  const result: string[] = [];
  const push = (id: string): void => {
    result.push(id);
    if (!existing.has(id)) for (const child of byParent.get(id) ?? []) push(child);
  };
  order.forEach((id, index) => {
    result.push(id);
    // The last row of each group that ends here gets the group's new members.
    const next = order[index + 1];
    for (let group: string | null | undefined = id; group; group = rows.get(group)?.parent) {
      if (next !== undefined && isWithin(next, group)) break;
      for (const child of byParent.get(group) ?? []) push(child);
    }
  });
  const isLast = (id: string): boolean => rows.get(id)?.kind === "synthesis" && !rows.get(id)?.parent;
  const place = result.findIndex(isLast);
  const after = place < 0 ? [] : result.splice(place);
  for (const id of rest) if (!isLast(id)) push(id);
  result.push(...after);
  for (const id of rest) if (isLast(id)) push(id);
  return result;
}
