// Takes the pictures of the book in both color schemes: node tests/pictures.mjs
// Others, or to another folder: node tests/pictures.mjs FOLDER NAME…

import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, openPage } from "./e2e/browser.mjs";
import { smallPng } from "./small-png.mjs";
import { addExamples, MockServer, TOKEN } from "./mock/server.mjs";

const BOOK = ["runs", "graph", "graph-2000", "timeline", "timeline-2000", "list", "list-2000", "task", "question", "plan", "compare"];
const [folder = join(dirname(fileURLToPath(import.meta.url)), "../../docs/images/serve"), ...names] = process.argv.slice(2);
const wanted = names.length > 0 ? names : BOOK;
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
const converter = await browser.newPage();

/** Returns a picture with a palette, which is a third as large. */
async function small(png) {
  const [width, height, pixels] = await converter.evaluate(async (base64) => {
    const image = new Image();
    image.src = `data:image/png;base64,${base64}`;
    await image.decode();
    const context = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height }).getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    let text = "";
    for (let at = 0; at < data.length; at += 30_000) text += String.fromCharCode(...data.subarray(at, at + 30_000));
    return [image.width, image.height, btoa(text)];
  }, png.toString("base64"));
  return smallPng(width, height, Buffer.from(pixels, "base64"));
}

for (const colorScheme of (process.env.SCHEMES ?? "light,dark").split(",")) {
  const page = await openPage(browser, address, { colorScheme, token: TOKEN, viewport: { width: Number(process.env.WIDTH ?? 1280), height: 800 } });
  await page.getByRole("heading", { name: "Runs" }).waitFor();
  for (const [name, hash] of Object.entries(pages)) {
    if (!wanted.includes(name) && !wanted.includes("all")) continue;
    // The list has runs as people have them.
    server.runs = name === "runs" ? new Map([...all].filter(([, run]) => ![runs.hostile, runs.wide, runs.huge].includes(run))) : all;
    await page.goto(`${address}/${hash}`);
    await page.reload();
    await page.locator("main:not(.loading)").waitFor();
    // A font that the machine has, so that the pictures look as they do elsewhere.
    if (process.env.FONT) await page.evaluate((name) => document.documentElement.style.setProperty("--font", name), process.env.FONT);
    await page.waitForTimeout(500);
    await writeFile(join(folder, `${name}-${colorScheme}.png`), await small(await page.screenshot()));
  }
  for (const problem of page.problems) console.log(problem);
}
await browser.close();
await server.close();
