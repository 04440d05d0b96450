#!/usr/bin/env node
/** The command line: `sweep` is its only command. */

import { parseArgs } from "node:util";
import { sweep, Usage } from "./sweep.js";

const HELP = `Usage: do-transactional-outbox sweep <url> --namespace <name> (--ids <file> | --registry) [options]

Wakes objects one after the other, so that each does what is due and sets its alarm again: after a spending limit has held alarms back, or
to let a new version of the code touch every object. <url> is where the worker has mounted sweepRoute(): https://example.com/outbox-sweep

  --namespace <name>   the namespace, by its name in sweepRoute({ namespaces })
  --ids <file>         objects, one a line: ids of 64 hexadecimal digits; anything else is a name. Empty lines and #comments are skipped
  --names              every line is a name, whatever it looks like
  --registry           the objects that the fleet's registry has in trouble
  --rate <n>           at most so many objects a second, from 0.1 to 1000 (default 10)
  --state <file>       where progress is kept; the same command goes on where it was (default .outbox-sweep-<namespace>.json)
  --header <h: v>      a header of each request; may be repeated. OUTBOX_SWEEP_TOKEN in the environment is sent as a bearer token
  --retries <n>        how often a request is repeated when it fails as a whole (default 5)
  --dry-run            says what it would do, and asks the route whether it may; wakes nothing
  --help               this text

Exit codes: 0 all objects were woken; 1 some were not, or it gave up: run it again; 2 the command is wrong, or the route refuses it;
130 it was interrupted: run it again.`;

const OPTIONS = {
  namespace: { type: "string" },
  ids: { type: "string" },
  names: { type: "boolean", default: false },
  registry: { type: "boolean", default: false },
  rate: { type: "string", default: "10" },
  state: { type: "string" },
  header: { type: "string", multiple: true, default: [] },
  retries: { type: "string", default: "5" },
  "dry-run": { type: "boolean", default: false },
  help: { type: "boolean", default: false },
};

async function main() {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  const [command, url, ...rest] = positionals;
  if (values.help || command === undefined) {
    console.log(HELP);
    return values.help ? 0 : 2;
  }
  if (command !== "sweep") throw new Usage(`There is no command ${command}.`);
  if (url === undefined || rest.length > 0) throw new Usage("Expected one URL.");
  return sweep(url, values);
}

process.exitCode = await main().catch((error) => {
  const isUsage = error instanceof Usage || String(error?.code).startsWith("ERR_PARSE_ARGS");
  console.error(isUsage ? `${error.message} See --help.` : (error?.message ?? error));
  return isUsage ? 2 : 1;
});
