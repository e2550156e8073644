import { describe, expect, it } from "vitest";
import type { Counts, Field, TaskRow } from "../../src/data/contract";
import { asJson, asTexts, initialValues, problem } from "../../src/data/form";
import { bytes, cost, count, duration, firstLine, safeImage, safeLink, seconds, shown, when } from "../../src/data/format";
import { filterStates, parseFilter, taskFilter, toggleState } from "../../src/data/filter";
import { link, parseRoute } from "../../src/data/route";
import { insertAfterParents } from "../../src/data/run-store";
import { byUrgency, countStates, groupState, TaskTree } from "../../src/data/tree";

const row = (id: string, more: Partial<TaskRow> = {}): TaskRow => ({ id, name: id, kind: "call", state: "waiting", attempts: 0, ...more });
const rows = (...all: TaskRow[]): Map<string, TaskRow> => new Map(all.map((item) => [item.id, item]));

describe("format", () => {
  it("shows durations in at most two units", () => {
    expect([0, 380, 999, 4200, 9960, 61_000, 3_840_000, 266_400_000, -5, Number.NaN].map(duration)).toEqual([
      "0 ms", "380 ms", "999 ms", "4.2 s", "10 s", "1 min 01 s", "1 h 04 min", "3 d 2 h", "0 ms", "0 ms",
    ]);
    expect(seconds(400)).toBe("0 s");
  });

  it("shows money, counts, and sizes", () => {
    expect([0, 0.0042, 1.5].map(cost)).toEqual(["$0", "$0.0042", "$1.50"]);
    expect([999, 1000, 1_234_567].map(count)).toEqual(["999", "1\u2009000", "1\u2009234\u2009567"]);
    expect([12, 2048, 3 * 1024 * 1024].map(bytes)).toEqual(["12 B", "2.0 KiB", "3.0 MiB"]);
  });

  it("names days near to now", () => {
    const now = new Date(2026, 2, 4, 12, 0).getTime();
    expect(when(new Date(2026, 2, 4, 9, 5).getTime(), now)).toBe("today 09:05");
    expect(when(new Date(2026, 2, 3, 23, 59).getTime(), now)).toBe("yesterday 23:59");
    expect(when(new Date(2025, 11, 31, 8, 0).getTime(), now)).toBe("Dec 31 2025, 08:00");
  });

  it("shows characters that hide or reorder text", () => {
    expect(shown("a\u001b[31mb\u202ec\u200bd\te\n")).toBe("a\\u{1b}[31mb\\u{202e}c\\u{200b}d\te\n");
    expect(firstLine("one\u0007\ntwo")).toBe("one\\u{7}");
    expect(firstLine("x".repeat(400))).toHaveLength(301);
  });

  it("links only to the web and to mail", () => {
    expect(safeLink("https://example.com/a b")).toBe("https://example.com/a%20b");
    for (const address of ["javascript:alert(1)", " JavaScript:alert(1)", "data:text/html,x", "file:///etc/passwd", "/relative", ""]) {
      expect(safeLink(address)).toBeNull();
    }
  });

  it("shows only images of the server or of formats without scripts", () => {
    expect(safeImage("/api/runs/a/files/b.png")).toBe("/api/runs/a/files/b.png");
    expect(safeImage("data:image/png;base64,AA")).toBe("data:image/png;base64,AA");
    for (const address of ["//evil.example/x.png", "/\\evil.example", "https://evil.example/x", "data:image/svg+xml;base64,AA", "javascript:1"]) {
      expect(safeImage(address)).toBeNull();
    }
  });
});

describe("route", () => {
  it("keeps identifiers with any characters", () => {
    const id = "read[2]/a b?c#d%";
    const route = parseRoute(link(["runs", id, "list"], { task: id, q: "", none: null }));
    expect(route.path).toEqual(["runs", id, "list"]);
    expect(route.query.get("task")).toBe(id);
    expect(route.query.has("q")).toBe(false);
  });

  it("accepts addresses that are not well formed", () => {
    expect(parseRoute("#/runs/%E0%A4%A").path).toEqual(["runs", "%E0%A4%A"]);
    expect(parseRoute("").path).toEqual([]);
  });
});

