// Parses the flowchart on standard input with Mermaid, and prints its nodes and the number of its edges as JSON.
import { JSDOM } from "jsdom";

const dom = new JSDOM("<body></body>");
globalThis.window = dom.window;
globalThis.document = dom.window.document;
const { default: mermaid } = await import("mermaid");

let text = "";
for await (const chunk of process.stdin) text += chunk;
mermaid.initialize({ startOnLoad: false });
const { diagramType } = await mermaid.parse(text);
const { db } = await mermaid.mermaidAPI.getDiagramFromText(text);
// Mermaid keeps character codes in a form of its own until it draws them.
const decoded = (label) => label.replace(/ﬂ°°(\d+)¶ß/g, (_, code) => String.fromCodePoint(Number(code)));
const isGroup = (node) => db.getSubGraphs().some((group) => group.id === node.id);
const nodes = [...db.getVertices().values()].filter((node) => !isGroup(node)).map((node) => decoded(node.text).split("<br>"));
const groups = db.getSubGraphs().map((group) => decoded(group.title).split("<br>"));
console.log(JSON.stringify({ diagramType, nodes: [...nodes, ...groups], edges: db.getEdges().length }));
