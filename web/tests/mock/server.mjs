// A server with the API of `kapell serve` whose runs are scripted, for tests and for work on the pages.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { brief, hostile, layers, survey } from "./plans.mjs";
import { layout } from "./layout.mjs";
import { MockRun } from "./run.mjs";

const DIST = join(dirname(fileURLToPath(import.meta.url)), "../../dist");
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8" };
const SECURITY = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-store",
};
export const TOKEN = "mock-token";
const PLAN_FIELDS = [
  { name: "topic", title: "Topic", description: "What the brief is about.", type: "string", required: true },
  { name: "pages", title: "Pages to read", type: "integer", required: false, default: 5, min: 1, max: 50 },
  { name: "audience", title: "Audience", type: "enum", required: true, default: "team", options: [{ value: "team", label: "The team" }, { value: "board", label: "The board" }, { value: "public", label: "Everyone" }] },
  { name: "formats", title: "Formats", type: "multi", required: false, options: [{ value: "md", label: "Markdown" }, { value: "pdf", label: "PDF" }, { value: "mail", label: "E-mail" }] },
  { name: "publish", title: "Publish when done", type: "boolean", required: true, default: false },
];

class HttpError extends Error {
  constructor(status, code, message, help) {
    super(message);
    Object.assign(this, { status, code, help });
  }
}

export class MockServer {
  constructor({ speed = 1, tick = 200 } = {}) {
    this.speed = speed;
    this.runs = new Map();
    this.streams = new Set();
    this.next = 1;
    this.base = Date.now();
    this.refuseStreams = false;
    this.server = createServer((request, response) => void this.handle(request, response));
    this.timer = setInterval(() => this.tick(tick), tick);
  }

