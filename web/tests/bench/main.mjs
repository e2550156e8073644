// Measures the pages of the real `kapell serve` in a browser, and fails if a limit is exceeded.
//
// KAPELL=target/release/kapell npm run bench            everything
// KAPELL=target/release/kapell npm run bench -- open    one part: open, live, cost, answer, or report

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import { launch, openPage } from "../e2e/browser.mjs";

/** The limits: milliseconds, nodes of the document, bytes, and ratios. */
const LIMITS = {
  open2000: 1000,
  open10000: 2000,
  longTask: 100,
  domNodes: 3000,
  ratio: 1.05,
  answer: 300,
  reportBytes: 3 * 1024 * 1024,
};
/** With 32 calls at once, about 1 000 events a second. */
const PAUSE_MS = 60;
const MAX_PARALLEL = 32;
const ROUNDS = Number(process.env.ROUNDS ?? 5);
const TOKEN = "token-of-the-page-bench";

const program = process.env.KAPELL && resolve(process.env.KAPELL);
if (!program) {
  console.error("KAPELL must name the program to measure, such as target/release/kapell");
  process.exit(2);
}
const parts = process.argv.slice(2);
const folder = await mkdtemp(join(tmpdir(), "kapell-bench-"));
const environment = { ...process.env, XDG_STATE_HOME: join(folder, "state"), XDG_CONFIG_HOME: join(folder, "config"), KAPELL_JOURNAL: join(folder, "journal.db"), PAGE_TOKEN: TOKEN };
const agent = join(dirname(fileURLToPath(import.meta.url)), "agent.mjs");
await writeFile(join(folder, "agents.toml"), `[agents.a]\ncommand = ${JSON.stringify(process.execPath)}\nargs = ${JSON.stringify([agent])}\nmax_concurrency = ${MAX_PARALLEL}\n`);

let failed = false;

/** Prints a figure, and records whether it exceeds its limit. */
function report(name, value, limit, unit = "") {
  const exceeds = limit !== undefined && value > limit;
  failed ||= exceeds;
  const shown = Number.isInteger(value) ? value : value.toFixed(3);
  console.log(`${name.padEnd(58)}${String(shown).padStart(10)} ${unit.padEnd(6)}${limit === undefined ? "" : `limit ${limit}`}${exceeds ? "  EXCEEDED" : ""}`);
}

/** Returns a plan: a list of `items`, and a chain of the other tasks. */
function plan(tasks, ms) {
  const chain = Math.min(100, Math.floor(tasks / 20));
  const items = tasks - chain - 1;
  const call = `agent: a, tool: pause, with: { ms: ${ms} }`;
  const links = Array.from({ length: chain }, (_, index) => `  - { id: c${index}, ${index > 0 ? `needs: [c${index - 1}], ` : ""}${call} }\n`);
  const list = JSON.stringify(Array.from({ length: items }, (_, index) => index));
  return `name: tasks-${tasks}\nmax_parallel: ${MAX_PARALLEL}\ntasks:\n  - { id: each, foreach: ${list}, as: item, ${call} }\n${links.join("")}`;
}

function start(args, stdio = ["ignore", "ignore", "inherit"]) {
  return spawn(program, args, { cwd: folder, env: environment, stdio });
}

async function run(...args) {
  const child = start(args, ["ignore", "pipe", "pipe"]);
  let [printed, errors] = ["", ""];
  child.stdout.on("data", (data) => {
    printed += data;
  });
  child.stderr.on("data", (data) => {
    errors += data;
  });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`kapell ${args.join(" ")} ended with ${code}: ${errors}`);
  return printed.trim();
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const nodes = (page) => page.evaluate(() => document.querySelectorAll("*").length);
const latestRun = async () => (await (await fetch(`${address}/api/runs?limit=1`, { headers: { Authorization: `Bearer ${TOKEN}` } })).json()).runs[0].run;

