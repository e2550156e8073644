import { describe, expect, it } from "vitest";
import type { Graph, RunHeader, RunPage, RunSummary, TaskRow } from "../../src/data/contract";
import { nodeMembers, normalizeGraph } from "../../src/data/graph";
import { RunStore } from "../../src/data/run-store";
import { TaskTree } from "../../src/data/tree";
import { difference } from "../../src/pages/compare-page";
import { mergeRuns } from "../../src/pages/runs-page";
import { barParts, countWords } from "../../src/parts/state";
import { gapIn } from "../../src/run/events-view";
import { curve, Drawing, overlaps } from "../../src/run/geometry";
import { activity, offsetText, percent, ticks, within, zoomed } from "../../src/run/time-scale";

const counts = { total: 4, waiting: 1, running: 1, asking: 0, retrying: 0, succeeded: 2, failed: 0, skipped: 0, cancelled: 0 };
const header: RunHeader = { run: "r", short: "r", plan: "p", status: "running", started: 0, ended: null, now: 5, counts, spent: { calls: 0, llm_calls: 0, tokens_in: 0, tokens_out: 0 } };
const task = (id: string, more: Partial<TaskRow> = {}): TaskRow => ({ id, name: id, kind: "call", state: "waiting", attempts: 0, ...more });
const graph: Graph = {
  width: 300,
  height: 300,
  nodes: [
    { id: "a", x: 100, y: 0, w: 100, h: 40 },
    { id: "b", x: 0, y: 100, w: 100, h: 40 },
    { id: "c", x: 200, y: 100, w: 100, h: 40 },
    { id: "d", x: 100, y: 200, w: 100, h: 40 },
  ],
  edges: [
    { from: "a", to: "b", points: [[150, 40], [50, 100]] },
    { from: "a", to: "c", points: [[150, 40], [250, 100]] },
    { from: "c", to: "d", points: [[250, 140], [150, 200]] },
  ],
};

describe("store", () => {
  const page: RunPage = { seq: 5, run: header, tasks: [task("a"), task("b")], graph, questions: [], agents: [] };
  const store = (): RunStore => {
    const made = new RunStore("r");
    made.close();
    made.replace(page);
    return made;
  };

  it("keeps rows that a patch does not name", () => {
    const made = store();
    const before = made.rows.get("b");
    const drawn = made.graph.value;
    made.apply({ seq: 6, tasks: [task("a", { state: "running" })] });
    expect(made.rows.get("a")?.state).toBe("running");
    expect(made.rows.get("b")).toBe(before);
    expect(made.seq.value).toBe(6);
    expect(made.graph.value).toBe(drawn);
  });

  it("ignores patches from before the snapshot", () => {
    const made = store();
    made.apply({ seq: 4, tasks: [task("a", { state: "failed" })] });
    expect(made.rows.get("a")?.state).toBe("waiting");
  });

  it("changes what a patch names of the header", () => {
    const made = store();
    made.apply({ seq: 6, run: { status: "paused", cause: "a question" } });
    expect(made.header.value).toMatchObject({ plan: header.plan, status: "paused", cause: "a question" });
    made.apply({ seq: 7, run: { cause: null } });
    expect(made.header.value).toMatchObject({ status: "paused", cause: null });
  });

  it("shows added tasks before a synthesis", () => {
    const made = store();
    made.apply({ seq: 6, tasks: [task("answer", { kind: "synthesis" })] });
    made.apply({ seq: 7, tasks: [task("c"), task("c[0]", { parent: "c" })] });
    expect(made.tree.value.order).toEqual(["a", "b", "c", "c[0]", "answer"]);
  });

  it("adds rows and questions", () => {
    const made = store();
    made.apply({ seq: 7, tasks: [task("a[0]", { parent: "a" })], questions: [{ id: "q1", kind: "approval", asker: "x", message: "?", asked: 1, status: "open" }] });
    expect(made.tree.value.order).toEqual(["a", "a[0]", "b"]);
    expect(made.openQuestions.value).toHaveLength(1);
    made.apply({ seq: 8, questions: [{ id: "q1", kind: "approval", asker: "x", message: "?", asked: 1, status: "answered" }] });
    expect(made.openQuestions.value).toHaveLength(0);
  });
});

