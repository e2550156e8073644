// Starts the mock server and prints its address. FREEZE=1 stops the time of its runs.

import { addExamples, MockServer, TOKEN } from "./server.mjs";

const server = new MockServer({ speed: Number(process.env.SPEED ?? 1) });
const runs = addExamples(server);
if (process.env.FREEZE) for (const run of server.runs.values()) run.frozen = true;
const address = await server.listen(Number(process.env.PORT ?? 4173));
console.log(`${address}/#t=${TOKEN}`);
for (const [name, run] of Object.entries(runs)) console.log(`${name.padEnd(10)} ${address}/#/runs/${run.run}`);
