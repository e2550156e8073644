// An agent for measurements: `pause` returns after `ms` milliseconds. MCP over standard input and output.

import { createInterface } from "node:readline";

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
const inputSchema = { type: "object", properties: { ms: { type: "integer" } } };

createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  if (method === "initialize") {
    send({ id, result: { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: "pauses", version: "1" } } });
  } else if (method === "tools/list") {
    send({ id, result: { tools: [{ name: "pause", description: "Waits", inputSchema, annotations: { readOnlyHint: true } }] } });
  } else if (method === "tools/call") {
    setTimeout(() => send({ id, result: { content: [{ type: "text", text: "waited" }] } }), params.arguments.ms);
  } else if (method === "ping") send({ id, result: {} });
  else send({ id, error: { code: -32601, message: "unknown method" } });
});
