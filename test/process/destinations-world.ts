/** The worker of `worker/destinations.ts`, started on a fresh folder, and a server that misbehaves as it is told. */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import type { OutboxMessage } from "../../src/api/message.ts";
import type { Recorded } from "../support/destinations/recorder.ts";
import type { Run } from "../support/destinations/run.ts";
import { bundled, folder, launch } from "./harness.ts";

/** A secret with a part that no other text has. */
export const SECRET = `whsec_${Buffer.from("a secret of thirty-two bytes ....").toString("base64")}`;

/** A request as the server got it. */
export interface Got {
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly at: number;
  /** How many requests were without an answer when it came, itself included. */
  readonly underWay: number;
}

export interface World {
  readonly base: string;
  /** Every request, in the order in which they came in. */
  readonly got: Got[];
  run(run: Run): Promise<Recorded & { ordering: "strict" | "batch" }>;
  call<R>(binding: string, name: string, method: string, ...args: unknown[]): Promise<R>;
  look<R>(what: "events" | "consumed" | "taken"): Promise<R>;
  /** All that workerd wrote. */
  printed(): string;
  stop(): Promise<void>;
}

const HUGE = 64 * 1024 * 1024;

/**
 * A server of which the first segment of the path says what it does: a status, `slow`, `close`, `hang`, `huge`,
 * `redirect`, `flip` (503 at first, then 200), `gone` (410 at first, then 200), `poison` (400 if the body has the word), `small` (413 over 2,000 bytes).
 * In the query, `after` is sent as `Retry-After`.
 */
async function server(got: Got[]): Promise<{ base: string; stop: () => Promise<void> }> {
  const flipped = new Set<string>();
  let underWay = 0;
  const listening = createServer(async (request, response) => {
    const path = request.url ?? "";
    underWay++;
    response.on("close", () => underWay--);
    let body = "";
    for await (const chunk of request) body += chunk;
    got.push({ path, headers: flat(request.headers), body, at: Date.now(), underWay });
    const { pathname, searchParams } = new URL(path, "http://server");
    const [order = ""] = pathname.slice(1).split("/");
    const after = searchParams.get("after");
    const answer = (status: number) => {
      if (after !== null) response.setHeader("retry-after", after);
      response.writeHead(status).end("secret of the server");
    };
    if (order === "close") request.socket.destroy();
    else if (order === "hang") return;
    else if (order === "redirect") response.writeHead(302, { location: "/200/elsewhere" }).end();
    else if (order === "slow") setTimeout(() => answer(200), 150);
    else if (order === "huge") {
      response.writeHead(200, { "content-length": HUGE });
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536))) {}
      };
      response.on("drain", more);
      more();
    } else if (order === "flip" || order === "gone") {
      answer(flipped.has(pathname) ? 200 : order === "gone" ? 410 : 503);
      flipped.add(pathname);
    } else if (order === "poison") answer(body.includes("poison") ? 400 : 200);
    else if (order === "small") answer(body.length > 2000 ? 413 : 200);
    else answer(Number(order) || 200);
  });
  await new Promise<void>((listen) => listening.listen(0, "127.0.0.1", listen));
  return {
    base: `http://127.0.0.1:${(listening.address() as AddressInfo).port}`,
    stop: () =>
      new Promise((closed) => {
        listening.close(() => closed());
        listening.closeAllConnections();
      }),
  };
}

function flat(headers: IncomingHttpHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

export async function start(): Promise<World> {
  const got: Got[] = [];
  const { base, stop } = await server(got);
  let printed = "";
  const read = (stream: NodeJS.ReadableStream) => stream.on("data", (data) => (printed += data));
  const stores = Object.fromEntries(
    ["Sender", "Method", "Hook", "Fixed"].flatMap((name) => [
      [`${name.toUpperCase()}_SQLITE`, { className: `${name}Sqlite`, useSQLite: true }],
      [`${name.toUpperCase()}_KV`, { className: `${name}Kv`, useSQLite: false }],
    ]),
  );
  const { miniflare, url } = await launch({
    name: "destinations",
    modules: true,
    script: await bundled("destinations.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: folder(),
    durableObjects: { ...stores, INBOX: { className: "Inbox", useSQLite: true }, REAL: { className: "RealInbox", useSQLite: true } },
    queueProducers: { QUEUE: "queue" },
    queueConsumers: { queue: { maxBatchSize: 100, maxBatchTimeout: 0.05 } },
    bindings: { BASE: base, SECRET },
    handleRuntimeStdio: (stdout, stderr) => {
      read(stdout);
      read(stderr);
    },
  });
  const ask = async <R>(path: string, body?: unknown): Promise<R> => {
    const response = await fetch(new URL(path, url), body === undefined ? {} : { method: "POST", body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return JSON.parse(text) as R;
  };
  return {
    base,
    got,
    run: (run) => ask("run", run),
    call: (binding, name, method, ...args) => ask(`${binding}/${name}/${method}`, args),
    look: (what) => ask(what),
    printed: () => printed,
    stop: async () => {
      await miniflare.dispose();
      await stop();
    },
  };
}

/** Runs a webhook destination on messages. */
export function post(
  world: World,
  url: string,
  messages: OutboxMessage[],
  options: Partial<NonNullable<Run["webhook"]>["options"]> = {},
  rest: Partial<Run> & { own?: boolean } = {},
): Promise<Recorded & { ordering: "strict" | "batch" }> {
  const { own = false, ...run } = rest;
  return world.run({
    messages,
    webhook: { url: url.startsWith("http") ? url : `${world.base}${url}`, options: { secret: SECRET, ...options }, own },
    ...run,
  });
}
