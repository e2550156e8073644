// The pages in a browser, against the mock server.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { addExamples, MockServer, TOKEN } from "../mock/server.mjs";
import { launch, openPage } from "./browser.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const MAX_DOM_NODES = 3000;

let browser;
let server;
let address;
let runs;

before(async () => {
  browser = await launch();
  server = new MockServer({ speed: 2 });
  runs = addExamples(server);
  runs.done.frozen = runs.hostile.frozen = true;
  address = await server.listen();
});

after(async () => {
  await browser?.close();
  await server?.close();
});

const to = (run, rest) => `${address}/#/runs/${run.run}/${rest}`;
const domNodes = (page) => page.evaluate(() => document.querySelectorAll("*").length);

async function open(options) {
  const page = await openPage(browser, address, { token: TOKEN, ...options });
  await page.getByRole("heading", { name: "Runs" }).waitFor();
  return page;
}

async function close(page) {
  assert.deepEqual(page.problems, []);
  await page.context().close();
}

describe("sizes", () => {
  for (const name of ["live", "large", "huge", "wide"]) {
    it(`shows graph, timeline, and list of the run "${name}" with few nodes in the document`, async () => {
      const page = await open();
      await page.goto(to(runs[name], "graph"));
      await page.locator(".node").first().waitFor();
      assert.ok((await domNodes(page)) <= MAX_DOM_NODES, `graph: ${await domNodes(page)}`);
      await page.getByRole("button", { name: "Fit" }).click();
      await page.locator(".node, .far-node").first().waitFor();
      assert.ok((await domNodes(page)) <= MAX_DOM_NODES, `whole graph: ${await domNodes(page)}`);

      await page.goto(to(runs[name], "timeline"));
      await page.locator(".time-row.row .segment").first().waitFor();
      assert.ok((await domNodes(page)) <= MAX_DOM_NODES, `timeline: ${await domNodes(page)}`);

      await page.goto(to(runs[name], "list"));
      await page.locator(".grid-row.row").first().waitFor();
      const toggle = page.locator(".toggle:not(.open)").first();
      if (name === "large" || name === "huge") {
        await toggle.click();
        const total = runs[name].rows.size;
        await page.getByRole("treegrid", { name: `${String(total).replace(/\B(?=(\d{3})+$)/g, "\u2009")} tasks` }).waitFor();
        await page.locator(".virtual").evaluate((list) => list.scrollTo(0, list.scrollHeight));
        await page.getByRole("row", { name: /Chain 14, step 7/ }).waitFor();
      }
      assert.ok((await domNodes(page)) <= MAX_DOM_NODES, `list: ${await domNodes(page)}`);
      await close(page);
    });
  }

  it("moves no node and keeps the zoom while states change", async () => {
    const page = await open();
    const run = server.add({ plan: "moving", tasks: [...runs.live.defs.values()] });
    await page.goto(to(run, "graph"));
    await page.locator(".node").first().waitFor();
    await page.getByRole("button", { name: "Zoom in" }).click();
    // A banner makes the view smaller, so a node may be out of view later.
    const places = () => page.evaluate(() => Object.fromEntries([".graph-svg > g", ...[...document.querySelectorAll(".node")].map((node) => `#${node.id}`)].map((item) => [item, document.querySelector(item).getAttribute("transform")])));
    const same = (later, earlier) => assert.deepEqual(later, Object.fromEntries(Object.keys(later).map((item) => [item, earlier[item]])));
    const first = await places();
    await page.locator(".node.s-asking").waitFor();
    same(await places(), first);
    await page.getByRole("link", { name: "List" }).click();
    await page.getByRole("link", { name: "Graph" }).click();
    await page.locator(".node").first().waitFor();
    same(await places(), first);
    await close(page);
  });
});