/** Returns a page of the server that is signed in. */
async function open() {
  const page = await openPage(browser, address, { token: TOKEN });
  await page.getByRole("heading", { name: "Runs" }).waitFor();
  return page;
}

/** Observes tasks of the main thread that take more than 50 ms. */
async function observeTasks(page) {
  await page.evaluate(() => {
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" });
  });
  return async () => Math.round(Math.max(0, ...(await page.evaluate(() => window.longTasks))));
}

/** Measures the time from the request of the page until it has drawn the graph and has followed a key. */
async function measureOpen(tasks, limit) {
  const run = runs.get(tasks);
  const times = [];
  let most = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const page = await open();
    await page.goto("about:blank");
    const begun = performance.now();
    await page.goto(`${address}/#/runs/${run}/graph`, { waitUntil: "commit" });
    await page.locator(".node, .far-node").first().waitFor();
    await page.keyboard.press("l");
    await page.locator(".grid-row.row").first().waitFor();
    times.push(performance.now() - begun);
    await page.locator(".toggle:not(.open)").first().click();
    most = Math.max(most, await nodes(page));
    for (const view of ["timeline", "events", "summary", "graph"]) {
      await page.keyboard.press(view[0]);
      await page.locator(`.view-${view}`).waitFor();
      await page.waitForTimeout(300);
      most = Math.max(most, await nodes(page));
    }
    await page.getByRole("button", { name: "Fit" }).click();
    most = Math.max(most, await nodes(page));
    await page.context().close();
  }
  report(`opening a run of ${tasks} tasks, until it follows a key`, Math.round(median(times)), limit, "ms");
  report(`nodes of the document, ${tasks} tasks`, most, LIMITS.domNodes);
}

/** Measures the longest task of the main thread while a run writes about 1 000 events a second. */
async function measureLive() {
  for (const view of ["graph", "timeline", "list", "events"]) {
    await writeFile(join(folder, "live.yaml"), plan(10_000, PAUSE_MS));
    const child = start(["run", "live.yaml", "--quiet"]);
    const page = await open();
    await page.locator("a.run-link").first().waitFor();
    const id = await latestRun();
    await page.goto(`${address}/#/runs/${id}/${view}`);
    await page.locator(".node, .row, .event-row").first().waitFor();
    const opened = page.locator(".toggle:not(.open)").first();
    if (await opened.count()) await opened.click();
    await page.waitForTimeout(500);
    const seq = () => page.evaluate(async (run) => (await (await fetch(`/api/runs?text=${run}`)).json()).runs[0].seq, id);
    const [first, begun] = [await seq(), performance.now()];
    const longest = await observeTasks(page);
    await page.waitForTimeout(5000);
    const most = await longest();
    const rate = Math.round(((await seq()) - first) / ((performance.now() - begun) / 1000));
    report(`longest task of the main thread, ${view}, ${rate} events/s`, most, LIMITS.longTask, "ms");
    report(`nodes of the document, ${view} of a run in progress`, await nodes(page), LIMITS.domNodes);
    child.kill("SIGKILL");
    await once(child, "exit");
    for (const problem of page.problems) throw new Error(problem);
    await page.context().close();
  }
}

/** Compares the time of a run that a page shows with that of the same run without a page. */
async function measureCost() {
  await writeFile(join(folder, "cost.yaml"), plan(2_000, PAUSE_MS));
  const timed = async () => {
    const begun = performance.now();
    await run("run", "cost.yaml", "--quiet");
    return performance.now() - begun;
  };
  const [alone, shown] = [[], []];
  for (let round = 0; round < ROUNDS; round += 1) {
    alone.push(await timed());
    const page = await open();
    const follow = (async () => {
      // The page opens the run as soon as it is in the list.
      await page.locator(".c-status, .state.s-running").first().waitFor();
      await page.goto(`${address}/#/runs/${await latestRun()}/graph`);
      await page.locator(".node, .far-node").first().waitFor();
    })();
    shown.push(await timed());
    await follow;
    await page.context().close();
  }
  report("a run of 2 000 tasks without a page", Math.round(Math.min(...alone)), undefined, "ms");
  report("the same run while a page shows it", Math.round(Math.min(...shown)), undefined, "ms");
  report("ratio of the shortest times", Math.min(...shown) / Math.min(...alone), LIMITS.ratio);
}