describe("filter", () => {
  it("combines states, names, and texts", () => {
    const failed = row("fetch", { state: "failed", agent: "research", error: "Connection Refused" });
    const accepts = (text: string) => taskFilter(text)?.(failed);
    expect(accepts("state:failed")).toBe(true);
    expect(accepts("state:running,failed agent:res")).toBe(true);
    expect(accepts('"connection refused"')).toBe(true);
    expect(accepts("-state:failed")).toBe(false);
    expect(accepts("fetch agent:archive")).toBe(false);
    expect(taskFilter("   ")).toBeNull();
  });

  it("treats an unknown key as text", () => {
    expect(parseFilter("http://x")).toEqual([{ key: "", value: "http://x", negated: false }]);
  });

  it("adds and removes states", () => {
    expect(toggleState("agent:a", "failed")).toBe("state:failed agent:a");
    expect(toggleState("state:failed agent:a", "running")).toBe("state:failed,running agent:a");
    expect(toggleState("state:failed", "failed")).toBe("");
    expect(filterStates("x state:a,b")).toEqual(["a", "b"]);
  });
});

describe("tree", () => {
  const group = rows(row("a"), row("g", { kind: "foreach" }), ...Array.from({ length: 13 }, (_, index) => row(`g[${index}]`, { parent: "g", state: index === 4 ? "failed" : "succeeded" })), row("z"));
  const tree = new TaskTree(group, [...group.keys()]);

  it("closes groups with more than twelve members", () => {
    expect(tree.visible(new Map(), null).map((item) => item.row.id)).toEqual(["a", "g", "z"]);
    const open = tree.visible(new Map([["g", true]]), null);
    expect(open).toHaveLength(16);
    expect(open[2]).toMatchObject({ level: 2, position: 1, siblings: 13 });
  });

  it("shows the groups of what a filter accepts", () => {
    expect(tree.visible(new Map(), taskFilter("state:failed")).map((item) => item.row.id)).toEqual(["g", "g[4]"]);
    expect(tree.ancestors("g[4]")).toEqual(["g"]);
  });

  it("sorts failed and running members first", () => {
    const sorted = byUrgency([row("1", { state: "succeeded" }), row("2", { state: "running" }), row("3", { state: "failed" }), row("4", { state: "running" })]);
    expect(sorted.map((item) => item.id)).toEqual(["3", "2", "4", "1"]);
  });

  it("counts states and names that of a group", () => {
    const counts: Counts = countStates([row("1", { state: "queued" }), row("2", { state: "model" }), row("3", { state: "failed" })]);
    expect(counts).toMatchObject({ total: 3, waiting: 1, running: 1, failed: 1 });
    expect(groupState(counts)).toBe("running");
    expect(groupState({ ...counts, waiting: 0, running: 0 })).toBe("failed");
  });

  it("inserts new members after their group", () => {
    const all = rows(row("a"), row("g"), row("g[0]", { parent: "g" }), row("b"), row("g[1]", { parent: "g" }), row("g[1].x", { parent: "g[1]" }), row("c"));
    expect(insertAfterParents(["a", "g", "g[0]", "b"], ["g[1]", "g[1].x", "c"], all)).toEqual(["a", "g", "g[0]", "g[1]", "g[1].x", "b", "c"]);
  });
});

describe("form", () => {
  const fields: Field[] = [
    { name: "n", type: "integer", required: true, min: 1, max: 5 },
    { name: "b", type: "boolean", default: true },
    { name: "m", type: "multi", options: [{ value: "x" }, { value: "y" }] },
    { name: "s", type: "string" },
  ];

  it("starts with defaults and given values", () => {
    expect(initialValues(fields, { n: 3, m: ["y"] })).toEqual({ n: "3", b: "yes", m: ["y"], s: "" });
  });

  it("says what is wrong with a value", () => {
    const [number] = fields;
    const check = (value: string) => number && problem(number, value);
    expect([check(""), check("x"), check("1.5"), check("9"), check("5")]).toEqual([
      "A value is required.", "Expected a number.", "Expected a whole number.", "Expected at most 5.", null,
    ]);
  });

  it("returns texts for answers and JSON for inputs", () => {
    const values = { n: "3", b: "no", m: ["x", "y"], s: "" };
    expect(asTexts(fields, values)).toEqual({ n: "3", b: "no", m: "x,y" });
    expect(asJson(fields, values)).toEqual({ n: 3, b: false, m: ["x", "y"] });
  });
});