describe("keyboard", () => {
  it("leads from the list of runs to a task and to an answer", async () => {
    const page = await open();
    const run = server.add({ plan: "keys", tasks: [...runs.live.defs.values()] }, { until: 6000, ago: -60_000 });
    await page.reload();
    await page.getByRole("link", { name: "keys" }).waitFor();
    await page.keyboard.press("j");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "keys");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "keys" }).waitFor();
    await page.locator(".node").first().waitFor();
    await page.keyboard.press("g");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    const panel = page.getByRole("complementary");
    await panel.getByRole("heading", { name: "Read each source" }).waitFor();
    await page.keyboard.press("Escape");
    await panel.waitFor({ state: "detached" });

    await page.keyboard.press("l");
    await page.getByRole("treegrid").waitFor();
    await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await panel.waitFor();
    await page.keyboard.press("Escape");
    await page.keyboard.press("t");
    await page.locator(".time-row.row").first().waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("prices");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator(".time-row.row").count(), 1);
    assert.match(page.url(), /q=prices/);
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys and signs" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });

    await page.keyboard.press("a");
    await panel.getByText("Which region should the brief cover?").waitFor();
    await page.waitForFunction(() => document.activeElement.matches('input[type="radio"]'));
    await page.keyboard.press("Space");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByText("Answered: scope continues.").waitFor();
    assert.deepEqual(run.questions.get("q1").answer, { action: "accept", content: { region: "eu", depth: "5" } });
    await close(page);
  });

  it("finds the next failure", async () => {
    const page = await open();
    await page.goto(to(runs.done, "graph"));
    await page.locator(".node").first().waitFor();
    await page.keyboard.press("f");
    await page.getByRole("complementary").getByRole("heading", { name: "Check the numbers" }).waitFor();
    assert.match(page.url(), /task=check/);
    await close(page);
  });
});

describe("lists", () => {
  it("scroll to the row that the keyboard or the search for failures leads to", async () => {
    const page = await open();
    await page.goto(to(runs.large, "list"));
    await page.locator(".grid-row.row").first().waitFor();
    const isInView = () =>
      page.waitForFunction(() => {
        const row = document.querySelector('.row[tabindex="0"]')?.getBoundingClientRect();
        const list = document.querySelector(".virtual").getBoundingClientRect();
        return row && row.top >= list.top - 1 && row.bottom <= list.bottom + 1;
      });
    await page.keyboard.press("f");
    await page.getByRole("complementary").getByRole("heading", { name: "Page 42", exact: true }).waitFor();
    await page.locator(".row.selected").waitFor();
    await isInView();
    await page.keyboard.press("Escape");
    await page.keyboard.press("End");
    await page.waitForFunction(() => document.activeElement.dataset.id === "c13.6");
    await isInView();
    for (let step = 0; step < 30; step += 1) await page.keyboard.press("k");
    await page.waitForFunction(() => document.activeElement.dataset.id === "c9.4");
    await isInView();
    await close(page);
  });
});