  async listen(port = 0) {
    await new Promise((resolve) => this.server.listen(port, "127.0.0.1", resolve));
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  close() {
    clearInterval(this.timer);
    for (const stream of this.streams) stream.response.end();
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  add(options, { finished = false, ago = 0, until } = {}) {
    const run = createHash("sha256").update(String(this.next++)).digest("hex").slice(0, 32);
    const mock = new MockRun({ run, started: this.base - ago, inputs: { topic: "vector databases", pages: 5 }, ...options });
    this.runs.set(run, mock);
    if (until !== undefined) mock.advance(mock.started + until);
    if (finished) {
      for (let round = 0; round < 40 && !mock.ended; round += 1) {
        mock.advance(mock.now + 120_000);
        for (const question of mock.questions.values()) if (question.status === "open") mock.answer(question.id, { action: "accept", fields: { region: "eu", depth: "5" } }, "terminal");
      }
    }
    mock.changed.clear();
    mock.changedQuestions.clear();
    return mock;
  }

  tick(ms) {
    for (const run of this.runs.values()) {
      const seq = run.seq;
      if (!run.ended && !run.frozen) run.advance(run.now + ms * this.speed);
      this.publish(run, seq);
    }
  }

  publish(run, seq = -1) {
    if (run.changed.size === 0 && run.changedQuestions.size === 0 && run.seq === seq) return;
    const patch = run.patch();
    for (const stream of this.streams) {
      if (stream.run === run.run) stream.send("patch", patch, patch.seq);
      else if (stream.run === null) stream.send("runs", { runs: [run.summary()] });
    }
  }

  dropStreams() {
    for (const stream of this.streams) stream.response.destroy();
  }

  async handle(request, response) {
    const url = new URL(request.url, "http://mock");
    try {
      if (!url.pathname.startsWith("/api/")) return await this.asset(url, response);
      const body = await readBody(request);
      if (url.pathname === "/api/session" && request.method === "POST") {
        if (body.token !== TOKEN) throw new HttpError(401, "serve::token", "The token is wrong.");
        response.writeHead(204, { ...SECURITY, "Set-Cookie": `kapell_session=${TOKEN}; HttpOnly; SameSite=Strict; Path=/` });
        return response.end();
      }
      if (!(request.headers.cookie ?? "").includes(`kapell_session=${TOKEN}`)) throw new HttpError(401, "serve::unauthorized", "This browser is not signed in.", "Open the address that `kapell serve` printed.");
      if (url.pathname === "/api/stream") return this.stream(request, url, response);
      const [status, result] = this.route(request.method, url.pathname.slice(5).split("/").map(decodeURIComponent), url.searchParams, body);
      response.writeHead(status, { ...SECURITY, "Content-Type": "application/json" });
      response.end(JSON.stringify(result));
    } catch (error) {
      const status = error.status ?? 500;
      if (status === 500) console.error(error);
      response.writeHead(status, { ...SECURITY, "Content-Type": "application/json" });
      response.end(JSON.stringify({ error: { code: error.code ?? "mock::error", message: error.message, help: error.help } }));
    }
  }

  async asset(url, response) {
    const path = url.pathname === "/" ? "index.html" : normalize(url.pathname).replace(/^\/assets\//, "");
    try {
      const data = await readFile(join(DIST, path));
      response.writeHead(200, { ...SECURITY, "Content-Type": TYPES[extname(path)] ?? "application/octet-stream" });
      response.end(data);
    } catch {
      response.writeHead(404, SECURITY);
      response.end();
    }
  }

  stream(request, url, response) {
    if (this.refuseStreams) throw new HttpError(503, "mock::refused", "No streams now.");
    const run = url.searchParams.get("run");
    response.writeHead(200, { ...SECURITY, "Content-Type": "text/event-stream" });
    const stream = {
      run,
      response,
      send: (event, data, id) => response.write(`${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`),
    };
    response.write(": open\n\n");
    if (run !== null) {
      const after = Number(request.headers["last-event-id"] ?? url.searchParams.get("after") ?? 0);
      const found = this.find(run);
      // Everything is sent again: the page replaces rows that it has.
      if (after < found.seq) stream.send("patch", { ...found.patch(), tasks: [...found.rows.values()], questions: [...found.questions.values()] }, found.seq);
    }
    this.streams.add(stream);
    response.on("close", () => this.streams.delete(stream));
  }

  find(id) {
    const run = this.runs.get(id);
    if (!run) throw new HttpError(404, "serve::unknown_run", `Unknown run: ${id}.`, "`kapell runs` lists all runs.");
    return run;
  }

  route(method, path, query, body) {
    const [section, id, what, other] = path;
    if (section === "info") return [200, { version: "0.1.0", can_start: true, plans_dir: "plans" }];
    if (section === "plans" && !id) {
      return [200, { plans: [
        { file: "brief.yaml", name: "competitor-brief", description: "Reads what competitors publish, and writes a brief that a person approves." },
        { file: "survey.yaml", name: "survey", description: "Reads some thousand pages.", schedule: "every day at 06:00" },
        { file: "broken.yaml", name: "broken.yaml", error: "invalid YAML: line 4, column 3: expected a key" },
      ] }];
    }
    if (section === "plans") {
      const tasks = id === "brief.yaml" ? brief() : survey(2000).filter((task) => !task.parent);
      const top = tasks.filter((task) => !task.parent);
      return [200, { file: id, name: id === "brief.yaml" ? "competitor-brief" : "survey", description: "Reads what competitors publish, and writes a brief that a person approves.", fields: PLAN_FIELDS, graph: layout(top.map((task) => ({ id: task.id, needs: task.needs }))), tasks: top.map(({ id, name, kind, agent, tool, effect }) => ({ id, name, kind, agent, tool, effect: effect ?? "read_only" })) }];
    }
    if (section !== "runs") throw new HttpError(404, "serve::unknown_path", "There is no such path.");
    if (!id && method === "POST") {
      if (body.plan !== undefined && !body.inputs?.topic) throw new HttpError(422, "plan::input", "`topic` is required.", "Give it a value.");
      // A goal is planned into a file, and nothing runs.
      if (body.goal !== undefined) return [201, { plan: "brief.yaml" }];
      const run = this.add({ plan: "competitor-brief", tasks: brief(), inputs: body.inputs ?? {} });
      run.started = run.now = Date.now();
      this.tick(0);
      for (const stream of this.streams) if (stream.run === null) stream.send("runs", { runs: [run.summary()] });
      return [201, { run: run.run }];
    }
    if (!id) {
      const statuses = query.get("status")?.split(",");
      const limit = Number(query.get("limit") ?? 50);
      const all = [...this.runs.values()]
        .filter((run) => (!statuses || statuses.includes(run.status)) && (!query.get("plan") || run.plan === query.get("plan")) && (!query.get("text") || run.plan.includes(query.get("text"))) && run.started >= Number(query.get("since") ?? 0) && run.started <= Number(query.get("until") ?? Infinity))
        .sort((a, b) => b.started - a.started);
      const from = query.get("before") ? all.findIndex((run) => run.run === query.get("before")) + 1 : 0;
      return [200, { runs: all.slice(from, from + limit).map((run) => run.summary()), more: all.length > from + limit }];
    }
    const run = this.find(id);
    if (!what) return [200, run.page()];
    if (what === "tasks" && query.has("output")) {
      const text = query.get("output").toLowerCase();
      return [200, { tasks: [...run.rows.keys()].filter((id) => JSON.stringify(run.detail(id).output ?? "").toLowerCase().includes(text)) }];
    }
    if (what === "tasks") {
      const detail = run.detail(path.slice(3).join("/"));
      if (!detail) throw new HttpError(404, "serve::unknown_task", `The run has no task ${other}.`);
      return [200, detail];
    }
    if (what === "events") {
      const from = query.has("after") ? Number(query.get("after")) + 1 : 0;
      const text = query.get("text")?.toLowerCase();
      const found = run.events.slice(from).filter((event) => !text || `${event.text} ${event.type}`.toLowerCase().includes(text));
      const events = found.slice(0, Number(query.get("limit") ?? 500));
      return [200, { events, last: events.length < found.length ? events.at(-1).seq : run.events.length - 1 }];
    }
    if (what === "answers") {
      const result = run.answer(other, body, "page");
      if (!result) throw new HttpError(404, "serve::unknown_question", `The run has no question ${other}.`);
      this.publish(run);
      return [200, result];
    }
    if (what === "cancel") {
      run.cancel();
      this.publish(run);
      return [200, { message: "The run is cancelled." }];
    }
    if (what === "resume") {
      run.lost = run.frozen = false;
      run.changed.add([...run.rows.keys()][0]);
      this.publish(run);
    }
    if (what === "resume") return [200, { message: "The run continues." }];
    if (what === "retry") {
      const target = query.get("task") ?? body.task;
      const roots = target ? [target] : [...run.rows.values()].filter((row) => row.state === "failed" && !row.children).map((row) => row.id);
      const again = run.again(roots);
      const set = new Set(again);
      const kept = [...run.rows.values()].filter((row) => row.state === "succeeded" && !set.has(row.id) && !row.children).map((row) => row.id);
      // Another topic makes everything run again.
      if (body.dry_run) return [200, { again: body.inputs?.topic === run.inputs.topic ? again : [...run.rows.keys()], kept: [] }];
      if (method === "GET") return [200, { again, kept, fields: PLAN_FIELDS.slice(0, 2) }];
      const tasks = [...run.defs.values()].map((def) => ({ ...def, attempts: def.attempts.at(-1) === "error" ? ["ok"] : def.attempts }));
      const next = this.add({ plan: run.plan, tasks, rerunOf: run.run, keep: new Map(kept.map((id) => [id, run.rows.get(id)])), inputs: { ...run.inputs, ...body.inputs } });
      next.started = next.now = Date.now();
      run.reruns.push(next.run);
      return [201, { run: next.run }];
    }
    if (what === "diff") return [200, diff(run, this.find(other))];
    throw new HttpError(404, "serve::unknown_path", "There is no such path.");
  }
}

function diff(a, b) {
  const side = (run, id) => {
    const row = run.rows.get(id);
    if (!row) return null;
    return { status: row.state, agent: row.agent, ms: row.ended && row.started ? row.ended - row.started : null, text: row.error ?? (row.state === "succeeded" ? `{"title": "${row.name}", "words": ${400 + id.length + (run.rerunOf && !row.reused ? 12 : 0)}}` : (row.reason ?? null)) };
  };
  const ids = [...new Set([...a.rows.keys(), ...b.rows.keys()])];
  const tasks = ids.map((id) => {
    const [one, two] = [side(a, id), side(b, id)];
    return { id, name: a.rows.get(id)?.name ?? b.rows.get(id)?.name, a: one, b: two, same: one?.status === two?.status && one?.text === two?.text, reused: b.rows.get(id)?.reused };
  });
  const values = (one, two) => [...new Set([...Object.keys(one), ...Object.keys(two)])].map((id) => {
    const [left, right] = [one, two].map((all) => (id in all ? JSON.stringify(all[id]) : null));
    return { name: id, a: left, b: right, same: left === right };
  });
  return { a: a.header(), b: b.header(), tasks, inputs: values(a.inputs, b.inputs), outputs: values(a.header().outputs, b.header().outputs) };
}

async function readBody(request) {
  if (request.method !== "POST") return {};
  let text = "";
  for await (const chunk of request) text += chunk;
  return text ? JSON.parse(text) : {};
}

/** Adds the runs that the tests and the pictures show. */
export function addExamples(server) {
  const hour = 3_600_000;
  const runs = {};
  runs.old = server.add({ plan: "survey", tasks: survey(160) }, { finished: true, ago: 26 * hour });
  runs.cancelled = server.add({ plan: "weekly-report", tasks: survey(130) }, { until: 9000, ago: 5 * hour });
  runs.cancelled.cancel();
  runs.done = server.add({ plan: "competitor-brief", tasks: brief() }, { finished: true, ago: 2 * hour });
  const succeed = brief().map((task) => ({ ...task, attempts: task.attempts.at(-1) === "error" ? ["ok"] : task.attempts }));
  const keep = [...runs.done.rows.values()].filter((row) => row.state === "succeeded" && !row.children && !["draft", "publish"].includes(row.id));
  runs.retried = server.add({ plan: "competitor-brief", tasks: succeed, rerunOf: runs.done.run, keep: new Map(keep.map((row) => [row.id, row])) }, { finished: true, ago: 1.5 * hour });
  runs.done.reruns.push(runs.retried.run);
  runs.live = server.add({ plan: "competitor-brief", tasks: brief() }, { until: 6200, ago: 6200 });
  runs.hostile = server.add({ plan: "<b>hostile</b>", tasks: hostile() }, { until: 6000, ago: hour });
  runs.large = server.add({ plan: "survey-2000", tasks: survey(2000), parallel: 60 }, { until: 12_000, ago: 12_000 });
  runs.huge = server.add({ plan: "survey-10000", tasks: survey(10_000), parallel: 200 }, { until: 14_000, ago: 14_000 });
  runs.wide = server.add({ plan: "layers", tasks: layers(30, 50), parallel: 100 }, { until: 6000, ago: 6000 });
  return runs;
}
