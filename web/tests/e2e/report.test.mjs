// The page as a report: one file with the data in it, opened from disk.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, it } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { addExamples, MockServer } from "../mock/server.mjs";
import { launch } from "./browser.mjs";

const dist = join(dirname(fileURLToPath(import.meta.url)), "../../dist");
let folder;
let browser;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "kapell-report-"));
  browser = await launch();
});

after(async () => {
  await browser?.close();
  if (folder) await rm(folder, { recursive: true });
});

/** Writes the report of a run as the program does. */
async function writeReport(run) {
  const [script, style] = await Promise.all(["app.js", "app.css"].map((name) => readFile(join(dist, name), "utf8")));
  const path = `/api/runs/${encodeURIComponent(run.run)}`;
  const responses = { [path]: run.page(), [`${path}/events`]: { events: run.events } };
  for (const id of run.rows.keys()) responses[`${path}/tasks/${encodeURIComponent(id)}`] = run.detail(id);
  const data = JSON.stringify({ run: run.run, responses }).replaceAll("<", "\\u003c");
  const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
  const policy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; img-src data:`;
  const file = join(folder, `${run.plan.replace(/\W/g, "")}.html`);
  await writeFile(
    file,
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${policy}"><title>kapell</title><style>${style}</style></head>` +
      `<body><div id="app"></div><script type="application/json" id="kapell-report">${data}</script><script type="module">${script}</script></body></html>`,
  );
  return pathToFileURL(file).href;
}

for (const name of ["done", "hostile"]) {
  it(`shows the run "${name}" from disk without a request`, async () => {
    const server = new MockServer();
    const runs = addExamples(server);
    await server.close().catch(() => undefined);
    const address = await writeReport(runs[name]);
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    const page = await context.newPage();
    const requests = [];
    const problems = [];
    page.on("request", (request) => requests.push(request.url().slice(0, 80)));
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.exposeFunction("reportViolation", (text) => problems.push(text));
    await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI}`)));
    await page.goto(address);
    await page.getByRole("heading", { name: runs[name].plan }).waitFor();
    await page.locator(".node").first().waitFor();
    for (const key of ["t", "l", "e", "s", "g"]) {
      await page.keyboard.press(key);
      await page.locator({ t: ".time-row.row", l: ".grid-row.row", e: ".event-row", s: ".summary", g: ".node" }[key]).first().waitFor();
    }
    await page.keyboard.press("l");
    await page.keyboard.press("Home");
    await page.keyboard.press("Enter");
    await page.getByRole("complementary").getByText("Arguments").first().waitFor();
    assert.equal(await page.getByRole("button", { name: /Retry|Cancel|Compare/ }).count(), 0);
    assert.deepEqual(requests, [address]);
    assert.deepEqual(problems, []);
    assert.equal(await page.evaluate(() => window.pwned), undefined);
    await context.close();
  });
}
