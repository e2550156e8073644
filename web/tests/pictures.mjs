// Takes pictures of all pages in both color schemes: node tests/pictures.mjs FOLDER [NAME…]

import { mkdir } from "node:fs/promises";
import { launch, openPage } from "./e2e/browser.mjs";
import { addExamples, MockServer, TOKEN } from "./mock/server.mjs";

const [folder = "pictures", ...wanted] = process.argv.slice(2);
await mkdir(folder, { recursive: true });
const server = new MockServer();
const runs = addExamples(server);
for (const run of server.runs.values()) run.frozen = true;
const all = new Map(server.runs);
const address = await server.listen();
const to = (run, rest) => `#/runs/${run.run}/${rest}`;
const pages = {
  runs: "#/runs",
  graph: to(runs.live, "graph"),
  "graph-done": to(runs.done, "graph"),
  "graph-2000": to(runs.large, "graph"),
  "graph-wide": to(runs.wide, "graph"),
  timeline: to(runs.done, "timeline"),
  "timeline-2000": to(runs.large, "timeline"),
  list: to(runs.done, "list"),
  "list-2000": to(runs.large, "list"),
  events: to(runs.done, "events"),
  summary: to(runs.done, "summary"),
  task: to(runs.done, "graph?task=read%5B1%5D"),
  "task-model": to(runs.done, "graph?task=draft"),
  "task-group": to(runs.large, "graph?task=read"),
  question: to(runs.live, "graph?questions=open"),
  start: "#/start",
  plan: "#/start/brief.yaml",
  compare: `#/compare/${runs.done.run}/${runs.retried.run}`,
  hostile: to(runs.hostile, "list?task=a"),
  missing: "#/runs/none",
};
const browser = await launch();
for (const colorScheme of (process.env.SCHEMES ?? "light,dark").split(",")) {
  const page = await openPage(browser, address, { colorScheme, token: TOKEN, viewport: { width: Number(process.env.WIDTH ?? 1280), height: 800 } });
  await page.getByRole("heading", { name: "Runs" }).waitFor();
  for (const [name, hash] of Object.entries(pages)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    // The list has runs as people have them.
    server.runs = name === "runs" ? new Map([...all].filter(([, run]) => ![runs.hostile, runs.wide, runs.huge].includes(run))) : all;
    await page.goto(`${address}/${hash}`);
    await page.reload();
    await page.locator("main:not(.loading)").waitFor();
    // A font that the machine has, so that the pictures look as they do elsewhere.
    if (process.env.FONT) await page.evaluate((name) => document.documentElement.style.setProperty("--font", name), process.env.FONT);
    await page.waitForTimeout(500);
    await page.screenshot({ path: `${folder}/${name}-${colorScheme}.png` });
  }
  for (const problem of page.problems) console.log(problem);
}
await browser.close();
await server.close();
