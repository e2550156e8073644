import type { Counts, TaskRow } from "./contract";

/** A group with more members is closed until a person opens it. */
export const MAX_OPEN_MEMBERS = 12;

/** Returns the name of a row within its group: that of an item without the name of its task. */
export function memberName(row: TaskRow, rows: ReadonlyMap<string, TaskRow>): string {
  const group = row.parent ? rows.get(row.parent)?.name : undefined;
  return group && row.name.startsWith(`${group} `) ? row.name.slice(group.length + 1) : row.name;
}

export interface VisibleRow {
  row: TaskRow;
  name: string;
  level: number;
  /** The position among its siblings, from 1, and their number. */
  position: number;
  siblings: number;
  members: number;
  open: boolean;
}

/** Returns the ID of a task of a plan: that of a task of an item, without the numbers of the items. */
export const planId = (id: string): string => id.replace(/\[\d+\]/g, "");

export class TaskTree {
  readonly children = new Map<string, string[]>();
  readonly roots: string[] = [];
  private items: Map<string, string[]> | null = null;

  /** `order` has parents before their children. */
  constructor(
    readonly rows: ReadonlyMap<string, TaskRow>,
    readonly order: readonly string[],
  ) {
    for (const id of order) {
      const parent = rows.get(id)?.parent;
      if (parent && rows.has(parent)) {
        const list = this.children.get(parent);
        if (list) list.push(id);
        else this.children.set(parent, [id]);
      } else {
        this.roots.push(id);
      }
    }
  }

  /** The same task of all items, by its ID in the plan. */
  get sameTask(): ReadonlyMap<string, string[]> {
    if (!this.items) {
      this.items = new Map();
      for (const id of this.order) {
        if (!id.includes("[")) continue;
        const list = this.items.get(planId(id));
        if (list) list.push(id);
        else this.items.set(planId(id), [id]);
      }
    }
    return this.items;
  }

  members(id: string): string[] {
    return this.children.get(id) ?? [];
  }

  isOpen(id: string, opened: ReadonlyMap<string, boolean>): boolean {
    return opened.get(id) ?? this.members(id).length <= MAX_OPEN_MEMBERS;
  }

  /** Returns the rows to show in order: those of open groups, or those that a filter accepts with their groups. */
  visible(opened: ReadonlyMap<string, boolean>, accepts: ((row: TaskRow) => boolean) | null): VisibleRow[] {
    const kept = accepts ? this.accepted(accepts) : null;
    const result: VisibleRow[] = [];
    const walk = (ids: readonly string[], level: number): void => {
      const shown = kept ? ids.filter((id) => kept.has(id)) : ids;
      shown.forEach((id, index) => {
        const row = this.rows.get(id);
        if (!row) return;
        const members = this.members(id);
        const open = kept ? members.some((member) => kept.has(member)) : this.isOpen(id, opened);
        result.push({ row, name: memberName(row, this.rows), level, position: index + 1, siblings: shown.length, members: members.length, open });
        if (open && members.length > 0) walk(members, level + 1);
      });
    };
    walk(this.roots, 1);
    return result;
  }

  private accepted(accepts: (row: TaskRow) => boolean): Set<string> {
    const kept = new Set<string>();
    for (const id of this.order) {
      const row = this.rows.get(id);
      if (!row || !accepts(row)) continue;
      for (let at: string | null | undefined = id; at && !kept.has(at); at = this.rows.get(at)?.parent) kept.add(at);
    }
    return kept;
  }

  /** Returns the groups of a task, from the outermost. */
  ancestors(id: string): string[] {
    const result: string[] = [];
    for (let at = this.rows.get(id)?.parent; at && this.rows.has(at); at = this.rows.get(at)?.parent) result.unshift(at);
    return result;
  }
}

const URGENCY: Record<string, number> = {
  failed: 0,
  asking: 1,
  retrying: 2,
  running: 3,
  model: 3,
  queued: 4,
  cancelled: 5,
  waiting: 6,
  skipped: 7,
  succeeded: 8,
};

/** Sorts members of a group: failed and running ones first, otherwise in their order. */
export function byUrgency(rows: TaskRow[]): TaskRow[] {
  return rows
    .map((row, index) => ({ row, index }))
    .sort((a, b) => (URGENCY[a.row.state] ?? 9) - (URGENCY[b.row.state] ?? 9) || a.index - b.index)
    .map(({ row }) => row);
}

export function countStates(rows: Iterable<TaskRow>): Counts {
  const counts: Counts = {
    total: 0,
    waiting: 0,
    running: 0,
    asking: 0,
    retrying: 0,
    succeeded: 0,
    failed: 0,
    skipped: 0,
    cancelled: 0,
  };
  for (const { state } of rows) {
    counts.total += 1;
    if (state === "queued") counts.waiting += 1;
    else if (state === "model") counts.running += 1;
    else counts[state] += 1;
  }
  return counts;
}

/** Returns the state that a group shows: that of its most urgent member. */
export function groupState(counts: Counts): TaskRow["state"] {
  if (counts.asking > 0) return "asking";
  if (counts.retrying > 0) return "retrying";
  if (counts.running > 0) return "running";
  if (counts.waiting > 0) return counts.succeeded + counts.failed > 0 ? "running" : "waiting";
  if (counts.failed > 0) return "failed";
  if (counts.cancelled > 0) return "cancelled";
  if (counts.succeeded > 0 || counts.total === 0) return "succeeded";
  return "skipped";
}