describe("search", () => {
  it("filters runs by day, with the days in the address", async () => {
    const page = await open();
    await page.locator("a.run-link").first().waitFor();
    const day = (ago) => {
      const date = new Date(Date.now() - ago * 86_400_000);
      return `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;
    };
    await page.getByLabel("Started from").fill(day(-1));
    await page.getByText("No run matches").waitFor();
    await page.goto(`${address}/#/runs?from=${day(3)}&to=${day(-1)}`);
    await page.locator("a.run-link").first().waitFor();
    assert.equal(await page.getByLabel("Started from").inputValue(), day(3));
    await page.getByLabel("to", { exact: true }).fill(day(2));
    await page.getByText("No run matches").waitFor();
    assert.match(page.url(), new RegExp(`to=${day(2)}`));
    await close(page);
  });

  it("finds tasks by their output", async () => {
    const page = await open();
    await page.goto(to(runs.done, "list?q=output:nothing-has-this"));
    await page.getByText("No task matches").waitFor();
    await page.getByRole("searchbox").fill("output:text");
    await page.locator(".grid-row.row").first().waitFor();
    await close(page);
  });

  it("reads the events that are in view only", async () => {
    const page = await open();
    const reads = [];
    page.on("request", (request) => request.url().includes("/events") && reads.push(new URL(request.url()).search));
    await page.goto(to(runs.huge, "events"));
    await page.locator(".event-row .event-type").first().waitFor();
    // The run is in progress, so its latest events are shown.
    assert.ok(Number(await page.locator(".event-row .event-seq").first().textContent()) > 500);
    assert.ok(reads.every((search) => search.includes("after=")), reads.join(" "));
    await page.locator(".virtual").evaluate((list) => list.scrollTo(0, 0));
    await page.getByRole("button", { name: /^Event 0:/ }).waitFor();
    assert.ok(reads.length < 20, reads.join(" "));
    await close(page);
  });
});

describe("acting", () => {
  it("starts a plan from its form, retries what failed, and compares both runs", async () => {
    const page = await open();
    await page.getByRole("link", { name: "Start", exact: true }).click();
    await page.getByRole("link", { name: /competitor-brief/ }).click();
    await page.getByRole("button", { name: "Start" }).click();
    await page.getByText("A value is required.").first().waitFor();
    await page.getByLabel("Topic").fill("databases");
    await page.getByRole("button", { name: "Start" }).click();
    await page.locator(".node.s-running").first().waitFor();
    await page.getByText("A question waits for you.").waitFor();
    await page.getByRole("button", { name: "Answer" }).click();
    await page.getByLabel("Europe").check();
    await page.getByRole("complementary").getByRole("button", { name: "Answer" }).click();
    await page.getByText("Publish the brief to the shared folder?").first().waitFor();
    await page.getByRole("complementary").getByRole("button", { name: "Approve", exact: true }).click();
    await page.getByRole("button", { name: "Retry what failed…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("2 tasks run again").waitFor();
    await dialog.getByRole("button", { name: "Run 2 tasks again" }).click();
    await page.getByText("A new run has started.").waitFor();
    await page.getByRole("link", { name: "Compare it with the earlier run" }).click();
    await page.getByRole("heading", { name: "Compare two runs" }).waitFor();
    await page.getByRole("row", { name: /Check the numbers/ }).waitFor();
    await close(page);
  });

  it("shows what runs again with other inputs before it starts", async () => {
    const page = await open();
    await page.goto(to(runs.done, "graph"));
    await page.getByRole("button", { name: "Retry what failed…" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("2 tasks run again").waitFor();
    await dialog.getByText("Change the inputs").click();
    await dialog.getByLabel("Topic").fill("graph databases");
    await dialog.getByRole("button", { name: "Show what would run again" }).click();
    await dialog.getByText(`${runs.done.rows.size} tasks run again`).waitFor();
    await dialog.getByRole("button", { name: /^Run \d+ tasks again/ }).click();
    await page.getByText("A new run has started.").waitFor();
    await page.keyboard.press("s");
    await page.getByText("graph databases").first().waitFor();
    await close(page);
  });

  it("plans a goal, and opens the plan to look at and to start", async () => {
    const page = await open();
    await page.goto(`${address}/#/start`);
    await page.getByLabel("What should be done").fill("Write a brief");
    await page.getByRole("button", { name: "Plan it" }).click();
    await page.getByRole("application", { name: /Graph of the plan/ }).waitFor();
    await page.locator(".node").first().waitFor();
    await close(page);
  });

  it("shows an answer from elsewhere", async () => {
    const page = await open();
    const run = server.add({ plan: "elsewhere", tasks: [...runs.live.defs.values()] }, { until: 6000 });
    await page.goto(to(run, "graph?questions=open"));
    await page.getByRole("button", { name: "Answer", exact: true }).waitFor();
    run.answer("q1", { action: "accept", fields: { region: "us", depth: "1" } }, "terminal");
    await page.getByText("Answered by terminal").waitFor();
    await close(page);
  });

  it("cancels a run after it asked", async () => {
    const page = await open();
    const run = server.add({ plan: "unwanted", tasks: [...runs.live.defs.values()] });
    await page.goto(to(run, "list"));
    await page.getByRole("button", { name: "Cancel…" }).click();
    await page.getByRole("button", { name: "Cancel the run" }).click();
    await page.getByText("The run is cancelled.").waitFor();
    await page.locator(".run-name .state.s-cancelled").waitFor();
    await close(page);
  });
});

describe("connection", () => {
  it("says that it is lost, and continues by itself without a gap in the events", async () => {
    const page = await open();
    const run = server.add({ plan: "broken-line", tasks: [...runs.live.defs.values()] });
    await page.goto(to(run, "events"));
    await page.locator(".event-row").first().waitFor();
    await page.locator(".connection.live").waitFor();
    server.refuseStreams = true;
    server.dropStreams();
    await page.getByText("The connection is lost.").waitFor();
    server.refuseStreams = false;
    await page.getByText("The connection is lost.").waitFor({ state: "detached" });
    await page.locator(".event-text", { hasText: "question_asked" }).or(page.locator(".event-type", { hasText: "question_asked" })).first().waitFor();
    assert.equal(await page.getByText(/are missing/).count(), 0);
    await close(page);
  });

  it("shows that a run lost its process, and resumes it", async () => {
    const page = await open();
    const run = server.add({ plan: "killed", tasks: [...runs.live.defs.values()] }, { until: 1000 });
    run.lost = run.frozen = true;
    await page.goto(to(run, "graph"));
    await page.locator(".run-name .state.s-interrupted").waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.locator(".run-name .state.s-running").waitFor();
    await close(page);
  });

  it("shows how to sign in without a session", async () => {
    const page = await openPage(browser, address, {});
    await page.getByText("This browser is not signed in").waitFor();
    await page.context().close();
  });
});

describe("hostile texts", () => {
  it("stay inert on every page", async () => {
    const page = await open();
    for (const rest of ["graph", "timeline", "list?task=a", "list?task=%3C%2Fscript%3E%3Cscript%3Ewindow.pwned%3D1%3C%2Fscript%3E", "events", "summary", "graph?questions=open", "graph?task=b"]) {
      await page.goto(to(runs.hostile, rest));
      await page.locator("main.run-page").waitFor();
      await page.waitForLoadState("networkidle").catch(() => undefined);
    }
    await page.goto(to(runs.hostile, "list?task=a"));
    await page.getByText("\\u{202e}").first().waitFor();
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.equal(await page.locator('[href^="javascript:" i], [src^="javascript:" i], main img, main script').count(), 0);
    await close(page);
  });
});

describe("accessibility", () => {
  const pages = () => ({
    runs: `${address}/#/runs`,
    graph: to(runs.done, "graph"),
    timeline: to(runs.done, "timeline"),
    list: to(runs.done, "list"),
    events: to(runs.done, "events"),
    summary: to(runs.done, "summary"),
    task: to(runs.done, "list?task=check"),
    model: to(runs.done, "list?task=draft"),
    question: to(runs.hostile, "graph?questions=open"),
    start: `${address}/#/start`,
    plan: `${address}/#/start/brief.yaml`,
    compare: `${address}/#/compare/${runs.done.run}/${runs.retried.run}`,
  });
  for (const colorScheme of ["light", "dark"]) {
    it(`has no violation in ${colorScheme} colors`, async () => {
      const page = await open({ colorScheme });
      const found = [];
      for (const [name, url] of Object.entries(pages())) {
        await page.goto(url);
        await page.locator("main:not(.loading)").waitFor();
        await page.waitForTimeout(300);
        await page.evaluate(() => document.querySelectorAll("details").forEach((item) => { item.open = true; }));
        await page.evaluate(axe);
        const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        for (const violation of result.violations) found.push(`${name}: ${violation.impact} ${violation.id}: ${violation.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
      }
      await page.goto(to(runs.done, "graph"));
      await page.keyboard.press("?");
      await page.getByRole("dialog").waitFor();
      await page.evaluate(axe);
      const result = await page.evaluate(() => window.axe.run(document.querySelector("dialog"), { resultTypes: ["violations"] }));
      for (const violation of result.violations) found.push(`help: ${violation.impact} ${violation.id} ${violation.nodes[0].target}`);
      assert.deepEqual(found, []);
      await close(page);
    });
  }
});
