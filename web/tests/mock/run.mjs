// A run of the mock server: it starts tasks when what they need has succeeded, at a speed of its own.

import { layout } from "./layout.mjs";

const EMPTY = { total: 0, waiting: 0, running: 0, asking: 0, retrying: 0, succeeded: 0, failed: 0, skipped: 0, cancelled: 0 };
const ENDED = new Set(["succeeded", "failed", "skipped", "cancelled"]);
const REGION = [
  { name: "region", title: "Region", description: "Only sources of this region are read.", type: "enum", required: true, options: [{ value: "eu", label: "Europe" }, { value: "us", label: "North America" }, { value: "all", label: "Everywhere" }] },
  { name: "depth", title: "How many pages", type: "integer", required: true, default: 5, min: 1, max: 50 },
  { name: "remark", title: "Anything else", type: "string" },
];

function add(map, key, value) {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

export class MockRun {
  constructor({ run, plan, tasks, parallel = 8, started, rerunOf = null, keep = new Map(), inputs = {}, goal, layoutItems }) {
    Object.assign(this, { run, plan, parallel, started, rerunOf, inputs, goal });
    this.short = run.slice(0, 8);
    this.now = started;
    this.status = "running";
    this.ended = null;
    this.seq = -1;
    this.events = [];
    this.questions = new Map();
    this.changed = new Set();
    this.changedQuestions = new Set();
    this.listeners = new Set();
    this.reruns = [];
    this.defs = new Map(tasks.map((def) => [def.id, def]));
    this.rows = new Map();
    this.members = new Map();
    this.dependents = new Map();
    this.active = new Set();
    this.queue = [];
    this.blocked = new Map();
    for (const def of tasks) {
      this.rows.set(def.id, {
        id: def.id, parent: def.parent, name: def.name, kind: def.kind, state: "waiting", agent: def.agent, tool: def.tool,
        attempts: 0, segments: [], needs: def.needs, effect: def.effect, critical: def.critical,
      });
      if (def.parent) add(this.members, def.parent, def.id);
    }
    for (const def of tasks) {
      this.blocked.set(def.id, this.members.has(def.id) ? Number.POSITIVE_INFINITY : def.needs.length);
      for (const need of def.needs) add(this.dependents, need, def.id);
    }
    const top = tasks.filter((def) => !def.parent);
    this.graph = layout(layoutItems ?? top.map((def) => ({ id: def.id, needs: def.needs, members: (this.members.get(def.id)?.length ?? 0) <= 12 ? this.members.get(def.id) : [] })));
    this.counts = { ...EMPTY, total: [...this.rows.keys()].filter((id) => !this.members.has(id)).length };
    this.counts.waiting = this.counts.total;
    this.groupCounts = new Map([...this.members].map(([id, members]) => [id, { ...EMPTY, total: members.length, waiting: members.length }]));
    for (const [id, counts] of this.groupCounts) this.rows.get(id).children = { ...counts };
    this.event("run_started", `run of ${plan} started`, { inputs });
    for (const [id, row] of keep) {
      if (!this.rows.has(id) || this.members.has(id)) continue;
      this.set(id, { ...row, reused: true, segments: [], started: started, ended: started }, "succeeded");
      this.release(id);
    }
    for (const def of tasks) if (this.blocked.get(def.id) === 0 && this.rows.get(def.id).state === "waiting") this.ready(def.id);
    this.markCritical();
  }

  markCritical() {
    // The longest way by the durations of the plan.
    const best = new Map();
    const length = (id) => {
      if (!best.has(id)) {
        best.set(id, { ms: 0 });
        let before = null;
        for (const need of this.defs.get(id).needs) if (length(need) > (before ? length(before) : -1)) before = need;
        const own = this.members.has(id) ? Math.max(...this.members.get(id).map((member) => this.defs.get(member).ms)) : this.defs.get(id).ms;
        best.set(id, { ms: own + (before ? best.get(before).ms : 0), before });
      }
      return best.get(id).ms;
    };
    let last = null;
    for (const id of this.rows.keys()) if (!last || length(id) > length(last)) last = id;
    for (let id = last; id; id = best.get(id).before) this.rows.set(id, { ...this.rows.get(id), critical: true });
  }

  event(type, text, data = {}) {
    this.seq += 1;
    this.events.push({ seq: this.seq, at: this.now, type, text, event: { type, ...data } });
  }

  bucket(state) {
    return state === "queued" ? "waiting" : state === "model" ? "running" : state;
  }

  set(id, change, state) {
    const before = this.rows.get(id);
    const next = { ...before, ...change, state: state ?? before.state };
    this.rows.set(id, next);
    this.changed.add(id);
    if (state && !this.members.has(id)) {
      this.counts[this.bucket(before.state)] -= 1;
      this.counts[this.bucket(state)] += 1;
      if (before.parent) {
        const counts = this.groupCounts.get(before.parent);
        counts[this.bucket(before.state)] -= 1;
        counts[this.bucket(state)] += 1;
        this.updateGroup(before.parent);
      }
    }
    return next;
  }

  updateGroup(id) {
    const counts = this.groupCounts.get(id);
    const row = this.rows.get(id);
    const ended = counts.succeeded + counts.failed + counts.skipped + counts.cancelled === counts.total;
    const state = ended ? (counts.failed > 0 && counts.failed === counts.total ? "failed" : "succeeded") : counts.asking > 0 ? "asking" : counts.waiting === counts.total ? "waiting" : "running";
    this.rows.set(id, { ...row, children: { ...counts }, state, started: row.started ?? (state === "waiting" ? null : this.now), ended: ended ? this.now : null });
    this.changed.add(id);
    if (ended && row.state !== state && !ENDED.has(row.state)) this.release(id);
  }

  release(id) {
    for (const dependent of this.dependents.get(id) ?? []) {
      const remaining = this.blocked.get(dependent) - 1;
      this.blocked.set(dependent, remaining);
      if (remaining === 0 && this.rows.get(dependent).state === "waiting") this.ready(dependent);
    }
  }

  ready(id) {
    this.set(id, {}, "queued");
    this.open(id, "queued", 0, null);
    this.queue.push(id);
  }

  open(id, kind, attempt, agent) {
    const row = this.rows.get(id);
    const segments = this.close(row.segments);
    this.rows.set(id, { ...row, segments: [...segments, [kind, this.now, null, attempt, agent, null]] });
  }

  close(segments, outcome = null) {
    return segments.map((segment) => (segment[2] === null ? [segment[0], segment[1], this.now, segment[3], segment[4], outcome] : segment));
  }

  start(id) {
    const def = this.defs.get(id);
    const row = this.rows.get(id);
    const attempt = row.attempts + 1;
    const what = def.attempts[Math.min(attempt, def.attempts.length) - 1];
    const asks = (what === "ask" || what === "approve") && !row.answered;
    if (asks) {
      const question = `q${this.questions.size + 1}`;
      this.questions.set(question, {
        id: question, kind: what === "ask" ? "form" : "approval", asker: def.evil ?? (what === "ask" ? `task \`${id}\` asks` : `kapell asks, in task \`${id}\``), task: id, agent: def.agent, tool: def.tool,
        message: def.evil ?? (what === "ask" ? "Which region should the brief cover?" : "Publish the brief to the shared folder?"),
        asked: this.now, deadline: this.now + 600_000, default: what === "ask" ? "accept" : "decline", status: "open",
        ...(what === "ask" ? { fields: REGION } : { arguments: def.with ?? {}, effect: "at_most_once" }),
      });
      this.changedQuestions.add(question);
      this.set(id, { question, started: row.started ?? this.now }, "asking");
      this.open(id, "person", 0, null);
      this.event("question_asked", `${id}: asks "${this.questions.get(question).message}"`, { question });
      return;
    }
    const kind = def.model ? "model" : "running";
    this.set(id, { attempts: attempt, started: row.started ?? this.now, retry_at: null }, def.model ? "model" : "running");
    this.open(id, kind, attempt, def.agent ?? null);
    this.active.add(id);
    this.event("attempt_started", `${id}: attempt ${attempt}${def.agent ? ` on ${def.agent}` : ""}`, { task: id, attempt });
  }

  /** Advances the run to a time. */
  advance(to) {
    if (this.ended) return;
    while (this.now < to && !this.ended) {
      this.now = Math.min(to, this.now + 100);
      this.step();
    }
  }

  step() {
    for (const id of [...this.active]) {
      const def = this.defs.get(id);
      const row = this.rows.get(id);
      const segment = row.segments.at(-1);
      if (row.state === "retrying") {
        if (row.retry_at <= this.now) {
          this.active.delete(id);
          this.start(id);
        }
        continue;
      }
      const share = (this.now - segment[1]) / def.ms;
      if (share < 1) {
        if (def.ms > 2000 && row.kind === "call") this.set(id, { progress: { value: Math.round(share * 20), total: 20, message: share < 0.5 ? "reading" : "checking" } });
        continue;
      }
      const what = def.attempts[Math.min(row.attempts, def.attempts.length) - 1];
      this.active.delete(id);
      if (what === "fail") {
        const error = "the server closed the connection (503 Service Unavailable)";
        this.set(id, { segments: [...this.close(row.segments, "failed"), ["pause", this.now, null, row.attempts, null, null]], retry_at: this.now + 1500, error, progress: null }, "retrying");
        this.event("retry_scheduled", `${id}: attempt ${row.attempts} failed: ${error}; the next one in 1.5 s`, { task: id });
        this.active.add(id);
      } else if (what === "error") {
        const error = def.evil ?? "invalid result: `total` is 1204, but its parts add up to 1240";
        this.set(id, { segments: this.close(row.segments, "failed"), ended: this.now, error, progress: null }, "failed");
        this.event("task_failed", `${id}: ${error}`, { task: id });
        this.skip(id);
      } else {
        this.succeed(id, row);
      }
    }
    this.queue = this.queue.filter((id) => {
      if (this.rows.get(id).state !== "queued") return false;
      const def = this.defs.get(id);
      const asks = def.kind === "ask" || def.attempts[0] === "approve";
      if (!asks && this.active.size >= this.parallel) return true;
      this.start(id);
      return false;
    });
    if (this.counts.waiting + this.counts.running + this.counts.asking + this.counts.retrying === 0) this.finish();
  }

  succeed(id, row) {
    const def = this.defs.get(id);
    this.set(id, { segments: this.close(row.segments, "succeeded"), ended: this.now, error: null, progress: null, question: null, ...(def.model ? { tokens: 5230, cost_usd: 0.0184 } : {}) }, "succeeded");
    this.event("task_succeeded", `${id}: succeeded`, { task: id });
    this.release(id);
  }

  skip(id) {
    for (const dependent of this.dependents.get(id) ?? []) {
      const row = this.rows.get(dependent);
      if (ENDED.has(row.state) || this.members.has(dependent)) continue;
      this.set(dependent, { reason: `needs ${id}, which failed`, ended: this.now }, "skipped");
      this.event("task_skipped", `${dependent}: skipped, because ${id} failed`, { task: dependent });
      this.skip(dependent);
    }
  }

  finish(status) {
    this.status = status ?? (this.counts.failed === 0 ? "succeeded" : this.counts.succeeded > 0 ? "partial" : "failed");
    this.ended = this.now;
    this.event("run_ended", `run ended: ${this.status}`, {});
  }

  answer(id, body, by) {
    const question = this.questions.get(id);
    if (!question) return null;
    if (question.status !== "open") return { status: "refused", message: `${id} was already answered.` };
    const accepted = body.action === "accept";
    this.questions.set(id, { ...question, status: "answered", answer: accepted ? { action: "accept", ...(body.fields ? { content: body.fields } : {}) } : { action: body.action }, answered_by: by });
    this.changedQuestions.add(id);
    this.event("question_answered", `${id}: answered in the ${by}`, { question: id });
    const row = this.rows.get(question.task);
    if (!accepted) {
      this.set(question.task, { segments: this.close(row.segments), ended: this.now, error: "a person declined", question: null }, "failed");
      this.skip(question.task);
    } else {
      this.set(question.task, { answered: true, question: null }, "queued");
      this.start(question.task);
    }
    return { status: "answered", message: `Answered: ${question.task} continues.` };
  }

  cancel() {
    for (const [id, row] of this.rows) {
      if (!this.members.has(id) && !ENDED.has(row.state)) this.set(id, { segments: this.close(row.segments), ended: this.now, reason: "the run was cancelled" }, "cancelled");
    }
    this.active.clear();
    this.finish("cancelled");
  }

  header() {
    const spent = { calls: 41, llm_calls: 3, tokens_in: 18_400, tokens_out: 2310, cost_usd: this.counts.total > 100 ? 1.27 : 0.0421 };
    const over = this.ended !== null;
    return {
      run: this.run, short: this.short, plan: this.plan, goal: this.goal, status: this.status, started: this.started, ended: this.ended, now: this.now, downtime_ms: 0,
      process: over || this.lost ? null : "4711", rerun_of: this.rerunOf, reruns: this.reruns, counts: { ...this.counts }, remaining_ms: over ? null : Math.max(0, this.started + 900_000 - this.now), spent,
      budgets: { max_cost_usd: 5, max_calls: 200 }, inputs: this.inputs,
      outputs: over && this.counts.succeeded > 0 ? { written: "brief.md", sources: 3, claims: [{ text: "Prices rose by 4 %", source: 1 }, { text: "Two vendors left the market", source: 2 }] } : {},
      answer_markdown_html: over && this.counts.succeeded > 0 ? "<h2>Summary</h2><p>Prices in Europe <strong>rose by 4 %</strong>, and two vendors left the market. The brief compares the remaining five.</p><ul><li>Three sources agree on the prices.</li><li>One number of the draft could not be verified: see <code>check</code>.</li></ul>" : null,
      problems: over && this.counts.failed > 0 ? ["check: the total of the draft differs from the sum of its parts"] : [],
      can: { cancel: !over, resume: Boolean(this.lost) && !over, retry: over },
    };
  }

  summary() {
    const { run, short, plan, status, started, ended, process, counts, rerun_of, spent } = this.header();
    return { run, short, plan, status, started, ended, process, seq: this.seq, counts, cost_usd: spent.cost_usd, rerun_of };
  }

  page() {
    return {
      seq: this.seq, run: this.header(), tasks: [...this.rows.values()], graph: this.graph, questions: [...this.questions.values()],
      agents: [
        { id: "research", status: "connected", server: "research-server 2.1", protocol: "2026-07-28", tools: 4 },
        { id: "archive", status: "connected", server: "archive 0.9", protocol: "2025-11-25", tools: 2 },
        { id: "tables", status: "connected", server: "tables 1.4", protocol: "2026-07-28", tools: 7 },
        { id: "mail", status: "failed", server: null, protocol: null, tools: null, error: "the process ended with status 1 before the handshake" },
      ],
    };
  }

  /** Returns what has changed since the last call, as a patch. */
  patch() {
    const patch = {
      seq: this.seq, run: this.header(), tasks: [...this.changed].map((id) => this.rows.get(id)), questions: [...this.changedQuestions].map((id) => this.questions.get(id)), agents: [],
    };
    this.changed.clear();
    this.changedQuestions.clear();
    return patch;
  }

  detail(id) {
    const row = this.rows.get(id);
    if (!row) return null;
    const def = this.defs.get(id);
    const evil = def.evil;
    const ended = row.state === "succeeded";
    const calls = row.segments
      .filter(([kind]) => kind === "running")
      .map(([, started, end, number, agent, outcome], index, all) => ({
        task: id, number, agent, tool: def.tool, arguments: def.with, started, ended: end,
        error: outcome === "failed" ? (all[index + 1] ? "the server closed the connection (503 Service Unavailable)" : row.error) : undefined,
        next: all[index + 1] ? { agent: def.agent, at: all[index + 1][1], reason: "The call is read-only, so it is repeated." } : undefined,
        log: [
          { at: started + 40, level: "info", logger: "http", data: evil ?? "GET https://example.com/1" },
          { at: started + 320, level: outcome === "failed" ? "error" : "info", logger: "http", data: outcome === "failed" ? "503 Service Unavailable" : { status: 200, bytes: 48_213 } },
        ],
        stderr: index === 0 ? [{ at: started + 12, text: evil ?? "cache: miss" }] : [],
      }));
    const output = !ended
      ? undefined
      : def.kind === "foreach"
        ? undefined
        : def.model
          ? { text: "# Brief\n\nPrices rose.", html: "<h1>Brief</h1><p>Prices in Europe <em>rose by 4 %</em> in one year [1], while two vendors left the market [2].</p><h2>What changes</h2><ul><li>List prices: +4 %</li><li>Free tiers: three of five remain</li></ul><table><thead><tr><th>Vendor</th><th>Price</th></tr></thead><tbody><tr><td>Alpha</td><td>120 €</td></tr><tr><td>Beta</td><td>98 €</td></tr></tbody></table>", images: [], links: [], files: [] }
          : {
              json: { [evil ?? "title"]: evil ?? "Pricing", status: 200, tags: ["price", "europe"], sections: [{ heading: "Plans", words: 412 }, { heading: "Limits", words: 96 }], cached: false, author: null },
              images: evil ? [{ url: "javascript:window.pwned=1", mime: "image/svg+xml" }] : [],
              links: [{ uri: evil ? "javascript:window.pwned=1" : "https://example.com/pricing", title: evil ?? "Pricing page" }],
              files: [{ name: evil ?? "page.html", bytes: 48_213, mime: "text/html", url: `/api/runs/${this.run}/files/page.html` }],
              truncated: 0,
            };
    return {
      row, arguments: def.with ?? (def.model ? { style: "brief", max_words: 400 } : undefined), output, calls,
      exchanges: def.model && row.started
        ? [
            {
              number: 1, model: "qwen3:8b", started: row.started, ended: row.ended ?? null, tokens_in: 4120, tokens_out: 1110, cost_usd: 0.0184, tools: ["tables.query", "research.search"],
              messages: [
                { role: "system", text: "Write a brief from the given claims. Cite each claim by its number." },
                { role: "user", text: "Claims:\n1. Prices rose by 4 %.\n2. Two vendors left the market." },
                ...(row.ended ? [{ role: "assistant", text: "# Brief\n\nPrices in Europe rose by 4 % in one year [1] …" }] : []),
              ],
            },
          ]
        : [],
      trace: row.started
        ? [
            { at: row.started, from: "host", to: "agent", what: `tools/call ${def.tool ?? ""}`, detail: def.with ?? {} },
            { at: row.started + 30, from: "agent", to: "host", what: "notifications/progress", detail: "1 of 20" },
            ...(def.attempts[0] === "ask" ? [{ at: row.started + 60, from: "agent", to: "person", what: "elicitation/create", detail: "Which region?" }] : []),
            { at: row.ended ?? row.started + 200, from: "agent", to: "host", what: "result", detail: evil ?? { isError: false } },
          ]
        : [],
      effect: def.effect ?? "read_only", retry_effect: def.effect === "at_most_once" ? "asks first: a repeated call could act twice" : "repeats the call; nothing changes at the agent",
    };
  }

  /** Returns the tasks that a retry of some tasks runs again. */
  again(ids) {
    const again = new Set();
    const visit = (id) => {
      if (again.has(id)) return;
      again.add(id);
      for (const dependent of this.dependents.get(id) ?? []) visit(dependent);
      for (const member of this.members.get(id) ?? []) visit(member);
      const parent = this.rows.get(id).parent;
      if (parent) for (const dependent of this.dependents.get(parent) ?? []) visit(dependent);
    };
    ids.forEach(visit);
    return [...this.rows.keys()].filter((id) => again.has(id) && !this.members.has(id));
  }
}
