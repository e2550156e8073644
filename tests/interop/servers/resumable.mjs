// A server over the TypeScript SDK with the event store of the SDK's examples: work that takes a while, and a question.
//   usage: node resumable.mjs NODE_MODULES PORT
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

const [modules, port] = process.argv.slice(2);
const sdk = (path) => import(pathToFileURL(resolve(modules, "@modelcontextprotocol/sdk/dist/esm", path)).href);
const { InMemoryEventStore } = await sdk("examples/shared/inMemoryEventStore.js");
const { Server } = await sdk("server/index.js");
const { StreamableHTTPServerTransport } = await sdk("server/streamableHttp.js");
const { CallToolRequestSchema, ElicitResultSchema, ListToolsRequestSchema } = await sdk("types.js");

const inputSchema = { type: "object" };

// The store orders the events of one millisecond by chance.
const pause = () => sleep(20);

async function call({ params }, extra) {
  await pause();
  if (params.name === "ask") {
    const requestedSchema = { type: "object", properties: { name: { type: "string" } } };
    const question = { method: "elicitation/create", params: { message: "who?", requestedSchema } };
    const answer = await extra.sendRequest(question, ElicitResultSchema);
    return { content: [{ type: "text", text: JSON.stringify(answer) }] };
  }
  const { steps, seconds } = params.arguments;
  for (let step = 1; step <= steps; step += 1) {
    await sleep((1000 * seconds) / steps);
    const progress = { progressToken: params._meta.progressToken, progress: step, total: steps };
    await extra.sendNotification({ method: "notifications/progress", params: progress });
  }
  await pause();
  return { content: [{ type: "text", text: "done" }] };
}

async function begin() {
  const server = new Server({ name: "resumable", version: "1" }, { capabilities: { tools: {} } });
  const tools = ["work", "ask"].map((name) => ({ name, inputSchema }));
  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools }));
  server.setRequestHandler(CallToolRequestSchema, call);
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new InMemoryEventStore(),
    onsessioninitialized: (id) => transports.set(id, transport),
  });
  await server.connect(transport);
  return transport;
}

const transports = new Map();

const http = createServer(async (request, response) => {
  const id = request.headers["mcp-session-id"];
  const transport = id === undefined ? await begin() : transports.get(id);
  if (transport === undefined) {
    response.writeHead(404).end();
    return;
  }
  await transport.handleRequest(request, response);
});
http.listen(Number(port), "127.0.0.1");
