// Measures the pages of large runs: node tests/measure.mjs. Times are of this machine, so they are printed, not checked.

import { addExamples, MockServer, TOKEN } from "./mock/server.mjs";
import { launch, openPage } from "./e2e/browser.mjs";

const server = new MockServer({ speed: 2 });
const runs = addExamples(server);
const address = await server.listen();
const browser = await launch();

/** Returns the duration of the longest task and of what took longer than 50 ms while something happens. */
async function watch(page, milliseconds, action) {
  await page.evaluate(() => {
    window.tasks = [];
    window.observer = new PerformanceObserver((list) => window.tasks.push(...list.getEntries().map((entry) => entry.duration)));
    window.observer.observe({ type: "longtask" });
  });
  await action?.();
  await page.waitForTimeout(milliseconds);
  return page.evaluate(() => {
    window.observer.disconnect();
    return { longest: Math.round(Math.max(0, ...window.tasks)), count: window.tasks.length };
  });
}

for (const [name, toggle] of [["large", true], ["huge", true], ["wide", false]]) {
  const page = await openPage(browser, address, { token: TOKEN });
  await page.getByRole("heading", { name: "Runs" }).waitFor();
  await page.goto("about:blank");
  const started = performance.now();
  await page.goto(`${address}/#/runs/${runs[name].run}/graph`);
  await page.locator(".node, .far-node").first().waitFor();
  const opened = Math.round(performance.now() - started);
  const results = { opened, nodes: await page.evaluate(() => document.querySelectorAll("*").length) };
  results.graph = await watch(page, 3000);
  results.pan = await watch(page, 500, async () => {
    await page.mouse.move(700, 500);
    await page.mouse.down();
    for (let step = 0; step < 30; step += 1) await page.mouse.move(700 - step * 12, 500 - step * 5);
    await page.mouse.up();
    await page.getByRole("button", { name: "Fit" }).click();
  });
  for (const view of ["timeline", "list"]) {
    await page.goto(`${address}/#/runs/${runs[name].run}/${view}`);
    await page.locator(".row[data-id]").first().waitFor();
    if (toggle && view === "timeline") await page.locator(".toggle:not(.open)").first().click();
    results[view] = await watch(page, 3000, () =>
      page.evaluate(() => {
        const list = document.querySelector(".virtual");
        let top = 0;
        const scroll = () => {
          list.scrollTop = top += 900;
          if (top < 60_000) requestAnimationFrame(scroll);
        };
        scroll();
      }),
    );
    results[`${view}Nodes`] = await page.evaluate(() => document.querySelectorAll("*").length);
  }
  await page.goto(`${address}/#/runs/${runs[name].run}/events`);
  await page.locator(".event-row").first().waitFor();
  results.events = await watch(page, 3000);
  results.heap = await page.evaluate(() => `${Math.round(performance.memory.usedJSHeapSize / 1e6)} MB`);
  console.log(name, JSON.stringify(results));
  for (const problem of page.problems) console.log(problem);
  await page.context().close();
}
await browser.close();
await server.close();