describe("graph", () => {
  it("gives nodes that stand for several tasks an ID of their own", () => {
    const points = [{ x: 1, y: 2 }, { x: 3, y: 4 }] as unknown as [number, number][];
    const drawn = normalizeGraph({ width: 1, height: 1, nodes: [{ id: "a", x: 0, y: 0, w: 1, h: 1, members: ["a", "b"] }, { id: "c", x: 0, y: 0, w: 1, h: 1, members: [] }], edges: [{ from: "a", to: "c", points }] });
    expect(drawn.nodes.map((node) => [node.id, node.members])).toEqual([["group:a", ["a", "b"]], ["c", undefined]]);
    expect(drawn.edges).toEqual([{ from: "group:a", to: "c", points: [[1, 2], [3, 4]] }]);
  });

  it("finds the tasks of all items that a node stands for", () => {
    const rows = new Map(["each", "each[0].get", "each[12].get", "each[0].put"].map((id) => [id, task(id)]));
    const tree = new TaskTree(rows, [...rows.keys()]);
    expect(nodeMembers({ id: "each.get", x: 0, y: 0, w: 1, h: 1 }, tree)).toEqual(["each[0].get", "each[12].get"]);
    expect(nodeMembers({ id: "each", x: 0, y: 0, w: 1, h: 1 }, tree)).toEqual([]);
  });

  const drawing = new Drawing(graph);

  it("moves along edges first", () => {
    expect(drawing.vertical).toBe(true);
    expect(drawing.towards("c", "ArrowUp")).toBe("a");
    expect(drawing.towards("c", "ArrowDown")).toBe("d");
    expect(drawing.towards("b", "ArrowRight")).toBe("c");
    expect(drawing.towards("a", "ArrowUp")).toBeNull();
  });

  it("finds the innermost node at a point", () => {
    expect(drawing.at(150, 20)?.id).toBe("a");
    expect(drawing.at(5, 5)).toBeNull();
  });

  it("leaves and enters nodes in the direction of the ranks", () => {
    expect(curve([[0, 0], [10, 100]], true)).toMatch(/^M0 0C0 \d+ 10 \d+ 10 100$/);
    expect(curve([[0, 0], [100, 10]], false)).toMatch(/^M0 0C\d+ 0 \d+ 10 100 10$/);
  });

  it("includes boxes that touch the view", () => {
    expect(overlaps({ x: 0, y: 0, w: 10, h: 10 }, { x: 10, y: 10, w: 5, h: 5 })).toBe(true);
    expect(overlaps({ x: 0, y: 0, w: 10, h: 10 }, { x: 11, y: 0, w: 5, h: 5 })).toBe(false);
  });
});

describe("time", () => {
  it("marks round times from the start of the run", () => {
    expect(ticks([1000, 11_000], 1000, 6).map((mark) => mark.text)).toEqual(["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]);
    expect(offsetText(125_000, 60_000)).toBe("2:05");
    expect(offsetText(3_725_000, 60_000)).toBe("1:02:05");
  });

  it("limits positions and zooms within the whole", () => {
    expect(percent(50, [0, 100])).toBe(50);
    expect(percent(1e9, [0, 100])).toBe(105);
    expect(zoomed([0, 1000], [0, 1000], 0.5)).toEqual([250, 750]);
    expect(zoomed([250, 750], [0, 1000], 2)).toBeNull();
    expect(within([-50, 50], [0, 1000])).toEqual([0, 100]);
  });

  it("counts what runs at once", () => {
    const rows = [task("a", { segments: [["running", 0, 50, 1, null, null], ["queued", 50, 100, 1, null, null]] }), task("b", { segments: [["running", 25, null, 1, null, null]] })];
    expect(activity(rows, [0, 100], 100, 4)).toEqual([1, 2, 2, 1]);
  });
});

describe("lists", () => {
  const summary = (run: string, started: number, status: RunSummary["status"]): RunSummary => ({ run, short: run, plan: "p", status, started, ended: null, seq: 1, counts });

  it("merges changed runs and drops those that no longer match", () => {
    const before = [summary("b", 2, "running"), summary("a", 1, "running")];
    const merged = mergeRuns(before, [summary("c", 3, "running"), summary("a", 1, "failed")], (run) => run.status === "running");
    expect(merged.map((run) => run.run)).toEqual(["c", "b"]);
  });

  it("says counts in words and as parts of a bar", () => {
    expect(countWords(counts)).toBe("2 succeeded, 1 running, 1 waiting");
    expect(barParts(counts).map((part) => [part.state, part.start, part.size])).toEqual([["succeeded", 0, 0.5], ["running", 0.5, 0.25], ["waiting", 0.75, 0.25]]);
  });

  it("shows one failure of a thousand tasks in a bar", () => {
    const parts = barParts({ ...counts, total: 1000, waiting: 0, running: 0, succeeded: 999, failed: 1 });
    expect(parts.map((part) => part.state)).toEqual(["succeeded", "failed"]);
    expect(parts[1]?.size).toBeGreaterThan(0.009);
  });

  it("finds a gap in the events", () => {
    expect(gapIn([{ seq: 1 }, { seq: 2 }, { seq: 4 }], 1)).toBe(2);
    expect(gapIn([{ seq: 4 }], 3)).toBe(2);
    expect(gapIn([{ seq: 3 }, { seq: 4 }], 3)).toBeNull();
  });

  it("marks the part of a text that differs", () => {
    expect(difference("price 120 €", "price 98 €")).toEqual(["price ", "120", " €"]);
    expect(difference("aa", "aaa")).toEqual(["aa", "", ""]);
  });
});
