// Plans of the mock server: each returns tasks in display order, a group before its members.

const task = (id, needs, more = {}) => ({ id, name: more.name ?? id, kind: "call", needs, ms: 2000, attempts: ["ok"], ...more });

/** Twelve tasks: a group, a retry with another agent, a question, an approval, a model, and a failure. */
export function brief() {
  const pages = ["Pricing page", "Release notes", "Customer stories"];
  return [
    task("find", [], { name: "Find sources", agent: "research", tool: "search", ms: 2400, with: { query: "vector databases", limit: 5 } }),
    task("read", ["find"], { name: "Read each source", kind: "foreach" }),
    ...pages.map((name, index) =>
      task(`read[${index}]`, ["find"], {
        parent: "read",
        name,
        agent: index === 1 ? "archive" : "research",
        tool: "fetch",
        ms: 3000 + index * 1700,
        attempts: index === 1 ? ["fail", "ok"] : ["ok"],
        with: { url: `https://example.com/${index}`, timeout: 30 },
      }),
    ),
    task("prices", ["find"], { name: "Collect prices", agent: "tables", tool: "query", ms: 6500, with: { table: "prices", currency: "EUR" } }),
    task("rank", ["read"], { name: "Rank the claims", agent: "tables", tool: "sort", ms: 1500 }),
    task("scope", ["find"], { name: "Which region?", kind: "ask", attempts: ["ask"], ms: 800 }),
    task("draft", ["rank", "prices", "scope"], { name: "Draft the brief", kind: "prompt", model: true, ms: 7000 }),
    task("check", ["draft"], { name: "Check the numbers", agent: "tables", tool: "verify", ms: 2500, attempts: ["fail", "fail", "error"] }),
    task("publish", ["draft"], { name: "Publish", agent: "files", tool: "write_file", attempts: ["approve"], ms: 1200, effect: "at_most_once", with: { path: "brief.md" } }),
    task("announce", ["publish", "check"], { name: "Announce", agent: "mail", tool: "send", ms: 900, effect: "at_most_once" }),
  ];
}

/** A search, a large group of items, and a hundred other tasks in chains. */
export function survey(size) {
  const tasks = [task("find", [], { name: "Find pages", agent: "research", tool: "search", ms: 500 }), task("read", ["find"], { name: "Read each page", kind: "foreach" })];
  const items = size - 100;
  for (let index = 0; index < items; index += 1) {
    tasks.push(
      task(`read[${index}]`, ["find"], {
        parent: "read",
        name: `Page ${index + 1}`,
        agent: index % 7 === 0 ? "archive" : "research",
        tool: "fetch",
        ms: 400 + ((index * 7919) % 900),
        attempts: index % 97 === 41 ? ["fail", "error"] : index % 53 === 7 ? ["fail", "ok"] : ["ok"],
      }),
    );
  }
  for (let chain = 0; chain < 14; chain += 1) {
    for (let step = 0; step < 7; step += 1) {
      const needs = step === 0 ? [chain % 3 === 0 ? "find" : "read"] : [`c${chain}.${step - 1}`, ...(step === 3 && chain > 0 ? [`c${chain - 1}.2`] : [])];
      tasks.push(task(`c${chain}.${step}`, needs, { name: `Chain ${chain + 1}, step ${step + 1}`, agent: "tables", tool: "transform", ms: 900 + ((chain * 31 + step * 17) % 11) * 150 }));
    }
  }
  return tasks;
}

/** Many tasks without groups, as the graph with the largest number of nodes. */
export function layers(count, width) {
  const tasks = [];
  for (let layer = 0; layer < count; layer += 1) {
    for (let at = 0; at < width; at += 1) {
      const needs = layer === 0 ? [] : [...new Set([`t${layer - 1}.${at}`, `t${layer - 1}.${(at * 7 + 3) % width}`])];
      tasks.push(task(`t${layer}.${at}`, needs, { name: `Layer ${layer + 1} task ${at + 1}`, agent: "research", tool: "step", ms: 500 }));
    }
  }
  return tasks;
}

const EVIL = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>';

/** Texts of hostile agents in every place that shows one. */
export function hostile() {
  return [
    task("a", [], { name: `${EVIL} \u202egnp.exe`, agent: `${EVIL}`, tool: '"><svg onload=window.pwned=1>', ms: 300, with: { [EVIL]: EVIL, link: "javascript:window.pwned=1" }, evil: EVIL }),
    task("</script><script>window.pwned=1</script>", ["a"], { name: "\u001b[31mred\u0007 ${{ inputs.x }} {{constructor}}", agent: "x", tool: "y", ms: 300, attempts: ["fail", "error"], evil: EVIL }),
    task("b", ["a"], { name: "Approve me", kind: "call", attempts: ["approve"], agent: "files", tool: EVIL, evil: EVIL, with: { text: EVIL } }),
  ];
}
