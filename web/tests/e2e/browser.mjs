// What the tests in the browser share.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

export const launch = () =>
  chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
  });

/** Opens a page that collects errors of scripts and violations of the policy in `page.problems`. */
export async function openPage(browser, address, { colorScheme = "light", viewport = { width: 1440, height: 900 }, token } = {}) {
  const context = await browser.newContext({ colorScheme, viewport, reducedMotion: "reduce", deviceScaleFactor: Number(process.env.SCALE ?? 1) });
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(`error: ${error.stack ?? error}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/Failed to load resource|net::ERR/.test(message.text())) page.problems.push(`console: ${message.text()}`);
  });
  await page.exposeFunction("reportViolation", (text) => page.problems.push(`policy: ${text}`));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
  });
  await page.goto(token ? `${address}/#t=${token}` : address);
  return page;
}
