/**
 * `npm start`: serves the restaurant with `wrangler dev`, on the next free port if the given one is taken.
 *
 *     npm start -- --port 8787 --persist-to .data
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs, stripVTControlCharacters } from "node:util";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const HOST = "127.0.0.1";
/** How many ports are tried. */
const MOST_PORTS = 100;
/** The page polls the state. Other log lines should not drown in that. */
const POLLING = /GET \/state\b.* 200\b/;

const option = { type: "string" } as const;
const { values } = parseArgs({ options: { port: option, "persist-to": option } });
const wanted = Number(values.port ?? 8787);
const persistTo = values["persist-to"] ?? ".data";

const port = await freePort(wanted);
// The port may be in use by another restaurant, which uses the folder as well.
const folder = port === wanted ? persistTo : join(persistTo, `port-${port}`);
if (port !== wanted) console.log(`Port ${wanted} is taken. The restaurant is on http://${HOST}:${port}, with its storage in ${folder}.`);

const wrangler = join(ROOT, "node_modules/wrangler/bin/wrangler.js");
const args = ["dev", "--port", String(port), "--ip", HOST, "--persist-to", folder, "--show-interactive-dev-session=false"];
// The default inspector port may be taken by the same one.
const child = spawn(process.execPath, [wrangler, ...args, "--inspector-port", "0"], {
  cwd: ROOT,
  stdio: ["ignore", "pipe", "pipe"],
  env: { ...process.env, ...(process.stdout.isTTY && !process.env.NO_COLOR && { FORCE_COLOR: "1" }) },
});
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => child.kill(name));
// However this process ends, wrangler ends with it.
process.on("exit", () => child.kill("SIGKILL"));
createInterface(child.stdout).on("line", (line) => {
  if (!POLLING.test(stripVTControlCharacters(line))) console.log(line);
});
createInterface(child.stderr).on("line", (line) => console.error(line));
const [code] = (await once(child, "exit")) as [number | null];
process.exitCode = code ?? 0;

/** The first free port, starting with this one. */
async function freePort(from: number): Promise<number> {
  for (let port = from; port < from + MOST_PORTS; port++) {
    const server = createServer().listen(port, HOST);
    try {
      await once(server, "listening");
      return port;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    } finally {
      server.close();
    }
  }
  throw new Error(`None of the ports from ${from} to ${from + MOST_PORTS - 1} is free.`);
}