/** Measures the time from the start of `kapell answer` until the page shows the answer. */
async function measureAnswer() {
  const ask = `name: ask\ntasks:\n  - { id: ask, ask: { message: "Go?", schema: { type: object, properties: { ok: { type: boolean } }, required: [ok] } } }\n`;
  await writeFile(join(folder, "ask.yaml"), ask);
  const times = [];
  for (let round = 0; round < ROUNDS * 2; round += 1) {
    const id = await run("run", "ask.yaml", "--detach");
    const page = await open();
    await page.goto(`${address}/#/runs/${id}/graph?questions=open`);
    await page.locator(".question-card.open").waitFor();
    await page.evaluate(() => {
      window.answered = new Promise((resolve) => {
        new MutationObserver(() => document.querySelector(".question-card.answered") && resolve(Date.now())).observe(document.body, { subtree: true, childList: true, attributes: true });
      });
    });
    // The answers arrive at any time of the intervals at which the run and the server look at the journal.
    await page.waitForTimeout(100 + ((round * 37) % 200));
    const begun = Date.now();
    await run("answer", id, "q1", "--field", "ok=yes");
    times.push((await page.evaluate(() => window.answered)) - begun);
    await page.context().close();
  }
  report("from the start of `kapell answer` to the page, median", median(times), LIMITS.answer, "ms");
  report("the longest time", Math.max(...times), undefined, "ms");
}

/** Measures the size of a report, and the time until it opens from disk. */
async function measureReport(tasks) {
  const file = join(folder, "report.html");
  const begun = performance.now();
  await run("report", runs.get(tasks), "-o", file);
  report(`writing the report of ${tasks} tasks`, Math.round(performance.now() - begun), undefined, "ms");
  report(`size of the report of ${tasks} tasks`, (await stat(file)).size, tasks > 2000 ? undefined : LIMITS.reportBytes, "bytes");
  const page = await (await browser.newContext()).newPage();
  const opened = performance.now();
  await page.goto(pathToFileURL(file).href, { waitUntil: "commit" });
  await page.locator(".node, .far-node").first().waitFor();
  report(`opening the report of ${tasks} tasks`, Math.round(performance.now() - opened), undefined, "ms");
  await page.context().close();
}

const runs = new Map();
let browser;
let server;
const port = await freePort();
const address = `http://127.0.0.1:${port}`;
const wants = (part) => parts.length === 0 || parts.includes(part);
try {
  browser = await launch();
  server = start(["serve", "--addr", `127.0.0.1:${port}`, "--token-env", "PAGE_TOKEN"], ["ignore", "pipe", "ignore"]);
  await once(createInterface({ input: server.stdout }), "line");
  if (wants("open") || wants("report")) {
    for (const tasks of [2_000, 10_000]) {
      await writeFile(join(folder, "plan.yaml"), plan(tasks, 0));
      await run("run", "plan.yaml", "--quiet");
      runs.set(tasks, await latestRun());
    }
  }
  if (wants("open")) {
    await measureOpen(2_000, LIMITS.open2000);
    await measureOpen(10_000, LIMITS.open10000);
  }
  if (wants("live")) await measureLive();
  if (wants("cost")) await measureCost();
  if (wants("answer")) await measureAnswer();
  if (wants("report")) {
    await measureReport(2_000);
    await measureReport(10_000);
  }
} finally {
  await browser?.close();
  server?.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true, maxRetries: 3 });
}
process.exitCode = failed ? 1 : 0;
