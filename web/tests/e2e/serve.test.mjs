// The pages of the real `kapell serve`. KAPELL names the program; without it, the tests are skipped.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { launch, openPage } from "./browser.mjs";

const program = process.env.KAPELL && resolve(process.env.KAPELL);
const TOKEN = "token-of-the-page-tests";

const hostileAgent = join(dirname(fileURLToPath(import.meta.url)), "hostile-agent.mjs");
const AGENTS = `[shell]
enabled = true
[agents.evil]
command = ${JSON.stringify(process.execPath)}
args = ${JSON.stringify([hostileAgent])}
`;
const PLAN = `name: brief
description: Reads pages, asks for the region, and checks the result
inputs:
  topic: { type: string, required: true, description: What to read about }
  pages: { type: integer, default: 3, description: How many pages to read }
tasks:
  - { id: find, title: Find pages, shell: "echo found \${{ inputs.topic }}", effect: read_only }
  - id: read
    title: Read each page
    needs: [find]
    foreach: \${{ ["first", "second", "third"] }}
    as: page
    shell: "sleep 0.3; echo \${{ page }} '<script>window.pwned=1</script> <img src=x onerror=window.pwned=1>'"
    effect: read_only
  - id: region
    title: Which region?
    ask:
      message: Which region should the brief cover?
      schema:
        type: object
        properties:
          region: { type: string, title: Region, enum: [Europe, America] }
          depth: { type: integer, title: Depth, default: 2, minimum: 1, maximum: 9 }
        required: [region]
  - { id: check, title: Check the brief, needs: [read, region], shell: "test -e checked", effect: read_only }
  - { id: publish, title: Publish, needs: [check], shell: "echo published", effect: read_only }
outputs: { published: "\${{ tasks.publish.text }}" }
`;

const HOSTILE = "</script><script>window.pwned=1</script>";
const HOSTILE_PLAN = `name: ${JSON.stringify(HOSTILE)}
tasks:
  - { id: text, title: ${JSON.stringify(HOSTILE)}, agent: evil, tool: text }
  - { id: long, agent: evil, tool: long }
  - { id: fail, agent: evil, tool: fail, retry: { max_attempts: 1 } }
  - { id: ask, agent: evil, tool: ask }
outputs: { text: "\${{ tasks.text.text }}" }
`;

let folder;
let browser;
let server;
let port;
let address;
const environment = () => ({ ...process.env, XDG_STATE_HOME: join(folder, "state"), PAGE_TOKEN: TOKEN, KAPELL_JOURNAL: join(folder, "journal.db") });

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const found = probe.address().port;
  probe.close();
  await once(probe, "close");
  return found;
}

