// A server on version 2 of the TypeScript SDK, with a tool that computes and one that asks a question in a round of
// input.
//
// usage: node typescript2.mjs MODULES stdio|PORT

import { createServer } from "node:http";
import { createRequire } from "node:module";

const [modules, transport] = process.argv.slice(2);
const require = createRequire(`${modules}/index.js`);
const { toNodeHandler } = require("@modelcontextprotocol/node");
const { McpServer, acceptedContent, createMcpHandler, inputRequired } = require("@modelcontextprotocol/server");
const { serveStdio } = require("@modelcontextprotocol/server/stdio");
const { z } = require("zod/v4");

const CONFIRM = { type: "object", properties: { confirm: { type: "boolean" } }, required: ["confirm"] };

function buildServer() {
  const server = new McpServer({ name: "typescript2", version: "1.0.0" }, { capabilities: { tools: {} } });
  server.registerTool(
    "add",
    { description: "Adds two numbers.", inputSchema: z.object({ a: z.number(), b: z.number() }) },
    async ({ a, b }) => ({ content: [{ type: "text", text: String(a + b) }] }),
  );
  server.registerTool(
    "confirm",
    { description: "Asks for a confirmation.", inputSchema: z.object({}) },
    async (_, context) => {
      const answer = acceptedContent(context.mcpReq.inputResponses, "confirm");
      if (!answer) {
        const question = inputRequired.elicit({ message: "Continue?", requestedSchema: CONFIRM });
        return inputRequired({ inputRequests: { confirm: question } });
      }
      return { content: [{ type: "text", text: answer.confirm ? "confirmed" : "declined" }] };
    },
  );
  return server;
}

if (transport === "stdio") {
  serveStdio(buildServer);
} else {
  createServer(toNodeHandler(createMcpHandler(buildServer))).listen(Number(transport), "127.0.0.1");
}