async function serve() {
  const child = spawn(program, ["serve", "--addr", `127.0.0.1:${port}`, "--plans", "plans", "--token-env", "PAGE_TOKEN"], { cwd: folder, env: environment(), stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  await once(lines, "line");
  return child;
}

async function stop(child, signal = "SIGKILL") {
  if (!child || child.exitCode !== null) return;
  child.kill(signal);
  await once(child, "exit");
}

/** Runs a command of the program and returns what it prints. */
async function command(...args) {
  const child = spawn(program, args, { cwd: folder, env: environment(), stdio: ["ignore", "pipe", "pipe"] });
  let [printed, errors] = ["", ""];
  child.stdout.on("data", (data) => {
    printed += data;
  });
  child.stderr.on("data", (data) => {
    errors += data;
  });
  const [status] = await once(child, "close");
  assert.equal(status, 0, errors);
  return printed;
}

describe("kapell serve", { skip: !program && "KAPELL names no program" }, () => {
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "kapell-pages-"));
    await mkdir(join(folder, "plans"));
    await writeFile(join(folder, "plans", "brief.yaml"), PLAN);
    await writeFile(join(folder, "hostile.yaml"), HOSTILE_PLAN);
    await writeFile(join(folder, "agents.toml"), AGENTS);
    port = await freePort();
    address = `http://127.0.0.1:${port}`;
    server = await serve();
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await stop(server);
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  async function open() {
    const page = await openPage(browser, address, { token: TOKEN });
    await page.getByRole("heading", { name: "Runs" }).waitFor();
    return page;
  }

  async function start(page) {
    await page.goto(`${address}/#/start/brief.yaml`);
    await page.getByLabel("topic").fill("databases");
    await page.getByRole("button", { name: "Start", exact: true }).click();
    await page.waitForURL(/#\/runs\/./);
    await page.locator(".run-page .node").first().waitFor();
    return decodeURIComponent(/#\/runs\/([^/?]+)/.exec(page.url())[1]);
  }

  async function close(page) {
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    assert.deepEqual(page.problems, []);
    await page.context().close();
  }

  it("starts a plan, watches and answers it, retries what failed, and compares both runs", async () => {
    const page = await open();
    const first = await start(page);
    await page.getByText("A question waits for you.").waitFor();
    await page.keyboard.press("a");
    await page.getByLabel("Europe").check();
    await page.getByRole("complementary").getByRole("button", { name: "Answer", exact: true }).click();
    await page.locator(".question-card.answered").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".run-name .state.s-failed, .run-name .state.s-partial").waitFor();
    await page.keyboard.press("f");
    const panel = page.getByRole("complementary");
    await panel.getByRole("heading", { name: "Check the brief" }).waitFor();
    await panel.getByText("Attempts").first().waitFor();

    await page.goto(`${address}/#/runs/${first}/list?task=read%5B0%5D`);
    await panel.getByText("first <script>window.pwned=1</script>").first().waitFor();
    await page.goto(`${address}/#/runs/${first}/timeline`);
    await page.locator(".time-row.row .segment").first().waitFor();
    await page.goto(`${address}/#/runs/${first}/events`);
    await page.locator(".event-row").first().waitFor();
    assert.equal(await page.getByText(/are missing/).count(), 0);

    await writeFile(join(folder, "checked"), "");
    await writeFile(join(folder, "plans", "checked"), "");
    await page.getByRole("button", { name: "Retry what failed…" }).click();
    await page.getByRole("dialog").getByRole("listitem").filter({ hasText: "publish" }).waitFor();
    await page.getByRole("button", { name: /Run \d tasks? again/ }).click();
    await page.getByText("A new run has started.").waitFor();
    await page.locator(".run-name .state.s-succeeded").waitFor();
    const second = decodeURIComponent(/#\/runs\/([^/?]+)/.exec(page.url())[1]);
    assert.notEqual(second, first);

    await page.goto(`${address}/#/compare/${first}/${second}`);
    await page.getByRole("row", { name: /Check the brief/ }).waitFor();
    await page.getByRole("row", { name: /Publish/ }).waitFor();
    assert.equal(await page.getByRole("row", { name: /Find pages/ }).count(), 0);
    await close(page);
  });

  it("shows an answer of the command line", async () => {
    const page = await open();
    const run = await start(page);
    await page.getByText("A question waits for you.").waitFor();
    await page.getByRole("button", { name: "Answer" }).click();
    // Records what the page shows in turn, without a look at the clock.
    await page.evaluate(() => {
      window.shown = [];
      const note = () => {
        const text = `${document.querySelector(".question-card.answered") ? "answered" : "open"}, ${document.querySelector(".run-name .state")?.className.match(/s-\w+/)?.[0]}`;
        if (window.shown.at(-1) !== text) window.shown.push(text);
      };
      note();
      new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true });
    });
    await command("answer", run, "q1", "--field", "region=America");
    await page.locator(".question-card.answered").waitFor();
    await page.locator(".run-name .state.s-succeeded").waitFor();
    const shown = await page.evaluate(() => window.shown);
    assert.match(shown[0], /^open/);
    // The answer is shown by a patch of its own, before the end of the run, and stays.
    assert.ok(shown.slice(1).every((text) => text.startsWith("answered")), shown.join("; "));
    assert.equal(shown.at(-1), "answered, s-succeeded");
    await close(page);
  });

  it("shows a cancellation of the command line", async () => {
    const page = await open();
    const run = await start(page);
    await page.getByText("A question waits for you.").waitFor();
    await command("cancel", run);
    await page.locator(".run-name .state.s-cancelled").waitFor();
    await page.getByText("A question waits for you.").waitFor({ state: "detached" });
    await close(page);
  });

  it("repeats a run with other inputs, after it has shown what runs again", async () => {
    const page = await open();
    const run = await start(page);
    await page.getByText("A question waits for you.").waitFor();
    await command("answer", run, "q1", "--field", "region=Europe");
    await page.locator(".run-name .state.s-succeeded").waitFor();
    await page.goto(`${address}/#/runs/${run}/list?task=publish`);
    const panel = page.getByRole("complementary");
    await panel.getByRole("button", { name: /Retry from here/ }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("1 task runs again").waitFor();
    await dialog.getByText("Change the inputs").click();
    await dialog.getByLabel("topic").fill("graphs");
    await dialog.getByRole("button", { name: "Show what would run again" }).click();
    await dialog.getByText(/^[2-9] tasks run again/).waitFor();
    await dialog.getByRole("button", { name: /^Run [2-9] tasks again/ }).click();
    await page.getByText("A new run has started.").waitFor();
    await page.locator(".run-name .state.s-succeeded").waitFor();
    await page.keyboard.press("s");
    await page.getByText("graphs").first().waitFor();
    await close(page);
  });

  it("searches outputs and events", async () => {
    const page = await open();
    const run = await start(page);
    await page.goto(`${address}/#/runs/${run}/list?q=${encodeURIComponent("output:second")}`);
    await page.getByRole("row", { name: /\[1\]/ }).waitFor();
    // The row, and that of its group.
    assert.equal(await page.locator(".grid-row.row").count(), 2);
    await page.goto(`${address}/#/runs/${run}/events?q=run_started`);
    await page.waitForFunction(() => document.querySelectorAll(".event-row").length === 1);
    await page.locator(".event-type", { hasText: "run_started" }).waitFor();
    await close(page);
  });

  it("keeps the texts of a hostile agent inert, in the page and in a report", async () => {
    const run = (await command("run", "hostile.yaml", "--detach")).trim();
    const page = await open();
    for (const view of ["graph", "timeline", "list", "events", "summary", "graph?questions=open"]) {
      await page.goto(`${address}/#/runs/${run}/${view}`);
      await page.locator("main.run-page").waitFor();
    }
    await page.locator(".question-card.open").waitFor();
    await page.getByRole("complementary").getByRole("button", { name: "Decline" }).click();
    await page.locator(".run-name .state:is(.s-failed, .s-partial, .s-succeeded)").waitFor();
    const seen = async (shown) => {
      assert.equal(await shown.evaluate(() => window.pwned), undefined);
      assert.equal(await shown.locator('[href^="javascript:" i], [src^="javascript:" i], main script, main img[src^="http"], [onerror], [onload]').count(), 0);
    };
    for (const task of ["text", "long", "fail", "ask"]) {
      await page.goto(`${address}/#/runs/${run}/list?task=${task}`);
      await page.getByRole("complementary").getByText("Attempts").first().waitFor();
      await page.evaluate(() => document.querySelectorAll("details").forEach((item) => { item.open = true; }));
      await seen(page);
    }
    await close(page);

    await command("report", run, "-o", "report.html");
    const context = await browser.newContext();
    const file = await context.newPage();
    const [requests, problems] = [[], []];
    file.on("request", (request) => requests.push(request.url().slice(0, 60)));
    file.on("pageerror", (error) => problems.push(String(error)));
    await file.exposeFunction("reportViolation", (text) => problems.push(text));
    await file.addInitScript(() => addEventListener("securitypolicyviolation", (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`)));
    const location = pathToFileURL(join(folder, "report.html")).href;
    await file.goto(location);
    await file.locator(".node").first().waitFor();
    for (const task of ["text", "fail"]) {
      await file.goto(`${location}#/runs/${run}/list?task=${task}`);
      await file.getByRole("complementary").getByText("Attempts").first().waitFor();
      await file.evaluate(() => document.querySelectorAll("details").forEach((item) => { item.open = true; }));
      await seen(file);
    }
    assert.deepEqual([...new Set(requests)], [location.slice(0, 60)]);
    assert.deepEqual(problems, []);
    await context.close();

    // Without scripts, there is a table.
    const plain = await browser.newContext({ javaScriptEnabled: false });
    const table = await plain.newPage();
    await table.goto(location);
    await table.getByRole("row", { name: /fail/ }).waitFor();
    assert.ok(await table.getByRole("heading").evaluate((heading) => heading.getBoundingClientRect().top < innerHeight));
    assert.equal(await table.locator("main script, main img, main a[href^='javascript:' i]").count(), 0);
    await plain.close();
  });

  it("resumes a run whose process was killed, without a gap in the events", async () => {
    const page = await open();
    const run = await start(page);
    await page.getByText("A question waits for you.").waitFor();
    const driver = await page.evaluate(async (id) => (await (await fetch(`/api/runs/${id}`)).json()).run.process, run);
    process.kill(Number(driver), "SIGKILL");
    await page.locator(".run-name .state.s-interrupted").waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.locator(".run-name .state.s-running").waitFor();
    await command("answer", run, "q1", "--field", "region=Europe");
    await page.locator(".run-name .state.s-succeeded").waitFor();
    await page.keyboard.press("e");
    await page.getByLabel("Search events").fill("run_ended");
    await page.locator(".event-type", { hasText: "run_ended" }).waitFor();
    assert.equal(await page.getByText(/are missing/).count(), 0);
    await close(page);
  });

  it("reconnects after the server was killed, without a gap in the events", async () => {
    const page = await open();
    const run = await start(page);
    await page.getByText("A question waits for you.").waitFor();
    await page.goto(`${address}/#/runs/${run}/events`);
    await page.locator(".event-row").first().waitFor();
    await page.locator(".connection.live").waitFor();
    await stop(server);
    await page.getByText("The connection is lost.").waitFor();
    await command("answer", run, "q1", "--field", "region=Europe");
    server = await serve();
    await page.getByText("The connection is lost.").waitFor({ state: "detached" });
    await page.locator(".run-name .state.s-succeeded").waitFor();
    await page.locator(".event-type", { hasText: "run_ended" }).waitFor();
    assert.equal(await page.getByText(/are missing/).count(), 0);
    await close(page);
  });
});
